"""``fairseq-ki finetune`` on tiny tasks: trained, resumed, refused; metrics computed again."""

import json
import shutil

import pytest
import torch
from scipy import stats
from sklearn import metrics

from fairseq_ki.cli.main import main
from fairseq_ki.downstream import runs
from fairseq_ki.evaluation import results_file
from fairseq_ki.evaluation.logs import read_log
from fairseq_ki.experiments import process

GOOD, BAD = "fine good great nice warm".split(), "bad dull poor sad weak".split()


QUICK = "--lr 5e-3 --batch-size 16 --epochs 4 --metric mood=macro_f1 --seeds"


@pytest.fixture(scope="module")
def finished(masked_lm, data, tmp_path_factory, run_here):
    """Two seeds of ``mood``, with ``rte``, for which there is no data."""
    out = tmp_path_factory.mktemp("finished")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(runs, "run_logged", run_here)
        words = (
            f"finetune {masked_lm} --data {data} --out {out} --cpu --label tiny --tasks mood rte"
        )
        assert main([*words.split(), *QUICK.split(), "1", "2"]) == 0
    return out


def predictions(folder):
    return [json.loads(line) for line in (folder / "predictions.jsonl").read_text().splitlines()]


def test_scores_are_those_of_scikit_learn_on_the_saved_predictions(finished, data):
    (task,) = results_file.load_downstream(finished / "downstream.json").tasks
    assert task.labels == ["down", "flat", "up"]
    assert task.rows == {"train": 60, "dev": 21, "test": 24, "test_unseen": 20}
    source = [json.loads(x) for x in (data / "mood" / "test.jsonl").read_text().splitlines()]
    for run in task.best.runs:
        rows = predictions(finished / run.folder)
        assert set(run.scores) == {"dev", "test", "test_unseen"}
        for split, its_scores in run.scores.items():
            chosen = [r for r in rows if r["split"] == split.removesuffix("_unseen")]
            if split.endswith("_unseen"):
                chosen = [r for r in chosen if not r["in_train"]]
            gold, said = [r["label"] for r in chosen], [r["prediction"] for r in chosen]
            assert its_scores == {"macro_f1": metrics.f1_score(gold, said, average="macro")}
        for row in (r for r in rows if r["split"] == "test"):
            assert row["label"] == source[row["line"] - 1]["label"]
            best = max(range(3), key=lambda i, r=row: r["probabilities"][i])
            assert row["prediction"] == task.labels[best]
    assert task.best.runs[0].scores["dev"]["macro_f1"] > 0.5  # the words are easy


def test_the_best_epoch_is_by_the_same_metric(finished):
    (task,) = results_file.load_downstream(finished / "downstream.json").tasks
    for run in task.best.runs:
        logged = read_log(finished / run.folder / "train.log").valid["valid"]
        assert len(logged) == 4
        score = pytest.approx(run.scores["dev"]["macro_f1"], abs=1e-6)
        assert max(record["score"] for record in logged) == score
        assert logged[run.epoch - 1]["score"] == score
        assert not list((finished / run.folder).glob("*.pt"))


def test_what_was_not_run_is_listed(finished):
    found = results_file.load_downstream(finished / "downstream.json")
    assert [(n.task, n.reason) for n in found.not_run] == [("rte", "no data")]
    values = found.summary["finetune"]["mood"]["test"]["macro_f1"]
    assert values["seeds"] == 2
    scores = [100 * run.scores["test"]["macro_f1"] for run in found.tasks[0].best.runs]
    assert values["mean"] == pytest.approx(sum(scores) / 2)
    assert values["std"] == pytest.approx(abs(scores[0] - scores[1]) / 2**0.5)


