"""fairseq-train with the plug-in: data, teachers, checkpoints, stores."""

import os
import shutil
from pathlib import Path

import torch
from refusals import Case, cut, files, flip, link, model_options, spoiled, teacher
from world import CAUSAL, STUDENT, TRAINING, RunsShell

PLAIN = f"fairseq-train {{data}} --user-dir {{package}} --task ki_mlm {STUDENT} {TRAINING}"
TAUGHT = f"{PLAIN} --ki-teacher {{teacher}} --ki-steps 2"
OTHER = f"{PLAIN} --ki-teacher t/c.pt --ki-steps 2"
AGAIN = TAUGHT.replace("--max-update 1", "--max-update 3")  # than the world's student has seen
LM = f"fairseq-train {{data}} --user-dir {{package}} --task ki_lm {CAUSAL} {TRAINING}"
STORED = f"{PLAIN} --ki-store s --ki-steps 2"
ELSEWHERE = TAUGHT.replace("{data}", "d")

LAUNCHED = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "29500", "WORLD_SIZE": "2", "RANK": "0"}


def shard(store: Path) -> Path:
    return next(store.glob("*.rows"))


def no_dictionary(world, folder):
    def elsewhere(state):
        state["cfg"]["task"]["data"] = "/nowhere"

    world.altered("teacher", folder / "t" / "c.pt", elsewhere)
    os.remove(folder / "t" / "dict.txt")


def other_dictionary(world, folder):
    world.altered("teacher", folder / "t" / "c.pt", lambda state: None)
    (folder / "t" / "dict.txt").write_text("a 1\nb 1\n")


def not_finite(state):
    name = next(key for key in state["model"] if key.endswith("embed_tokens.weight"))
    state["model"][name][0, 0] = torch.inf


def other_text(world, folder):
    data = world.copy("data", folder / "d")
    world.copy("store", folder / "s")
    for kind in ("bin", "idx"):
        shutil.copy(data / f"valid.{kind}", data / f"train.{kind}")


def other_dictionary_in_save_dir(world, folder):
    (folder / "save").mkdir()
    (folder / "save" / "dict.txt").write_text("a 1\n")


def link_to_nowhere(world, folder):
    (folder / "save").mkdir()
    (folder / "save" / "checkpoint_last.pt").symlink_to("/nowhere/checkpoint_last.pt")


def overwrite(path: Path, at: int, content: bytes) -> None:
    whole = bytearray(path.read_bytes())
    whole[at : at + len(content)] = content
    path.write_bytes(whole)


def without_sentences(data: Path) -> None:
    (data / "train.idx").write_bytes((data / "train.idx").read_bytes()[:18] + bytes(8))
    (data / "train.bin").write_bytes(b"")


def last(alter):
    """The newest checkpoint of a run, altered."""
    return lambda world, folder: world.altered(
        "student", folder / "save" / "checkpoint_last.pt", alter
    )


def extra(**values):
    return lambda state: state["extra_state"].update(values)


def task_state(**values):
    return lambda state: state["extra_state"]["KIMaskedLMTask"].update(values)


# all that is looked at: tests/compat/test_checkpoint_contents.py, tests/tasks/test_resumed.py
OUT_OF_PLACE = (
    lambda state: state.update(optimizer_history=5),
    lambda state: state.update(cfg=5),
    extra(train_iterator="x"),
)
MISSING = (
    lambda state: state.pop("optimizer_history") and None,
    lambda state: state.pop("extra_state") and None,
    extra(train_iterator=None),
    extra(train_iterator={"version": 2}),
    extra(metrics={"train": 5}),
    extra(metrics={"train": [(0, "loss", "Nonsense", {})]}),
    extra(metrics={"train": [(0, "loss", "AverageMeter", {})]}),
)
TASK_STATES = (
    lambda state: state["extra_state"].update(KIMaskedLMTask=[1]),
    task_state(inheritance={"let_go_at": "x", "streak": 0}),
)


def another_teacher(world, folder):
    def alter(state):
        task = state["extra_state"]["KIMaskedLMTask"]
        task["inheritance"] = {"let_go_at": None, "streak": 0}
        task["teachers"] = [{"domain": "", "path": "/gone.pt", "sha256": "0" * 64}]

    world.altered("student", folder / "save" / "checkpoint_last.pt", alter)


