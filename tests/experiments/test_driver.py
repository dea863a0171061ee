"""Experiments of cheap commands: done once, resumed, refused when changed, failing loudly."""

import argparse
import json
import sys

import pytest

from fairseq_ki.cli import experiment as cli
from fairseq_ki.evaluation import results as results_json
from fairseq_ki.experiments import driver, process
from fairseq_ki.experiments.recipe import load

# stands for fairseq-train in the tests that need no training: appends to a file, may fail
WORKER = """\
import pathlib, sys
folder, text = pathlib.Path(sys.argv[1]), sys.argv[2]
print("working on", text, flush=True)
with open(folder / "made.txt", "a") as file:
    file.write(text + "\\n")
sys.exit("broken" if text == "fail" and not (folder / "mended").exists() else 0)
"""


@pytest.fixture(autouse=True)
def _quick(monkeypatch):
    monkeypatch.setattr(process, "POLL_SECONDS", 0.02)


@pytest.fixture
def write_recipe(tmp_path):
    worker = tmp_path / "worker.py"
    worker.write_text(WORKER)

    def write(first="one", second="two"):
        file = tmp_path / "recipe.yaml"
        command = json.dumps([sys.executable, str(worker)])[:-1]
        file.write_text(
            "name: cheap\ndata: nowhere\nruns:\n"
            f'  first: {{kind: command, command: {command}, "{{folder}}", "{first}"]}}\n'
            f'  second: {{kind: command, needs: [first], command: {command}, "{{folder}}",'
            f' "{second}"]}}\n'
        )
        return file

    return write


def run(file, out, *more, seeds=(1,)):
    parser = argparse.ArgumentParser()
    cli.add_arguments(parser)
    words = [str(file), "--out", str(out), "--seeds", *map(str, seeds), *more]
    return cli.run(parser.parse_args(words))


def made(out, name, seed=1):
    return (out / name / f"seed{seed}" / "made.txt").read_text().split()


def test_finished_runs_are_not_repeated(write_recipe, tmp_path, capsys):
    out = tmp_path / "out"
    assert run(write_recipe(), out) == 0
    assert run(write_recipe(), out, seeds=[1, 2]) == 0
    assert made(out, "first") == ["one"]
    assert made(out, "first", 2) == ["one"]
    assert "done before" in capsys.readouterr().out
    found = results_json.load(out / "results.json")
    assert [(r.name, r.seed) for r in found.runs] == [
        ("first", 1), ("second", 1), ("first", 2), ("second", 2)
    ]  # fmt: skip
    assert found.runs[0].command[-1] == "one"
    assert found.versions["torch"]
    assert (out / "report.html").is_file()


def test_failure_is_loud_and_the_next_call_goes_on(write_recipe, tmp_path, capsys):
    out = tmp_path / "out"
    assert run(write_recipe(second="fail"), out) == 1
    error = capsys.readouterr().err
    assert "second, seed 1 failed with exit status 1" in error
    assert "broken" in error
    assert [r.name for r in results_json.load(out / "results.json").runs] == ["first"]
    (out / "second" / "seed1" / "mended").touch()
    assert run(write_recipe(second="fail"), out) == 0
    assert made(out, "first") == ["one"]
    assert made(out, "second") == ["fail", "fail"]


def test_changed_commands_are_refused_or_redone(write_recipe, tmp_path, capsys):
    out = tmp_path / "out"
    run(write_recipe(), out)
    with pytest.raises(ValueError, match=r"first.seed1: .*made otherwise.*one.*--redo-changed"):
        run(write_recipe(first="other"), out)
    assert made(out, "first") == ["one"]
    assert run(write_recipe(first="other"), out, "--redo-changed") == 0
    assert made(out, "first") == ["other"]
    # what builds on it is made again too, once
    assert made(out, "second") == ["two"]
    assert "a run that it builds on changed" in capsys.readouterr().out