def test_finished_runs_are_not_repeated(finished, call, tmp_path, monkeypatch):
    shutil.copytree(finished, tmp_path / "out")
    monkeypatch.setattr(runs, "run_logged", None)
    status, out, _ = call(f"--tasks mood {QUICK} 1 2")
    assert status == 0
    assert out.count("done before") == 2
    # other methods and tasks stay
    status, out, _ = call("--tasks mood stsb --probe first")
    assert status == 0
    found = results_file.load_downstream(tmp_path / "out" / "downstream.json")
    methods = [(t.task, t.method) for t in found.tasks]
    assert methods == [("mood", "finetune"), ("mood", "probe-first"), ("stsb", "probe-first")]
    # notes of earlier calls that are damaged
    for note in ("data/prepared.json", "probe-first-C1/started.json", "probe-first-C1/done.json"):
        note = tmp_path / "out" / "mood" / note
        content = note.read_text()
        for damage in ("", "[]", "{}", '{"signature": "x", "scores": {"seed": 1}}'):
            if damage.startswith('{"') and note.name != "done.json":
                continue
            note.write_text(damage)
            status, _, err = call("--tasks mood --probe first")
            assert status == 2
            assert f"{note}: expected" in err
            assert "move" in err
        note.write_text(content)
    # a run made with other data is not taken for this one
    status, _, err = call(f"--tasks mood {QUICK} 1 2 --max-train 30")
    assert status == 2
    assert "expected a run of this command" in err
    assert "--redo-changed" in err


def test_a_run_that_was_cut_off_goes_on(call, run_here, tmp_path, monkeypatch):
    def killed_after_an_epoch(command, log, progress):
        run_here([*command, "--max-epoch", "1"], log, progress)
        raise KeyboardInterrupt

    monkeypatch.setattr(runs, "run_logged", killed_after_an_epoch)
    status, _, err = call(f"--tasks mood {QUICK} 5")
    assert status == 130
    assert "the same command goes on" in err
    folder = tmp_path / "out" / "mood" / "lr0.005-batch16-seed5"
    assert (folder / "checkpoint_last.pt").is_file()

    def trained_but_not_predicted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(runs, "run_logged", run_here)
    with monkeypatch.context() as patch:
        patch.setattr(runs, "predict", trained_but_not_predicted)
        assert call(f"--tasks mood {QUICK} 5")[0] == 130
    log = read_log(folder / "train.log")
    assert [record["updates"] for record in log.valid["valid"]] == [4, 8, 12, 16]
    assert "Loaded checkpoint" in (folder / "train.log").read_text()
    monkeypatch.setattr(runs, "run_logged", None)  # nothing is left to train
    assert call(f"--tasks mood {QUICK} 5")[0] == 0
    # the same as a run that nobody stopped
    monkeypatch.setattr(runs, "run_logged", run_here)
    assert call(f"--tasks mood {QUICK} 5", out=tmp_path / "whole")[0] == 0
    whole = tmp_path / "whole" / "mood" / folder.name
    assert predictions(folder) == predictions(whole)


def test_regression_through_the_real_command(call, tmp_path, monkeypatch):
    monkeypatch.setattr(runs, "run_logged", process.run_logged)
    status, out, _ = call("--tasks stsb --lr 5e-3 --batch-size 8 --epochs 3 --seeds 1")
    assert status == 0
    assert "STS-B, dev, Pearson" in out
    (task,) = results_file.load_downstream(tmp_path / "out" / "downstream.json").tasks
    (run,) = task.best.runs
    rows = predictions(tmp_path / "out" / run.folder)
    gold, said = [r["label"] for r in rows], [r["prediction"] for r in rows]
    assert set(gold) == {0.5, 5.0}
    assert run.scores["dev"]["pearson"] == pytest.approx(stats.pearsonr(gold, said)[0])
    assert run.scores["dev"]["spearman"] == pytest.approx(stats.spearmanr(gold, said)[0])


