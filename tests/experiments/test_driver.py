"""Experiments of cheap commands: done once, resumed, refused when changed, failing loudly."""

import argparse
import json
import math
import sys
import threading

import pytest

from fairseq_ki.cli import experiment as cli
from fairseq_ki.cli.main import main
from fairseq_ki.evaluation import results_file
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
    found = results_file.load(out / "results.json")
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
    assert [r.name for r in results_file.load(out / "results.json").runs] == ["first"]
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
    # in the last run, too: what was measured before is not lost
    measured = (out / "results.json").read_bytes()
    with pytest.raises(ValueError, match=r"second.seed1: .*made otherwise"):
        run(write_recipe(second="other"), out)
    assert (out / "results.json").read_bytes() == measured
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


@pytest.mark.parametrize("seconds", ["x", None, True, [1]])
def test_a_note_of_the_end_that_is_damaged(write_recipe, tmp_path, seconds):
    out = tmp_path / "out"
    run(write_recipe(), out)
    note = out / "first" / "seed1" / "done.json"
    note.write_text(json.dumps({**json.loads(note.read_text()), "seconds": seconds}))
    with pytest.raises(ValueError, match=r"done\.json: expected .* with seconds, found .*move"):
        run(write_recipe(), out)


def test_dry_run(write_recipe, tmp_path, capsys):
    assert run(write_recipe(), tmp_path / "out", "--dry-run") == 0
    assert "worker.py" in capsys.readouterr().out
    assert not (tmp_path / "out").exists()


def test_a_run_may_have_changed_with_the_same_command():
    words = ["fairseq-train", "--lr", "1e-3"]
    assert driver._difference(words, words).startswith("same command, but its data")
    assert driver._difference(words, words[:1]) == "was: --lr 1e-3; now: without"


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
    found = results_file.load(out / "results.json")
    teacher, ki = found.runs
    assert ki.updates == 12
    assert 4.0 in ki.valid["updates"]
    assert ki.ppl_at["12"] == ki.valid["ppl"][-1]
    assert ki.teachers[0].updates == 6  # exact, though logged every 2 updates
    # its last layer is computed at the loss rows alone
    assert ki.teachers[0].forward_flops < 0.8 * teacher.flops.forward
    assert ki.teachers[0].training_flops == teacher.cost(12)
    assert ki.flops.sizes["layers"] == 2
    assert ki.flops.per_update == 3 * ki.flops.forward
    assert found.corpus[0]["sha256"]
    assert "ki, end of guidance" in capsys.readouterr().out

    # the driver was killed after training ended, before it could note so: nothing runs again
    log = out / "ki" / "seed1" / "train.log"
    before = log.read_text()
    (out / "ki" / "seed1" / "done.json").unlink()
    assert run(file, out) == 0
    assert log.read_text() == before
    assert results_file.load(out / "results.json").runs[1].valid == ki.valid


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


MAKES_AND_READS = """\
name: made
data: nowhere
runs:
  first:
    kind: command
    command: [sh, -c, 'mkdir "$0/bin" && touch "$0/bin/dict.txt" "$0/bin/train.bin"', "{{folder}}"]
  second: {{kind: command, needs: [first], data: "{data}", command: [ls, "{{data}}"]}}
"""


def test_data_of_a_later_run_is_missed_before_the_first(read_recipe, tmp_path):
    recipe = read_recipe(MAKES_AND_READS.format(data="{corpora}/absent"))
    with pytest.raises(ValueError, match="absent: expected a data-bin"):
        driver.run_experiment(recipe, tmp_path / "out", [1])
    assert not (tmp_path / "out").exists()


def test_data_that_a_run_makes_need_not_be_there_before(read_recipe, tmp_path):
    recipe = read_recipe(MAKES_AND_READS.format(data="{runs.first}/bin"))
    driver.run_experiment(recipe, tmp_path / "out", [1])
    assert "dict.txt" in (tmp_path / "out" / "second" / "seed1" / "train.log").read_text()


def test_seeds_run_in_two_places_are_joined(write_recipe, tmp_path, capsys):
    recipe = str(write_recipe())
    for place, seed in (("here", 1), ("there", 2)):
        assert run(recipe, tmp_path / place, seeds=(seed,)) == 0
    files = [str(tmp_path / place / "results.json") for place in ("here", "there")]
    assert main(["report", *files, "--join", "--markdown", str(tmp_path / "both.md")]) == 0
    assert "seeds: 1, 2" in (tmp_path / "both.md").read_text()

    write_recipe(second="three")
    assert run(recipe, tmp_path / "elsewhere", seeds=(3,)) == 0
    assert main(["report", *files, str(tmp_path / "elsewhere"), "--join"]) == 2
    assert "expected second as in " in capsys.readouterr().err


MEASURED = """\
name: measured
data: nowhere
runs:
  probe:
    kind: command
    command: [sh, -ec, 'echo "$1" >"$0/m.json"', "{folder}", '{"a": {"f1": 0.7}, "b": [0.5, null]}']
    measure:
      file: m.json
      times: 100
      values: {f1: a.f1, mean: [a.f1, b.0], absent: a.f2, nothing: b.1}
findings:
  - {claim: "It is good.", rule: "probe:f1 > 60"}
"""