def alter_text(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


CASES = [
    Case("user-dir-renamed", TAUGHT.replace("{package}", "plugin"),
         lambda world, folder: (folder / "plugin").symlink_to(world.names["package"])),
    Case("data-missing", TAUGHT.replace("{data}", "nowhere")),
    Case("data-missing", ELSEWHERE, lambda world, folder: (folder / "d").mkdir()),
    Case("data-dictionary", ELSEWHERE, spoiled("data", "d", lambda d: (d / "dict.txt").write_bytes(
        b"\xff\xfe"))),
    Case("data-dictionary", ELSEWHERE,
         spoiled("data", "d", lambda d: (d / "dict.txt").write_text("a b c\n"))),
    Case("data-split-missing", ELSEWHERE,
         spoiled("data", "d", lambda d: os.remove(d / "train.idx"))),
    Case("data-index-damaged", ELSEWHERE,
         spoiled("data", "d", lambda d: cut(d / "train.idx", 999))),
    Case("data-tokens-damaged", ELSEWHERE,
         spoiled("data", "d", lambda d: cut(d / "train.bin", 999))),
    Case("data-index-version", ELSEWHERE,
         spoiled("data", "d", lambda d: overwrite(d / "train.idx", 9, b"\2"))),
    Case("data-index-sizes", ELSEWHERE,
         spoiled("data", "d", lambda d: overwrite(d / "train.idx", 26, b"\xff\xff\xff\x7f"))),
    Case("data-split-empty", ELSEWHERE, spoiled("data", "d", without_sentences)),
    Case("data-ids", ELSEWHERE, spoiled("data", "d", lambda d: (d / "dict.txt").write_text(""))),
    Case("data-ids", LM.replace("{data}", "d"),
         spoiled("data", "d", lambda d: (d / "dict.txt").write_text("w0 2\nw1 1\n"))),
    Case("mask-prob", f"{TAUGHT} --mask-prob 0"),
    Case("mask-prob", f"{TAUGHT} --mask-prob 2"),
    Case("mask-shares", f"{TAUGHT} --random-token-prob 0.95"),
    Case("mask-whole-words", f"{PLAIN} --mask-whole-words"),
    Case("tokens-per-sample", f"{TAUGHT} --max-positions 8"),
    Case("tokens-per-sample", f"{TAUGHT} --tokens-per-sample 0"),
    Case("tokens-per-sample", f"{TAUGHT} --tokens-per-sample 1"),
    Case("batch-size-missing", TAUGHT.replace("--batch-size 8", "")),
    # a teacher
    Case("teacher-missing", f"{PLAIN} --ki-teacher none.pt --ki-steps 2"),
    Case("teacher-missing", OTHER,
         lambda world, folder: (folder / "t" / "c.pt").mkdir(parents=True)),
    Case("teacher-empty", OTHER, files({"t/c.pt": ""})),
    Case("teacher-cut-short", OTHER, spoiled("teacher", "t/c.pt", lambda path: cut(path, 20000))),
    Case("teacher-other-file", OTHER, files({"t/c.pt": "hello"})),
    Case("teacher-other-file", OTHER, files({"t/c.pt": "good morning, how are you?"})),
    Case("teacher-of-another-library", OTHER, teacher(lambda state: state["model"])),
    Case("teacher-unsafe", OTHER, teacher(lambda state: state.update(extra=RunsShell()))),
    Case("teacher-without-options", OTHER, teacher(lambda state: state.pop("cfg") and None)),
    Case("teacher-options-damaged", OTHER,
         teacher(lambda state: state.pop("optimizer_history") and None)),
    Case("teacher-no-weights", OTHER, teacher(lambda state: state.update(model=[1]))),
    Case("teacher-other-weights", OTHER, teacher(model_options(encoder_layers=3))),
    Case("teacher-architecture", OTHER, teacher(model_options(_name="nonsense", arch="nonsense"))),
    Case("teacher-impossible-options", OTHER, teacher(model_options(encoder_attention_heads=0))),
    Case("teacher-impossible-options", OTHER, teacher(model_options(encoder_layers="many"))),
    Case("teacher-impossible-options", OTHER, teacher(model_options(encoder_embed_dim=10**9))),
    Case("teacher-options-text", OTHER, teacher(model_options(dropout="a tenth"))),
    Case("teacher-not-finite", OTHER, teacher(not_finite)),
    Case("teacher-causal-for-masked", TAUGHT.replace("{teacher}", "{causal}")),
    Case("teacher-masked-for-causal", f"{LM} --ki-teacher {{teacher}} --ki-steps 2"),
    Case("teacher-positions", TAUGHT.replace("{teacher}", "{short}")),
    Case("teacher-dictionary-missing", OTHER, no_dictionary),
    Case("teacher-dictionary-no-file", f"{TAUGHT} --ki-teacher-dict none.txt"),
    Case("teacher-dictionary-damaged", f"{TAUGHT} --ki-teacher-dict d.txt",
         files({"d.txt": b"\xff"})),
    Case("teacher-dictionary-differs", OTHER, other_dictionary),
    Case("teacher-and-store", f"{TAUGHT} --ki-store {{store}}"),
    Case("teacher-forgotten", f"{PLAIN} --ki-steps 2"),
    Case("teacher-dictionary-alone", f"{PLAIN} --ki-teacher-dict x"),
    Case("teacher-dtype-alone", f"{STORED} --ki-store {{store}} --ki-teacher-dtype fp16"),
    Case("teacher-batches", f"{TAUGHT} --ki-teacher-batches 2 --update-freq 3"),
    Case("teacher-batches", f"{TAUGHT} --ki-teacher-batches 0"),
    Case("teacher-batches-alone",
         f"{STORED} --ki-store {{store}} --ki-teacher-batches 2 --update-freq 4"),
    Case("teacher-batches-alone", f"{PLAIN} --ki-teacher-batches 2 --update-freq 4"),
    Case("teacher-stream-alone", f"{STORED} --ki-store {{store}} --ki-teacher-stream"),
    Case("teacher-forgotten", f"{PLAIN} --ki-teacher-stream"),
    Case("teacher-ignored", f"{PLAIN} --ki-teacher {{teacher}} --criterion masked_lm"),
    Case("criterion-without-task", PLAIN.replace("ki_mlm", "masked_lm")),
    Case("teacher-host-option", f"{TAUGHT} --skip-masking"),
    Case("teacher-adaptive-softmax",
         f"{LM} --ki-teacher {{causal}} --ki-steps 2 --adaptive-softmax-cutoff 20"),
    # the rate
    Case("steps-missing", f"{PLAIN} --ki-teacher {{teacher}}"),
    Case("rate", f"{TAUGHT} --ki-rate 1.5"),
    Case("rate", f"{TAUGHT} --ki-rate nan"),
    Case("temperature", f"{TAUGHT} --ki-temperature 0"),
    Case("temperature", f"{TAUGHT} --ki-temperature inf"),
    Case("temperature", f"{TAUGHT} --ki-temperature 1e-300"),
    Case("smoothing", f"{TAUGHT} --ki-label-smoothing 1"),
    Case("window", f"{TAUGHT} --ki-stop-when-surpassed --ki-surpassed-window 0"),
    Case("sentence-avg", f"{TAUGHT} --sentence-avg"),
    Case("schedule-unknown", f"{TAUGHT} --ki-schedule cosinus", status=2),
    Case("inheritance-over",
         f"{TAUGHT} --ki-steps 1 --max-update 9 --restore-file {{student}}"),
    Case("inheritance-over-for-new", f"{TAUGHT} --ki-steps 1 --max-update 9", another_teacher),
    # checkpoints and the machine
    Case("restore-missing", f"{TAUGHT} --restore-file none.pt"),
    Case("restore-architecture", f"{TAUGHT} --restore-file {{causal}}"),
    Case("restore-architecture", f"{TAUGHT} --finetune-from-model {{causal}}"),
    Case("restore-criterion", f"{TAUGHT} --restore-file {{student}} --criterion masked_lm".replace(
        "--ki-teacher {teacher} --ki-steps 2", "")),
    Case("restore-data", f"{TAUGHT} --restore-file {{student}} --batch-size 1000"),
    Case("finetune-missing", f"{TAUGHT} --finetune-from-model none.pt"),
    Case("last-damaged", TAUGHT, files({"save/checkpoint_last.pt": ""})),
    Case("last-no-file", TAUGHT, link_to_nowhere),
    Case("last-no-file", TAUGHT,
         lambda world, folder: (folder / "save" / "checkpoint_last.pt").mkdir(parents=True)),
    *(Case("checkpoint-contents", AGAIN, last(alter)) for alter in OUT_OF_PLACE),
    *(Case("checkpoint-parts", AGAIN, last(alter)) for alter in MISSING),
    *(Case("checkpoint-task-state", AGAIN, last(alter)) for alter in TASK_STATES),
    Case("checkpoint-not-finite", AGAIN, last(not_finite)),
    Case("checkpoint-not-finite", f"{PLAIN} --finetune-from-model t/c.pt",
         teacher(not_finite, "student")),
    Case("checkpoint-not-finite", f"{PLAIN} --restore-file t/c.pt --max-update 9",
         teacher(not_finite, "student")),
    Case("save-dir-of-other-data", TAUGHT, other_dictionary_in_save_dir),
    Case("seed", f"{TAUGHT} --seed -1"),
    Case("seed", f"{TAUGHT} --seed {10**30}"),
    Case("num-workers", f"{TAUGHT} --num-workers -1"),
    Case("update-freq", f"{TAUGHT} --update-freq 0"),
    Case("batch-size", f"{TAUGHT} --batch-size 0"),
    Case("max-tokens", f"{TAUGHT} --max-tokens -5"),
    Case("log-interval", f"{TAUGHT} --log-interval 0"),
    Case("finetune-folder", f"{TAUGHT} --finetune-from-model r", files({"r/x": ""})),
    Case("heads", f"{TAUGHT} --encoder-attention-heads 3"),
    Case("save-dir-a-file", TAUGHT, files({"save": ""})),
    Case("fp16-on-cpu", f"{TAUGHT} --fp16"),
    Case("world-size-on-cpu", f"{TAUGHT} --distributed-world-size 2"),
    Case("init-method-on-cpu",
         f"{TAUGHT} --distributed-world-size 2 --distributed-init-method tcp://localhost:1"),
    Case("launcher", TAUGHT, environment=LAUNCHED | {"RANK": "x"}),
    Case("launcher", TAUGHT, environment=LAUNCHED | {"RANK": "5"}),
    Case("betas", f"{TAUGHT} --optimizer ki_adam --adam-betas 0.9"),
    # a store
    Case("store-missing", STORED),
    Case("store-missing", STORED, spoiled("store", "s", lambda s: os.remove(s / "manifest.json"))),
    Case("store-shard-missing", STORED, spoiled("store", "s", lambda s: os.remove(shard(s)))),
    Case("store-shard-damaged", STORED, spoiled("store", "s", lambda s: flip(shard(s), -20))),
    Case("store-shard-cut-short", STORED, spoiled("store", "s", lambda s: cut(shard(s), 100))),
    Case("store-header", STORED, spoiled("store", "s", lambda s: flip(shard(s), 3))),
    Case("store-manifest-damaged", STORED,
         spoiled("store", "s", lambda s: flip(s / "manifest.json", 200))),
    Case("store-manifest-altered", STORED, spoiled("store", "s", lambda s: alter_text(
        s / "manifest.json", '"mask_prob": 0.15', '"mask_prob": 0.16'))),
    Case("store-manifest-foreign", STORED, files({"s/manifest.json": "{}"})),
    Case("store-link", STORED, spoiled("store", "s", lambda s: link(shard(s)))),
    Case("store-settings", f"{STORED} --ki-store {{store}} --mask-prob 0.2"),
    Case("store-seed", f"{STORED} --ki-store {{store}} --seed 2"),
    Case("store-task", f"{LM} --ki-store {{store}} --ki-steps 2"),
    Case("store-data", STORED.replace("{data}", "d"), other_text),
    Case("store-temperature", f"{STORED} --ki-store {{drawn}} --ki-temperature 2"),
    Case("store-no-tail", f"{STORED} --ki-store {{store}} --ki-temperature 1 --ki-tail"),
    Case("tail-without-store", f"{TAUGHT} --ki-tail"),
    Case("store-valid-teacher", f"{STORED} --ki-store {{store}} --ki-valid-teacher"),
]  # fmt: skip