@pytest.mark.parametrize("pooling", ["first", "mean"])
def test_probes(call, tmp_path, pooling):
    status, out, _ = call(f"--tasks mood stsb mnli --probe {pooling} --max-train 35")
    assert status == 0
    assert "trained on 35 of 60 rows" in out
    assert "MNLI, dev, mismatched, accuracy" in out
    found = results_file.load_downstream(tmp_path / "out" / "downstream.json")
    mood, stsb, mnli = found.tasks
    scores = mnli.best.runs[0].scores
    assert scores["dev"] == scores["dev_mismatched"]  # the same rows
    assert [setting.settings for setting in mood.grid] == [{"C": 10.0**n} for n in range(-4, 2)]
    for task in (mood, stsb):
        rows = predictions(tmp_path / "out" / task.best.runs[0].folder)
        dev = [r for r in rows if r["split"] == "dev"]
        gold, said = [r["label"] for r in dev], [r["prediction"] for r in dev]
        scores = task.best.runs[0].scores["dev"]
        if task is mood:
            assert scores["accuracy"] == metrics.accuracy_score(gold, said) > 0.6
        else:
            assert scores["pearson"] == pytest.approx(stats.pearsonr(gold, said)[0])
    assert call(f"--tasks mood --probe {pooling} --max-train 35")[0] == 0  # read back


def test_a_task_that_is_named_and_has_no_data_is_no_error(call, tmp_path):
    (tmp_path / "empty").mkdir()
    status, out, _ = call("--tasks qnli", folder=tmp_path / "empty")
    assert status == 0
    assert "not run: no data" in out
    found = results_file.load_downstream(tmp_path / "out" / "downstream.json")
    assert [(n.task, n.reason) for n in found.not_run] == [("qnli", "no data")]
    assert found.summary == {}
    # but a folder without any task is most likely the wrong one
    status, _, err = call("", folder=tmp_path / "empty")
    assert status == 2
    assert "expected a folder for each task" in err


@pytest.mark.parametrize(
    "words",
    ["--seeds 1 2", "--lr 1", "--batch-size 8", "--epochs 10", "--grid paper", "--update-freq 1",
     "--fp16", "--keep-checkpoints"],
)  # fmt: skip
def test_a_probe_takes_no_options_of_fine_tuning(call, tmp_path, words):
    status, _, err = call(f"--tasks mood --probe mean {words}")
    assert status == 2
    option = words.split()[0]
    assert f"--probe mean: expected no options of fine-tuning, found {option}; drop it" in err
    assert not (tmp_path / "out").exists()


def test_a_probe_of_one_class_is_refused_by_its_task(call, tmp_path):
    status, _, err = call("--tasks mood --probe mean --max-train 1")
    assert status == 2
    assert "mood: expected at least two classes among the 1 row that the probe is trained" in err
    assert not (tmp_path / "out").exists()


def test_a_probe_without_data_has_its_own_title(call, tmp_path):
    (tmp_path / "empty").mkdir()
    status, out, _ = call("--tasks rte --probe mean", folder=tmp_path / "empty")
    assert status == 0
    assert "Downstream, linear probe of the mean over tokens" in out
    assert "fine-tuned" not in out
    status, out, _ = call("--tasks mood --probe mean --dry-run")
    assert "# mood: a linear probe, in this process; no command is run" in out


