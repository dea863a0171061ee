"""lineage.json as trainings, grow and the verb leave and read it."""

import json
import math
import shutil
from pathlib import Path

import pytest
import torch

from fairseq_ki.cli.main import main
from fairseq_ki.compat import load_checkpoint
from fairseq_ki.evaluation.flops import (
    Batch,
    batch_of,
    read_checkpoint,
    teacher_flops,
    training_flops,
)
from fairseq_ki.lineage import of_checkpoint, read_lineage
from fairseq_ki.store import file_sha256, split_fingerprint

KI = "--task ki_mlm --criterion ki"
SMALL = (
    "--arch roberta --encoder-layers 1 --encoder-embed-dim 16 --encoder-ffn-embed-dim 32 "
    "--encoder-attention-heads 2 --max-positions 32"
)


def printed(capsys, *words) -> dict:
    capsys.readouterr()
    assert main(["lineage", *map(str, words), "--json"]) == 0
    return json.loads(capsys.readouterr().out)


@pytest.fixture(scope="module")
def generations(fairseq_train, data_bin, tmp_path_factory):
    """G1 -> G2 -> G3, each the teacher of the next one; G3 starts from a grown G2."""
    folder = tmp_path_factory.mktemp("generations")
    fairseq_train(data_bin, folder / "g1", f"{KI} --max-update 5", model=SMALL)
    guided = "--ki-steps 3 --max-update 5 --ki-teacher"
    last = "checkpoint_last.pt"
    fairseq_train(data_bin, folder / "g2", f"{KI} {guided} {folder}/g1/{last}", model=SMALL)
    sizes = "--encoder-layers 2 --encoder-embed-dim 32 --encoder-ffn-embed-dim 64"
    heads = "--encoder-attention-heads 2"
    words = ["--from", f"{folder}/g2/{last}", "--arch", "roberta", "--out", f"{folder}/init/i.pt"]
    assert main(["grow", *words, *sizes.split(), *heads.split()]) == 0
    fairseq_train(
        data_bin,
        folder / "g3",
        f"{KI} {guided} {folder}/g2/{last} --finetune-from-model {folder}/init/i.pt",
    )
    return folder


def test_a_run_without_a_teacher(generations, data_bin):
    lineage = read_lineage(str(generations / "g1" / "lineage.json"))
    own = lineage.own
    assert (own.how, own.name, own.arch, own.updates, own.parents) == (
        "trained", "g1", "roberta", 5, (),
    )  # fmt: skip
    assert own.data == {str(data_bin): split_fingerprint(data_bin / "train")}
    assert own.dictionary == file_sha256(data_bin / "dict.txt")
    assert own.versions["torch"] == torch.__version__
    sizes, task = read_checkpoint(generations / "g1" / "checkpoint_last.pt")
    assert own.tokens > 5 * 200
    assert own.flops == training_flops(sizes, batch_of(task, own.tokens))


def test_a_teachers_passes_are_counted_while_it_speaks(
    fairseq_train, generations, data_bin, tmp_path
):
    """G1 spoke in 3 of 5 updates: of the masked rows that the log has."""
    lineage = read_lineage(str(generations / "g2" / "lineage.json"))
    (parent,) = lineage.own.parents
    teacher = generations / "g1" / "checkpoint_last.pt"
    assert (parent.role, parent.file, parent.updates) == ("teacher", str(teacher), 5)
    assert parent.sha256 == file_sha256(teacher)
    assert lineage.models[parent.model] == read_lineage(f"{teacher.parent}/lineage.json").own
    sizes, _ = read_checkpoint(teacher)
    state = torch.load(generations / "g2" / "checkpoint_last.pt", weights_only=True)
    rows = state["extra_state"]["KIMaskedLMTask"]["lineage"]["taught"][str(teacher)]
    assert 3 * 25 < rows < 3 * 50  # 15 % of up to 256 tokens
    assert parent.flops == teacher_flops(sizes, Batch(rows / 0.15, 32, rows))


def test_the_tree_of_three_generations(generations, capsys):
    assert main(["lineage", str(generations / "g3" / "checkpoint_last.pt")]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(" (")[0].split(": ")[-1] for line in lines[:-1]] == [
        "g3", "g2", "g1", "init", "g2",
    ]  # fmt: skip
    assert lines[1].startswith("├─ taught by ")
    assert lines[3].startswith("└─ began as ")
    assert lines[4].startswith("   └─ grown from ")
    assert "4 models" in lines[-1]
    found = printed(capsys, generations / "g3" / "checkpoint_last.pt")
    assert found["unknown"] == []
    by_name = {model["name"]: model for model in found["models"].values()}
    assert by_name["init"]["flops"] == 0
    trained = sum(by_name[name]["flops"] for name in ("g1", "g2", "g3"))
    assert found["training_flops"] == pytest.approx(trained)
    assert found["total_flops"] > trained
    assert printed(capsys, generations / "g3" / "lineage.json")["models"] == found["models"]


