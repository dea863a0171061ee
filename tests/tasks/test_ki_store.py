"""Training from a store as fairseq-train runs it: like the live teacher, and refusals."""

import json
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from fairseq import options
from fairseq.data import MaskTokensDataset
from fairseq.data.indexed_dataset import MMapIndexedDataset, MMapIndexedDatasetBuilder
from fairseq.dataclass.utils import convert_namespace_to_omegaconf
from fairseq_cli import validate as fairseq_validate_cli

from fairseq_ki.cli.main import main
from fairseq_ki.criterions.ki import KICriterion
from fairseq_ki.data.replay import ReplayedEpochs
from fairseq_ki.data.stored_rows import ReadingSwitch, SplitRows
from fairseq_ki.store import DamageError, MismatchError, UnfinishedError
from fairseq_ki.tasks.ki_mlm import KIMaskedLMTask

KI = "--task ki_mlm --criterion ki"
CAUSAL = "--task ki_lm --criterion ki"
GPT = (
    "--arch gpt_73m --decoder-layers {} --decoder-embed-dim {} --decoder-ffn-embed-dim 32 "
    "--decoder-attention-heads 2"
)


def capture(data, teacher, out, extra: str) -> Path:
    command = f"logits write {data} --teacher {teacher} --out {out} --tokens-per-sample 32 {extra}"
    assert main(command.split()) == 0
    return out


@pytest.fixture(scope="module")
def dense(data_bin, teacher, tmp_path_factory):
    """Every sample in two maskings; not to be altered."""
    out = tmp_path_factory.mktemp("dense") / "store"
    return capture(data_bin, teacher, out, "--encoding dense --mask-epochs 2")


@pytest.fixture(scope="module")
def topk(data_bin, teacher, tmp_path_factory):
    out = tmp_path_factory.mktemp("topk") / "store"
    return capture(data_bin, teacher, out, "--encoding topk --k 5 --tail --samples-per-shard 50")


@pytest.fixture(scope="module")
def gpt(fairseq_train, data_bin, tmp_path_factory):
    save_dir = tmp_path_factory.mktemp("gpt")
    host = "--task language_modeling --criterion cross_entropy --max-update 30"
    fairseq_train(data_bin, save_dir, host, GPT.format(1, 16))
    shutil.copy(data_bin / "dict.txt", save_dir)
    return save_dir / "checkpoint_last.pt"


def exact_losses(monkeypatch) -> list[float]:
    """The objective per row of every micro-batch that is trained on from now on."""
    losses = []
    forward = KICriterion.forward

    def recording(self, model, sample, reduce=True):
        loss, rows, log = forward(self, model, sample, reduce)
        if self.training:
            losses.append(float(loss) / rows)
        return loss, rows, log

    monkeypatch.setattr(KICriterion, "forward", recording)
    return losses


def same_weights(one: dict, two: dict) -> bool:
    return all(torch.equal(one["model"][k], two["model"][k]) for k in one["model"])


def test_a_dense_store_trains_as_its_live_teacher(
    fairseq_train, data_bin, teacher, dense, tmp_path, monkeypatch
):
    """40 updates: two epochs, and a third that replays the masks of the first."""
    extra = f"{KI} --ki-steps 100 --max-update 40"
    losses = exact_losses(monkeypatch)
    fairseq_train(data_bin, tmp_path / "stored", f"{extra} --ki-store {dense}")
    stored = losses.copy()
    losses.clear()
    load = KIMaskedLMTask.load_dataset

    def replaying(self, split, **kwargs):
        load(self, split, **kwargs)
        self.datasets[split] = ReplayedEpochs(self.datasets[split], shards=1, mask_epochs=2)

    monkeypatch.setattr(KIMaskedLMTask, "load_dataset", replaying)
    fairseq_train(data_bin, tmp_path / "live", f"{extra} --ki-teacher {teacher}")
    assert len(stored) == len(losses) == 40
    assert stored == pytest.approx(losses, rel=1e-3)


def test_a_causal_dense_store_trains_as_its_live_teacher(
    fairseq_train, data_bin, gpt, tmp_path, monkeypatch
):
    blocks = "--add-bos-token --sample-break-mode complete --tokens-per-sample 30"
    store = capture(data_bin, gpt, tmp_path / "store", f"--task ki_lm --encoding dense {blocks}")
    extra = f"{CAUSAL} --ki-steps 100 --max-update 40 --max-target-positions 31 {blocks}"
    student = GPT.format(2, 32)
    losses = exact_losses(monkeypatch)
    fairseq_train(data_bin, tmp_path / "stored", f"{extra} --ki-store {store}", student)
    stored = losses.copy()
    losses.clear()
    run = fairseq_train(data_bin, tmp_path / "live", f"{extra} --ki-teacher {gpt}", student)
    assert len(stored) == len(losses) == 40
    assert stored == pytest.approx(losses, rel=1e-3)
    assert {r["epoch"] for r in run.train} >= {1, 2}