def test_tsv_of_a_task_of_ones_own_is_not_passed_over(call, write_rows, tmp_path):
    folder = tmp_path / "d"
    for name in ("mine", "WNLI"):  # the second is GLUE's, and none of the paper's
        (folder / name).mkdir(parents=True)
        (folder / name / "train.tsv").write_text("text\tlabel\ngood\t1\n")
    status, _, err = call("--tasks mine", folder=folder)
    assert status == 2
    assert "found mine: TSV is read for GLUE's tasks only; use JSON lines" in err
    status, _, err = call("", folder=folder)
    assert status == 2
    assert "found mine: TSV is read for GLUE's tasks only" in err
    (folder / "acl-arc").mkdir()
    (folder / "acl-arc" / "train.tsv").write_text("text\tlabel\ngood\t1\n")
    assert "TSV is read" in call("--tasks acl-arc", folder=folder)[2]
    write_rows(folder / "late" / "dev.jsonl", [{"text": "good", "label": "x"}])
    for split in ("train", "dev"):
        rows = [{"text": word, "label": "x" if word in GOOD else "y"} for word in GOOD + BAD]
        write_rows(folder / "other" / f"{split}.jsonl", rows)
    rte = [{"text": word, "text2": word, "label": word} for word in ("good", "bad")]
    for split in ("train", "dev"):
        write_rows(folder / "rte" / f"{split}.jsonl", rte)
    write_rows(folder / "r-t-e" / "test.jsonl", rte)  # beside a folder of the task that is read
    assert call("--probe mean --tasks rte --dry-run", folder=folder)[0] == 0
    assert call("--probe mean", folder=folder)[0] == 0
    found = results_file.load_downstream(tmp_path / "out" / "downstream.json")
    reasons = {entry.task: entry.reason for entry in found.not_run}
    assert reasons["mine"] == "TSV is read for GLUE's tasks only; use JSON lines"
    assert reasons["late"] == "its folder has no train.jsonl"
    assert reasons["citation_intent"] == reasons["mine"]
    assert reasons["mnli"] == "no data"
    assert "rte" not in reasons
    assert "WNLI" not in reasons


def test_data_that_is_refused_leaves_no_folder(call, write_rows, tmp_path):
    rows = [{"text": "good", "label": 1e308}, {"text": "bad", "label": -1e308}]
    write_rows(tmp_path / "d" / "huge" / "train.jsonl", rows)
    write_rows(tmp_path / "d" / "huge" / "dev.jsonl", rows)
    status, _, err = call("--tasks huge", folder=tmp_path / "d")
    assert status == 2
    assert "train.jsonl, line 1: expected a number from -1e+06 to 1e+06 as label" in err
    assert not (tmp_path / "out").exists()


def test_dry_run_prints_commands_that_would_be_run(call, tmp_path):
    status, out, _ = call("--tasks mood qnli --dry-run --seeds 1 2")
    assert status == 0
    assert "# QNLI: not run: no data" in out
    assert out.count("-m fairseq_cli.train") == 12  # 2 seeds, 3 rates, 2 batch sizes
    assert not list((tmp_path / "out").rglob("train.log"))


def test_another_checkpoint_does_not_mix_with_earlier_results(finished, call, tmp_path, masked_lm):
    shutil.copytree(finished, tmp_path / "out")
    other = masked_lm.with_name("checkpoint_best.pt")
    torch.save(torch.load(masked_lm, weights_only=False) | {"note": "other bytes"}, other)
    status, _, err = call("--tasks mood --probe mean", checkpoint=masked_lm)
    assert status == 0
    status, _, err = call("--tasks mood --probe mean", checkpoint=other)
    other.unlink()
    assert status == 2
    assert "expected results of" in err
    assert "another checkpoint" in err


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ("--tasks moods", "--tasks: expected some of "),
        ("--tasks mood --metric mood=best", "--metric: expected TASK=METRIC"),
        ("--tasks mood --metric stsb=pearson", "--metric: expected a task among mood"),
        ("--tasks mood --metric mood=pearson", "mood: expected a metric for classes"),
        ("--metric mood=accuracy --metric mood=macro_f1", "--metric: expected one for each task"),
        ("--tasks mood --epochs 0", "--epochs: expected at least 1, found 0"),
        ("--tasks mood --lr nan", "--lr: expected a number above 0, found nan"),
        ("--tasks mood --batch-size 6 --update-freq 4", "expected a divisor of the batch size"),
        ("--tasks mood --seeds 1 -1", "--seeds: expected numbers of at least 0, found -1"),
    ],
)
def test_refusals(call, tmp_path, more, message):
    status, _, err = call(more)
    assert status == 2
    assert message in err
    assert err.count("\n") == 1
    assert not (tmp_path / "out" / "downstream.json").exists()