def test_an_interrupted_run_goes_on_with_its_record(fairseq_train, generations, data_bin, tmp_path):
    """Also when its teacher is gone by then; counts are those of the straight run."""
    teacher = tmp_path / "teacher"
    shutil.copytree(generations / "g1", teacher)
    words = f"{KI} --ki-steps 3 --ki-teacher {teacher}/checkpoint_last.pt"
    fairseq_train(data_bin, tmp_path / "run", f"{words} --max-update 4")
    first = read_lineage(str(tmp_path / "run" / "lineage.json"))
    shutil.rmtree(teacher)
    fairseq_train(data_bin, tmp_path / "run", f"{KI} --max-update 5")
    again = read_lineage(str(tmp_path / "run" / "lineage.json"))
    assert again.model == first.model
    assert (first.own.updates, again.own.updates) == (4, 5)
    assert again.own.parents == first.own.parents
    assert again.own.parents[0].flops > 0
    assert 1 < again.own.tokens / first.own.tokens < 1.5
    # and if what it wrote is damaged or lost, the checkpoint has it all
    for updates, damage in ((6, lambda file: file.write_text("{")), (7, Path.unlink)):
        damage(tmp_path / "run" / "lineage.json")
        fairseq_train(data_bin, tmp_path / "run", f"{KI} --max-update {updates}")
        last = read_lineage(str(tmp_path / "run" / "lineage.json"))
        assert (last.model, last.own.updates) == (first.model, updates)
        assert last.own.parents == first.own.parents
        assert last.own.tokens > again.own.tokens
        assert last.own.data == first.own.data


def without_lineage(checkpoint) -> None:
    """As of before checkpoints had theirs: an id and counts."""
    state = torch.load(checkpoint, weights_only=True)
    del state["extra_state"]["KIMaskedLMTask"]["lineage"]["tree"]
    torch.save(state, checkpoint)


def test_a_checkpoint_of_before(fairseq_train, generations, data_bin, tmp_path, capsys):
    """It needs the file beside it, of its run and not older; without that ancestors are missed."""
    checkpoint, file = tmp_path / "run" / "checkpoint_last.pt", tmp_path / "run" / "lineage.json"
    shutil.copytree(generations / "g2", file.parent)
    whole = of_checkpoint(str(checkpoint))
    without_lineage(checkpoint)
    assert of_checkpoint(str(checkpoint)) == whole
    older = json.loads(file.read_text())
    older["models"][older["model"]]["updates"] = 4
    kept = file.read_text()
    for damage in (lambda: file.write_text(json.dumps(older)), file.unlink):
        damage()
        found = printed(capsys, checkpoint)
        assert (found["unknown"], len(found["models"])) == ([whole[0].model], 1)
        assert main(["lineage", str(checkpoint)]) == 0
        assert "at least: some are not known" in capsys.readouterr().out
    file.write_text(kept)
    fairseq_train(data_bin, file.parent, f"{KI} --max-update 6", model=SMALL)
    assert of_checkpoint(str(checkpoint))[0].own.parents == whole[0].own.parents


def test_a_model_that_learns_from_its_pupil(fairseq_train, data_bin, tmp_path, capsys):
    """A teaches B, which teaches A on; and then A itself. What it was is not counted again."""
    last = "checkpoint_last.pt"
    guided = f"{KI} --ki-schedule constant --ki-teacher"
    fairseq_train(data_bin, tmp_path / "a", f"{KI} --max-update 2", model=SMALL)
    words = f"{guided} {tmp_path}/a/{last} --max-update 3"
    fairseq_train(data_bin, tmp_path / "b", words, model=SMALL)
    for updates, other in ((4, "b"), (5, "a"), (6, "b")):
        words = f"{guided} {tmp_path}/{other}/{last} --max-update {updates}"
        fairseq_train(data_bin, tmp_path / "a", words, model=SMALL)
    lineage, updates = of_checkpoint(str(tmp_path / "a" / last))
    assert (lineage.own.updates, updates) == (6, 6)
    assert lineage == read_lineage(str(tmp_path / "a" / "lineage.json"))
    by_id = {i: (m.name, m.how, m.updates) for i, m in lineage.models.items()}
    a, b = lineage.model, lineage.own.parents[0].model
    assert by_id == {
        a: ("a", "trained", 6),
        b: ("b", "trained", 3),
        f"{a}-2": ("a", "earlier", 2),
        f"{a}-4": ("a", "earlier", 4),
    }
    found = printed(capsys, tmp_path / "a" / last)
    assert found["training_flops"] == sum(lineage.models[i].flops for i in (a, b))
    assert found["unknown"] == []
    assert main(["lineage", str(tmp_path / "a" / last)]) == 0
    *_, first, second, total = capsys.readouterr().out.splitlines()
    assert "counted as its later self" in first + second
    assert "of 2 models" in total