@pytest.mark.parametrize(
    "encoding", ["topk --k 5", "topk --k 5 --tail", "topp --p 0.8 --k 20", "sampled --draws 20"]
)
def test_every_encoding_trains(fairseq_train, data_bin, teacher, tmp_path, encoding):
    store = capture(data_bin, teacher, tmp_path / "store", f"--encoding {encoding}")
    tail = "--ki-tail" if "--tail" in encoding else ""
    run = fairseq_train(
        data_bin,
        tmp_path / "run",
        f"{KI} --ki-store {store} {tail} --ki-temperature 1 --ki-schedule constant --ki-rate 1 "
        "--max-update 25",
    )
    divergence = [float(r["ki_loss"]) for r in run.train]
    assert all(kl > 0 for kl in divergence)
    assert sum(divergence[-5:]) < sum(divergence[:5])
    # stored beside every encoding, so the log has them as with a live teacher
    assert float(run.train[0]["ki_teacher_ppl"]) > 1


@pytest.mark.parametrize("workers", [0, 2])
def test_resumed_equals_straight_through(fairseq_train, data_bin, topk, tmp_path, workers):
    """15 updates an epoch: stopped at 10 (mid-epoch) and 22, over two epoch ends."""
    extra = f"{KI} --ki-store {topk} --ki-steps 30 --num-workers {workers} --max-update "
    straight = fairseq_train(data_bin, tmp_path / "straight", extra + "40")
    pieces = [
        fairseq_train(data_bin, tmp_path / "pieces", f"{extra}{n}") for n in ("10", "22", "40")
    ]
    resumed = [r for piece in pieces for r in piece.train]
    for key in ("num_updates", "loss", "ki_rate", "ki_loss", "ki_objective", "ki_teacher_ppl"):
        assert [r[key] for r in resumed] == [r[key] for r in straight.train], key
    assert same_weights(straight.state(), pieces[-1].state())


@pytest.mark.parametrize("workers", [0, 2])
def test_a_causal_run_resumed_equals_straight_through(
    fairseq_train, data_bin, gpt, tmp_path, workers
):
    blocks = "--sample-break-mode complete --tokens-per-sample 30"
    store = capture(
        data_bin, gpt, tmp_path / "store", f"--task ki_lm --encoding sampled --draws 9 {blocks}"
    )
    extra = (
        f"{CAUSAL} --ki-store {store} --ki-temperature 1 --ki-steps 50 --max-target-positions 32 "
        f"--num-workers {workers} {blocks} --max-update "
    )
    student = GPT.format(2, 32)
    straight = fairseq_train(data_bin, tmp_path / "straight", extra + "40", student)
    pieces = [
        fairseq_train(data_bin, tmp_path / "pieces", f"{extra}{n}", student) for n in ("10", "40")
    ]
    resumed = [r for piece in pieces for r in piece.train]
    for key in ("num_updates", "loss", "ki_loss", "ki_objective"):
        assert [r[key] for r in resumed] == [r[key] for r in straight.train], key
    assert same_weights(straight.state(), pieces[-1].state())


@pytest.mark.slow
def test_two_ranks_equal_one(fairseq_train, data_bin, topk, student_options, tmp_path):
    """Over an epoch's end; dropout is 0, since ranks draw their own."""
    extra = (
        f"{KI} --ki-store {topk} --ki-steps 30 --max-update 12 --dropout 0 --attention-dropout 0 "
        "--num-workers 1"
    )
    one = fairseq_train(data_bin, tmp_path / "one", f"{extra} --update-freq 2")
    command = (
        f"-m torch.distributed.run --nproc-per-node 2 --standalone -m fairseq_cli.train {data_bin} "
        f"{student_options} --save-dir {tmp_path / 'two'} {extra}"
    )
    done = subprocess.run(
        [sys.executable, *command.split()], capture_output=True, text=True, timeout=240
    )
    assert done.returncode == 0, (done.stdout + done.stderr)[-3000:]
    lines = (done.stdout + done.stderr).splitlines()
    two = [json.loads(x.split("| train_inner | ")[1]) for x in lines if "| train_inner | " in x]
    assert len(two) == 12
    for a, b in zip(one.train, two):
        for key in ("loss", "ki_loss", "ki_objective", "ki_teacher_ppl"):
            assert float(a[key]) == pytest.approx(float(b[key]), rel=1e-3, abs=0.0011), key