def test_a_folder_with_other_things_is_left_alone(write_recipe, tmp_path):
    (tmp_path / "out" / "first" / "seed1").mkdir(parents=True)
    (tmp_path / "out" / "first" / "seed1" / "thesis.tex").touch()
    with pytest.raises(ValueError, match=r"expected an empty folder .*thesis\.tex"):
        run(write_recipe(), tmp_path / "out", "--redo-changed")


def test_dry_run(write_recipe, tmp_path, capsys):
    assert run(write_recipe(), tmp_path / "out", "--dry-run") == 0
    assert "worker.py" in capsys.readouterr().out
    assert not (tmp_path / "out").exists()


def test_differences_name_options():
    old = ["fairseq-train", "--lr", "1e-3", "--fp16", "--seed", "1"]
    new = ["fairseq-train", "--lr", "2e-3", "--seed", "1"]
    assert driver._difference(old, new) == "was: --lr 1e-3 --fp16; now: --lr 2e-3"


RECIPE = """\
name: tiny
data: {data}
common:
  task: ki_mlm
  criterion: ki
  arch: roberta
  encoder-layers: 1
  encoder-embed-dim: 16
  encoder-ffn-embed-dim: 32
  encoder-attention-heads: 2
  max-positions: 32
  tokens-per-sample: 32
  batch-size: 8
  optimizer: adam
  lr: 5e-3
  max-update: 12
  log-interval: 2
  validate-interval-updates: 4
  save-interval-updates: 4
  keep-interval-updates: 1
  no-epoch-checkpoints: true
  num-workers: 0
runs:
  teacher: {{role: teacher, options: {{cpu: true}}}}
  ki:
    role: inherited
    teachers: [teacher]
    options:
      cpu: true
      encoder-layers: 2
      ki-teacher: "{{runs.teacher}}/checkpoint_last.pt"
      ki-steps: 6
compare: [{{inherited: ki, alone: teacher}}]
"""


def test_real_trainings(data_bin, tmp_path, capsys):
    """Two short runs of fairseq-train; one is then done again from where a kill left it."""
    file = tmp_path / "recipe.yaml"
    file.write_text(RECIPE.format(data=data_bin))
    out = tmp_path / "out"
    assert run(file, out) == 0
    found = results_json.load(out / "results.json")
    teacher, ki = found.runs
    assert ki.updates == 12
    assert 4.0 in ki.valid["updates"]
    assert ki.ppl_at["12"] == ki.valid["ppl"][-1]
    assert ki.teachers[0].updates == 6  # exact, though logged every 2 updates
    assert ki.teachers[0].forward_flops == pytest.approx(teacher.flops.forward, rel=0.05)
    assert ki.teachers[0].training_flops == teacher.cost(12)
    assert ki.flops.sizes["layers"] == 2
    assert ki.flops.per_update == 3 * ki.flops.forward
    assert found.corpus[0]["sha256"]
    assert "ki vs teacher, end of guidance" in capsys.readouterr().out

    # the driver was killed after training ended, before it could note so: nothing runs again
    log = out / "ki" / "seed1" / "train.log"
    before = log.read_text()
    (out / "ki" / "seed1" / "done.json").unlink()
    assert run(file, out) == 0
    assert log.read_text() == before
    assert results_json.load(out / "results.json").runs[1].valid == ki.valid


@pytest.fixture
def read_recipe(tmp_path):
    def read(text):
        (tmp_path / "recipe.yaml").write_text(text)
        return load(tmp_path / "recipe.yaml")

    return read


def test_missing_data_is_named_before_anything_runs(read_recipe, tmp_path):
    recipe = read_recipe(RECIPE.format(data=tmp_path / "nowhere"))
    with pytest.raises(ValueError, match="nowhere: expected a data-bin"):
        driver.run_experiment(recipe, tmp_path / "out", [1])
    assert not (tmp_path / "out").exists()