def test_a_checkpoint_alone_tells_what_it_can(teacher, generations, tmp_path, capsys):
    """Plain fairseq leaves no lineage.json; and a checkpoint may be copied without its own."""
    lineage, updates = of_checkpoint(str(teacher))
    assert (lineage.own.how, lineage.own.arch, updates) == ("checkpoint", "roberta", 30)
    assert lineage.model == f"sha256-{file_sha256(teacher)}"
    sizes, task = read_checkpoint(teacher)
    assert lineage.own.flops == training_flops(sizes, batch_of(task, lineage.own.tokens))
    assert 30 * 150 < lineage.own.tokens < 30 * 256
    shutil.copy(generations / "g2" / "checkpoint_last.pt", tmp_path / "copy.pt")
    whole, _ = of_checkpoint(str(generations / "g2" / "checkpoint_last.pt"))
    alone, _ = of_checkpoint(str(tmp_path / "copy.pt"))
    assert alone == whole
    # and another run's lineage.json beside it is not taken for its own
    shutil.copy(generations / "g1" / "lineage.json", tmp_path)
    assert of_checkpoint(str(tmp_path / "copy.pt"))[0] == whole
    without_lineage(tmp_path / "copy.pt")
    assert of_checkpoint(str(tmp_path / "copy.pt"))[0].own.how == "checkpoint"


@pytest.mark.parametrize(
    "options",
    [
        {"mask_prob": "x"},
        {"mask_prob": math.nan},
        {"mask_prob": -1e300},
        {"tokens_per_sample": "x"},
        {"tokens_per_sample": math.inf},
        {"tokens_per_sample": None},
    ],
    ids=str,
)
def test_options_that_are_no_numbers_leave_the_cost_unknown(generations, tmp_path, capsys, options):
    state = load_checkpoint(generations / "g1" / "checkpoint_last.pt")
    state["cfg"]["task"].update(options)
    del state["extra_state"]["KIMaskedLMTask"]  # where the cost was recorded
    torch.save(state, tmp_path / "altered.pt")
    found = printed(capsys, tmp_path / "altered.pt")
    assert found["unknown"] == [found["model"]]
    assert main(["lineage", str(tmp_path / "altered.pt")]) == 0


def test_nothing_about_lineage_stops_a_training(
    fairseq_train, generations, data_bin, tmp_path, caplog
):
    teacher = tmp_path / "teacher"
    shutil.copytree(generations / "g1", teacher)
    without_lineage(teacher / "checkpoint_last.pt")
    (teacher / "lineage.json").write_text("[" * 100_000)
    (tmp_path / "run" / "lineage.json").mkdir(parents=True)
    run = fairseq_train(
        data_bin,
        tmp_path / "run",
        f"{KI} --ki-steps 3 --max-update 5 --ki-teacher {teacher}/checkpoint_last.pt",
    )
    assert len(run.train) == 5
    warnings = [r.getMessage() for r in caplog.records if "training goes on" in r.getMessage()]
    assert len(warnings) == 2
    assert "teacher/lineage.json: expected JSON" in warnings[0]
    assert "run/lineage.json could not be written" in warnings[1]
    assert (run.save_dir / "checkpoint_last.pt").is_file()