def part_of(data_bin, folder: Path, sentences: range, name: str = "train") -> Path:
    """A data-bin with some of the training sentences, the same dictionary and validation text."""
    folder.mkdir(exist_ok=True)
    for file in ("dict.txt", "valid.bin", "valid.idx"):
        shutil.copy(data_bin / file, folder)
    whole = MMapIndexedDataset(str(data_bin / "train"))
    builder = MMapIndexedDatasetBuilder(str(folder / f"{name}.bin"), dtype=np.uint16)
    for i in sentences:
        builder.add_item(whole[i])
    builder.finalize(str(folder / f"{name}.idx"))
    return folder


@pytest.mark.parametrize("stores", [1, 2])
def test_shards_of_the_data(fairseq_train, data_bin, teacher, tmp_path, monkeypatch, stores):
    """Four epochs over two directories and two maskings: all as the live teacher has them."""
    parts = [
        part_of(data_bin, tmp_path / "a", range(160)),
        part_of(data_bin, tmp_path / "b", range(160, 300)),
    ]
    data = f"{parts[0]}:{parts[1]}"
    whole = "--encoding dense --mask-epochs 2"
    if stores == 1:
        named = capture(data, teacher, tmp_path / "both", whole)
    else:
        captured = [capture(p, teacher, tmp_path / f"store-{p.name}", whole) for p in parts]
        named = f"{captured[1]}:{captured[0]}"  # found by their data, not by their order
    extra = f"{KI} --ki-steps 100 --max-epoch 4 --num-workers 1 --lr 1e-3"
    losses = exact_losses(monkeypatch)
    fairseq_train(data, tmp_path / "stored", f"{extra} --ki-store {named}")
    stored = losses.copy()
    losses.clear()

    set_epoch = MaskTokensDataset.set_epoch  # the live run in the store's epochs

    def replaying(self, epoch, **unused):
        set_epoch(self, (epoch - 1) // 2 % 2 + 1)

    monkeypatch.setattr(MaskTokensDataset, "set_epoch", replaying)
    run = fairseq_train(data, tmp_path / "live", f"{extra} --ki-teacher {teacher}")
    assert run.train[-1]["epoch"] == 4
    assert stored == pytest.approx(losses, rel=1e-3)


def test_combined_splits(fairseq_train, data_bin, teacher, tmp_path, monkeypatch):
    data = part_of(data_bin, tmp_path / "data", range(200))
    part_of(data_bin, data, range(200, 300), "train1")
    store = capture(data, teacher, tmp_path / "store", "--encoding dense")
    extra = f"{KI} --ki-steps 100 --max-epoch 1"
    losses = exact_losses(monkeypatch)
    fairseq_train(data, tmp_path / "stored", f"{extra} --ki-store {store}")
    stored = losses.copy()
    losses.clear()
    fairseq_train(data, tmp_path / "live", f"{extra} --ki-teacher {teacher}")
    assert len(losses) > 10
    assert stored == pytest.approx(losses, rel=1e-3)
    with pytest.raises(MismatchError, match="data-bin split"):  # one of the two alone
        fairseq_train(data_bin, tmp_path / "other", f"{extra} --ki-store {store}")


def test_students_of_another_seed_share_a_store(fairseq_train, data_bin, topk, tmp_path):
    extra = f"{KI} --ki-store {topk} --ki-steps 9 --max-update 3 --seed 5"
    with pytest.raises(MismatchError, match=r"data.seed: expected 5, found 1"):
        fairseq_train(data_bin, tmp_path / "refused", extra)
    run = fairseq_train(data_bin, tmp_path / "shared", f"{extra} --ki-mask-seed 1")
    assert float(run.train[0]["ki_rate"]) == 1


@pytest.mark.parametrize("workers", [0, 2])
def test_nothing_is_read_once_guidance_is_over(
    fairseq_train, data_bin, teacher, tmp_path, monkeypatch, workers
):
    """The shards are overwritten as soon as the teacher is let go: reading them would stop it."""
    store = capture(data_bin, teacher, tmp_path / "store", "--encoding topk --k 5")
    off = ReadingSwitch.off
    overwritten = []

    def off_then_overwrite(self):
        off(self)
        if not overwritten:
            time.sleep(0.3)  # whoever was in the middle of reading
            for shard in store.glob("*.rows"):
                shard.write_bytes(bytes(shard.stat().st_size))
            overwritten.append(True)

    monkeypatch.setattr(ReadingSwitch, "off", off_then_overwrite)
    run = fairseq_train(
        data_bin,
        tmp_path / "run",
        f"{KI} --ki-store {store} --ki-steps 5 --max-update 35 --num-workers {workers}",
    )
    assert overwritten
    assert len(run.train) == 35
    assert {r["epoch"] for r in run.train} == {1, 2, 3}


def test_a_student_lives_without_its_store(fairseq_train, data_bin, teacher, tmp_path):
    store = capture(data_bin, teacher, tmp_path / "store", "--encoding topk --k 5")
    extra = f"{KI} --ki-store {store} --ki-steps 4 --max-update "
    student = fairseq_train(data_bin, tmp_path / "student", extra + "6")
    shutil.rmtree(store)

    resumed = fairseq_train(data_bin, tmp_path / "student", extra + "8")
    assert [r["num_updates"] for r in resumed.train] == ["7", "8"]

    for subset in ("valid", "train"):
        arguments = options.parse_args_and_arch(
            options.get_validation_parser(),
            input_args=f"{data_bin} --user-dir fairseq_ki --task ki_mlm --cpu --batch-size 8 "
            f"--path {student.save_dir / 'checkpoint_last.pt'} --valid-subset {subset}".split(),
        )
        fairseq_validate_cli.main(convert_namespace_to_omegaconf(arguments))

    next_one = fairseq_train(
        data_bin,
        tmp_path / "next",
        f"{KI} --ki-teacher {student.save_dir / 'checkpoint_last.pt'} --ki-steps 4 --max-update 1",
    )
    assert float(next_one.train[0]["ki_rate"]) == 1


def test_a_missing_store_stops_a_run_that_still_needs_it(
    fairseq_train, data_bin, teacher, tmp_path
):
    store = capture(data_bin, teacher, tmp_path / "store", "--encoding topk --k 5")
    extra = f"{KI} --ki-store {store} --ki-steps 40 --max-update "
    fairseq_train(data_bin, tmp_path / "student", extra + "6")
    shutil.rmtree(store)
    with pytest.raises((UnfinishedError, SystemExit), match="found no manifest.json"):
        fairseq_train(data_bin, tmp_path / "student", extra + "8")
    with pytest.raises(UnfinishedError, match="found no manifest.json"):
        fairseq_train(data_bin, tmp_path / "fresh", extra + "8")


def test_one_source_of_logits(fairseq_train, data_bin, teacher, topk, tmp_path):
    named = f"{KI} --ki-steps 4 --ki-store {topk}"
    with pytest.raises(ValueError, match="found --ki-teacher"):
        fairseq_train(data_bin, tmp_path, f"{named} --ki-teacher {teacher}")
    with pytest.raises(ValueError, match=r"--ki-valid-teacher: expected .* found --ki-store"):
        fairseq_train(data_bin, tmp_path, f"{named} --ki-valid-teacher")
    with pytest.raises(ValueError, match=r"--ki-tail: expected a --ki-store"):
        fairseq_train(data_bin, tmp_path, f"{KI} --ki-steps 4 --ki-teacher {teacher} --ki-tail")


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ("--tokens-per-sample 31", r"data.tokens_per_sample: expected 31, found 32"),
        ("--sample-break-mode complete", r"sample_break_mode: expected 'complete', found 'none'"),
        ("--shorten-method truncate", r"shorten_method: expected 'truncate', found 'none'"),
        ("--mask-prob 0.2", r"data.mask_prob: expected 0.2, found 0.15"),
        ("--leave-unmasked-prob 0.2", r"leave_unmasked_prob: expected 0.2, found 0.1"),
        ("--ki-mask-seed 2", r"data.seed: expected 2, found 1"),
        ("--train-subset valid", r"data.split: expected 'valid', found 'train'"),
        ("--ki-tail --ki-temperature 2", "the stored tail mass serves 1.0, found 2.0"),
    ],
)
def test_other_settings_are_refused(fairseq_train, data_bin, topk, tmp_path, changed, message):
    with pytest.raises(MismatchError, match=message):
        fairseq_train(data_bin, tmp_path, f"{KI} --ki-store {topk} --ki-steps 4 {changed}")
    assert not list(tmp_path.glob("*.pt"))