def test_commands_leave_numbers(tmp_path, capsys):
    (tmp_path / "recipe.yaml").write_text(MEASURED)
    out = tmp_path / "out"
    assert run(tmp_path / "recipe.yaml", out) == 0
    (probe,) = results_file.load(out / "results.json").runs
    assert probe.metrics["f1"] == pytest.approx(70)
    assert probe.metrics["mean"] == pytest.approx(60)
    assert math.isnan(probe.metrics["absent"])
    assert math.isnan(probe.metrics["nothing"])
    printed = " ".join(capsys.readouterr().out.split())
    assert "Holds at this size (one seed). It is good. Measured: probe: 70.0 > 60." in printed


@pytest.mark.parametrize("found", [None, "{"])
def test_a_run_that_left_no_numbers_is_not_done(found, tmp_path):
    source = tmp_path / "found.json"
    copy = f'if [ -e "{source}" ]; then cp "{source}" "$0/m.json"; fi'
    (tmp_path / "recipe.yaml").write_text(MEASURED.replace('echo "$1" >"$0/m.json"', copy))
    if found is not None:
        source.write_text(found)
    with pytest.raises(ValueError, match=r"m\.json: expected"):
        run(tmp_path / "recipe.yaml", tmp_path / "out")
    source.write_text('{"a": {"f1": 0.9}, "b": [0.5]}')  # the same command goes through now
    assert run(tmp_path / "recipe.yaml", tmp_path / "out") == 0
    assert results_file.load(tmp_path / "out" / "results.json").runs[0].metrics["f1"] == 90


def test_a_mistake_in_where_the_numbers_are_costs_no_second_run(tmp_path, capsys):
    file = tmp_path / "recipe.yaml"
    file.write_text(MEASURED.replace("f1: a.f1,", "f1: a.f1.mean,"))
    with pytest.raises(ValueError, match=r"m\.json: expected a number at 'a\.f1\.mean'"):
        run(file, tmp_path / "out")
    file.write_text(MEASURED)
    assert run(file, tmp_path / "out") == 0
    assert "probe, seed 1: done before" in capsys.readouterr().out


def test_shared_runs_serve_two_experiments(write_recipe, tmp_path, capsys):
    first = write_recipe()
    text = first.read_text().replace("{kind: command,", "{kind: command, folder: shared,")
    (tmp_path / "one.yaml").write_text(text)
    (tmp_path / "two.yaml").write_text(text.replace("name: cheap", "name: other"))
    assert run(tmp_path / "one.yaml", tmp_path / "out1") == 0
    assert run(tmp_path / "two.yaml", tmp_path / "out2") == 0
    assert "done before" in capsys.readouterr().out
    (folder,) = (tmp_path / "shared").glob("first-*")
    assert (folder / "seed1" / "made.txt").read_text().split() == ["one"]
    found = results_file.load(tmp_path / "out2" / "results.json").runs
    assert (found[0].name, found[0].folder.split("/")[:2]) == ("first", ["..", "shared"])
    # another command is another run, not a refusal
    (tmp_path / "two.yaml").write_text(text.replace('"one"', '"other"'))
    assert run(tmp_path / "two.yaml", tmp_path / "out2") == 0
    assert len(list((tmp_path / "shared").glob("first-*"))) == 2


def test_a_shared_run_that_is_being_made_is_waited_for(tmp_path, capsys):
    folder = tmp_path / "run"
    folder.mkdir()
    process.wait_until_free(folder, "[1/2] nobody")  # no lock: nobody was ever there
    with process._locked(folder):
        release = threading.Timer(0.3, lambda: (folder / "done.json").touch())
        release.start()
        waiting = threading.Thread(target=process.wait_until_free, args=(folder, "[1/2] teacher"))
        waiting.start()
        release.join()
        assert waiting.is_alive()
    waiting.join(timeout=10)
    assert not waiting.is_alive()
    assert "[1/2] teacher: another experiment is at it" in capsys.readouterr().out


def test_evaluation_of_a_training(data_bin, tmp_path):
    """PPL of a checkpoint by fairseq-validate is that of its last validation, to the digit."""
    text = RECIPE.replace("data: {data}", f"data: {data_bin}")
    text = text.replace("{{", "{").replace("}}", "}").replace("max-update: 12", "max-update: 4")
    start, end = text.index("  ki:"), text.index("compare:")
    text = text[:start] + "  seen: {kind: evaluate, of: teacher}\n"
    text = text.replace("  batch-size: 8", "  batch-size: 8\n  required-batch-size-multiple: 1")
    assert end > start
    (tmp_path / "recipe.yaml").write_text(text)
    assert run(tmp_path / "recipe.yaml", tmp_path / "out") == 0
    teacher, seen = results_file.load(tmp_path / "out" / "results.json").runs
    assert seen.metrics["ppl"] == pytest.approx(teacher.ppl(4), abs=1e-9)
