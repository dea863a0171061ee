"""A second ``fairseq-ki finetune`` in the same folder: what was kept, repeated, refused."""

import json
import shutil

import pytest

from fairseq_ki.downstream import runs
from fairseq_ki.evaluation import results_file
from fairseq_ki.experiments.process import RunError

QUICK = "--tasks mood --lr 5e-3 1e-2 --batch-size 16 --epochs 1 --seeds 1"


@pytest.fixture
def own(data, tmp_path):
    """The task as a folder that may be changed."""
    shutil.copytree(data / "mood", tmp_path / "own" / "mood")
    return tmp_path / "own"


def fewer_rows(own):
    for file in (own / "mood").iterdir():
        file.write_text("".join(file.read_text().splitlines(keepends=True)[:18]))


def everything(folder):
    return {str(p): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def test_a_refused_call_changes_nothing(call, own, tmp_path):
    assert call(QUICK, folder=own)[0] == 0
    before = everything(tmp_path / "out")
    fewer_rows(own)
    status, _, err = call(f"{QUICK} --label renamed", folder=own)
    assert status == 2
    assert "expected a run of this command" in err
    assert everything(tmp_path / "out") == before


def test_results_go_before_the_runs_that_they_are_of(call, run_here, own, tmp_path, monkeypatch):
    assert call(QUICK, folder=own)[0] == 0
    assert call("--tasks mood --probe mean", folder=own)[0] == 0
    fewer_rows(own)
    trained = []

    def interrupted_in_the_second(command, log, progress):
        if trained:
            raise KeyboardInterrupt
        trained.append(log)
        run_here(command, log, progress)

    monkeypatch.setattr(runs, "run_logged", interrupted_in_the_second)
    assert call(f"{QUICK} --redo-changed", folder=own)[0] == 130
    found = results_file.load_downstream(tmp_path / "out" / "downstream.json")
    assert [(t.task, t.method) for t in found.tasks] == [("mood", "probe-mean")]
    assert set(found.summary) == {"probe-mean"}
    monkeypatch.setattr(runs, "run_logged", run_here)
    assert call(QUICK, folder=own)[0] == 0  # nothing is left that was made otherwise
    found = results_file.load_downstream(tmp_path / "out" / "downstream.json")
    assert [t.rows["train"] for t in found.tasks] == [60, 18]


def test_a_folder_in_which_a_training_works_is_not_deleted(call, own, tmp_path, monkeypatch):
    assert call(QUICK, folder=own)[0] == 0
    fewer_rows(own)

    def busy(folder):
        raise RunError(f"{folder}: expected no process at work there")

    monkeypatch.setattr(runs, "delete_run", busy)
    status, _, err = call(f"{QUICK} --redo-changed", folder=own)
    assert status == 1
    assert "expected no process at work there" in err
    assert (tmp_path / "out" / "mood" / "lr0.005-batch16-seed1" / "done.json").is_file()


def test_what_somebody_else_put_there_is_not_gone_on_from(call, tmp_path):
    folder = tmp_path / "out" / "mood" / "lr0.005-batch16-seed1"
    folder.mkdir(parents=True)
    (folder / "checkpoint_last.pt").touch()
    status, _, err = call(QUICK)
    assert status == 2
    assert f"{folder}: expected an empty folder or a run of this command, found" in err
    assert "['checkpoint_last.pt']; move it away" in err


def test_rates_that_differ_late_have_two_folders(call, tmp_path):
    rates = "--lr 0.00312345678 0.00312345679 --batch-size 16 --epochs 1 --seeds 1"
    assert call(f"--tasks mood {rates}")[0] == 0
    assert len(list((tmp_path / "out" / "mood").glob("lr*"))) == 2


def test_as_many_rows_as_there_are_is_no_other_data(call, tmp_path, monkeypatch):
    assert call(f"{QUICK} --keep-checkpoints")[0] == 0
    monkeypatch.setattr(runs, "run_logged", None)
    status, out, _ = call(f"{QUICK} --max-train 60")
    assert status == 0
    assert out.count("done before") == 2
    # what an earlier call was told to keep is not for a later one to delete
    assert (tmp_path / "out" / "mood" / "lr0.005-batch16-seed1" / "checkpoint_best.pt").is_file()


@pytest.mark.parametrize("rate", ["100", "1e20"])
def test_a_training_that_diverged_is_called_so(call, tmp_path, rate, monkeypatch):
    def diverging(command, log, progress):
        log.write_text("FloatingPointError: gradients are Nan/Inf\nStopIteration\n")
        raise RunError("failed with exit status 1")

    monkeypatch.setattr(runs, "run_logged", diverging)
    status, _, err = call(f"--tasks mood --lr {rate} --epochs 1 --seeds 1")
    assert status == 1
    assert "the training diverged" in err
    assert "Leave this learning rate out of --lr" in err


def test_outputs_of_nan_are_no_predictions(call, tmp_path, monkeypatch):
    real = runs.predict
    monkeypatch.setattr(
        runs, "predict", lambda *args: {k: v * float("nan") for k, v in real(*args).items()}
    )
    status, _, err = call(QUICK)
    assert status == 1
    assert "expected finite numbers, found NaN or infinity" in err
    found = json.loads((tmp_path / "out" / "downstream.json").read_text())
    assert found["tasks"] == []


def test_a_probe_wants_no_head(call, piece_bin, tmp_path):
    assert call(f"{QUICK} --keep-checkpoints")[0] == 0
    tuned = tmp_path / "out" / "mood" / "lr0.005-batch16-seed1" / "checkpoint_best.pt"
    probe = f"--tasks mood --probe mean --data-bin {piece_bin}"
    status, _, err = call(probe, checkpoint=tuned, out=tmp_path / "other")
    assert status == 2
    assert "--probe mean: expected a pre-trained checkpoint, found" in err
    assert not (tmp_path / "other").exists()


def test_signs_that_fairseq_reads_in_paths(call, tmp_path):
    for name in ("a:b", "${a}"):
        status, _, err = call(QUICK, out=tmp_path / name)
        assert status == 2
        assert f"{tmp_path / name}: expected a path without : and ${{" in err
        assert not (tmp_path / name).exists()