def test_a_temperature_that_draws_do_not_serve_is_refused(
    fairseq_train, data_bin, teacher, tmp_path
):
    store = capture(data_bin, teacher, tmp_path / "store", "--encoding sampled --draws 9")
    with pytest.raises(MismatchError, match="drawn at 1.0 and serves no other, found 2.0"):
        fairseq_train(data_bin, tmp_path / "run", f"{KI} --ki-store {store} --ki-steps 4")


def test_a_causal_student_refuses_a_masked_store(fairseq_train, data_bin, topk, tmp_path):
    with pytest.raises(MismatchError, match="task: expected 'lm', found 'mlm'"):
        fairseq_train(
            data_bin, tmp_path, f"{CAUSAL} --ki-store {topk} --ki-steps 4", GPT.format(2, 32)
        )


def test_another_dictionary_is_refused(fairseq_train, data_bin, topk, tmp_path):
    data = part_of(data_bin, tmp_path / "data", range(300))
    lines = (data / "dict.txt").read_text().splitlines(keepends=True)
    (data / "dict.txt").write_text("".join([lines[1], lines[0], *lines[2:]]))
    with pytest.raises(MismatchError, match="dictionary_sha256: expected"):
        fairseq_train(data, tmp_path / "run", f"{KI} --ki-store {topk} --ki-steps 4")