def test_the_verb_refuses_in_one_line(generations, tmp_path, capsys):
    for path, message in (
        (tmp_path / "no.pt", "found no file"),
        (generations / "g1" / "dict.txt", "dict.txt"),
    ):
        assert main(["lineage", str(path)]) == 2
        assert message in capsys.readouterr().err
    shutil.copy(generations / "g1" / "checkpoint_last.pt", tmp_path)
    (tmp_path / "lineage.json").write_text("{}")
    state = torch.load(tmp_path / "checkpoint_last.pt", weights_only=True)
    recorded = state["extra_state"]["KIMaskedLMTask"]["lineage"]
    other = {**recorded["tree"], "model": "m", "models": {"m": {"how": "trained", "name": "x"}}}
    for tree, message in (
        ([1], "checkpoint_last.pt: its lineage: expected an object, found list"),
        ({"format": torch.zeros(3)}, "expected format"),
        ({**recorded["tree"], "models": {torch.zeros(1): 3}}, "id: expected printable text"),
        (other, f"expected that of {recorded['id']}, found that of m"),
    ):
        recorded["tree"] = tree
        torch.save(state, tmp_path / "checkpoint_last.pt")
        assert main(["lineage", str(tmp_path / "checkpoint_last.pt")]) == 2
        assert message in capsys.readouterr().err
    del recorded["tree"]
    torch.save(state, tmp_path / "checkpoint_last.pt")
    assert main(["lineage", str(tmp_path / "checkpoint_last.pt")]) == 2
    assert "expected format" in capsys.readouterr().err


def test_a_grown_model_gets_a_folder_of_its_own(generations, capsys):
    words = ["--arch", "2x32x64x2", "--out", str(generations / "g2" / "init.pt")]
    assert main(["grow", "--from", f"{generations}/g1/checkpoint_last.pt", *words]) == 2
    assert "a folder of its own" in capsys.readouterr().err
    assert not (generations / "g2" / "init.pt").exists()


def test_grow_goes_on_when_the_teachers_lineage_is_damaged(generations, tmp_path, capsys):
    shutil.copytree(generations / "g1", tmp_path / "t")
    without_lineage(tmp_path / "t" / "checkpoint_last.pt")
    (tmp_path / "t" / "lineage.json").write_text("{}")
    words = ["--arch", "2x32x64x2", "--out", str(tmp_path / "new" / "init.pt")]
    assert main(["grow", "--from", f"{tmp_path}/t/checkpoint_last.pt", *words]) == 0
    said = capsys.readouterr()
    assert "warning: no lineage.json was written" in said.err
    assert "wrote" in said.out
    assert not (tmp_path / "new" / "lineage.json").exists()


def test_every_teacher_of_a_mixture_is_a_parent(
    fairseq_train, generations, data_bin, tmp_path, capsys
):
    """A live teacher's passes are of its own domain's rows; a store's were made before."""
    store, teacher = tmp_path / "store", generations / "g1" / "checkpoint_last.pt"
    write = f"logits write {data_bin} --teacher {teacher} --out {store} --tokens-per-sample 32"
    assert main([*write.split(), "--encoding", "topk", "--k", "5"]) == 0
    again = shutil.copytree(store, tmp_path / "again")
    live = generations / "g2" / "checkpoint_last.pt"
    other = fairseq_train.__globals__["write_data_bin"](tmp_path / "other", seed=7)
    (tmp_path / "mixture.yaml").write_text(
        f"domains:\n"
        f"  one: {{data: {data_bin}, teachers: [{{store: {store}/}}, {{store: {again}}}]}}\n"
        f"  two: {{data: {other}, teachers: [{{checkpoint: {live}}}]}}\n"
    )
    fairseq_train(
        data_bin,
        tmp_path / "run",
        f"{KI} --ki-mixture {tmp_path}/mixture.yaml --ki-steps 4 --max-update 6",
    )
    lineage = read_lineage(str(tmp_path / "run" / "lineage.json"))
    stored, copied, spoke = lineage.own.parents
    assert (stored.file, stored.sha256, stored.flops) == (f"{store}/", file_sha256(teacher), 0)
    # one teacher in two places, and the name of neither
    assert copied.model == stored.model
    assert lineage.models[stored.model].name == f"teacher {file_sha256(teacher)[:12]}"
    assert (spoke.file, spoke.sha256) == (str(live), file_sha256(live))
    assert set(lineage.own.data) == {str(data_bin), str(other)}
    state = torch.load(tmp_path / "run" / "checkpoint_last.pt", weights_only=True)
    rows = state["extra_state"]["KIMaskedLMTask"]["lineage"]["taught"]
    assert 0 < rows[str(live)] < 4 * 50  # a part of 4 updates' masked tokens
    sizes, _ = read_checkpoint(live)
    assert spoke.flops == teacher_flops(sizes, Batch(rows[str(live)] / 0.15, 32, rows[str(live)]))
    found = printed(capsys, tmp_path / "run" / "checkpoint_last.pt")
    assert found["unknown"] == [f"sha256-{file_sha256(teacher)}"]