def test_another_text_is_refused(fairseq_train, data_bin, topk, tmp_path):
    data = part_of(data_bin, tmp_path / "data", range(299, -1, -1))
    with pytest.raises(MismatchError, match="data-bin split: the store has train"):
        fairseq_train(data, tmp_path / "run", f"{KI} --ki-store {topk} --ki-steps 4")


def test_stores_that_do_not_fit_together_are_refused(
    fairseq_train, data_bin, topk, dense, tmp_path
):
    with pytest.raises(MismatchError, match="have to agree in encoding and mask epochs"):
        fairseq_train(data_bin, tmp_path, f"{KI} --ki-store {topk}:{dense} --ki-steps 4")


@pytest.fixture
def copy(topk, tmp_path) -> Path:
    return Path(shutil.copytree(topk, tmp_path / "copy"))


def refused(fairseq_train, data_bin, store, tmp_path, error, message, extra="") -> None:
    with pytest.raises(error, match=message):
        fairseq_train(
            data_bin,
            tmp_path / "run",
            f"{KI} --ki-store {store} --ki-steps 40 --max-epoch 1 {extra}",
        )


@pytest.mark.parametrize("workers", [0, 2])
def test_a_flipped_byte_is_refused(fairseq_train, data_bin, copy, tmp_path, workers):
    shard = max(copy.glob("*.rows"))
    content = bytearray(shard.read_bytes())
    content[-5] ^= 4
    shard.write_bytes(content)
    refused(
        fairseq_train, data_bin, copy, tmp_path, DamageError, "expected CRC-32",
        f"--num-workers {workers}",
    )  # fmt: skip


def test_a_truncated_shard_is_refused(fairseq_train, data_bin, copy, tmp_path):
    shard = max(copy.glob("*.rows"))
    shard.write_bytes(shard.read_bytes()[:-1])
    refused(fairseq_train, data_bin, copy, tmp_path, DamageError, "file size in bytes: expected")


def test_an_unfinished_store_is_refused(fairseq_train, data_bin, copy, tmp_path):
    (copy / "manifest.json").unlink()
    refused(fairseq_train, data_bin, copy, tmp_path, UnfinishedError, "has the capture finished")


def test_a_newer_format_is_refused(fairseq_train, data_bin, copy, tmp_path):
    manifest = json.loads((copy / "manifest.json").read_text())
    (copy / "manifest.json").write_text(json.dumps({**manifest, "version": 2}))
    refused(fairseq_train, data_bin, copy, tmp_path, MismatchError, "expected format version 1")


def test_rows_of_other_masks_are_never_used(
    fairseq_train, data_bin, teacher, tmp_path, monkeypatch
):
    """A store that claims seed 1 and was captured under another, as another numpy might do."""
    honest = KIMaskedLMTask.store_settings
    with monkeypatch.context() as patch:
        patch.setattr(KIMaskedLMTask, "store_settings", lambda self: {**honest(self), "seed": 1})
        store = capture(data_bin, teacher, tmp_path / "store", "--encoding topk --k 5 --seed 2")
    # seen at the start, and, were it not, at the first read
    refused(
        fairseq_train, data_bin, store, tmp_path, MismatchError,
        "samples of split 0 .*mask epoch 1: the store's first 64",
    )  # fmt: skip
    monkeypatch.setattr(SplitRows, "check_first", lambda *_: None)
    refused(
        fairseq_train, data_bin, store, tmp_path, MismatchError,
        r"sample \d+ of split 0 .*: expected checksum 0x",
    )  # fmt: skip
