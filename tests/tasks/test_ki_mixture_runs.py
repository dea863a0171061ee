"""The life of a run on several domains: validation, resume, the end of its teachers, after it."""

import logging
import shutil
from pathlib import Path

import pytest
from fairseq.models.roberta import RobertaModel
from trained import (
    CAUSAL,
    GPT,
    KI,
    capture,
    objectives,
    record_logs,
    stopped_and_resumed,
    validated,
)

from fairseq_ki.checked_yaml import YamlFileError
from fairseq_ki.criterions.ki import KICriterion
from fairseq_ki.teachers.stored import STORED

KEYS = ("loss", "one_loss", "two_loss", "ki_loss", "ki_objective", "ki_teacher_ppl")


def with_validation(train) -> str:
    return train.__globals__["COMMON"].replace("--disable-validation", "")


def test_validation_is_of_all_domains(
    fairseq_train, data_bin, second_bin, teacher, mixture, tmp_path
):
    """And so of those that are only validated; the metric weighs their rows alike."""
    option = mixture(f"{{checkpoint: {teacher}}}", weight=0)
    common = with_validation(fairseq_train)
    extra = (
        f"{KI} --ki-steps 8 --max-update 9 --required-batch-size-multiple 1 "
        "--best-checkpoint-metric two_ppl"
    )
    run = fairseq_train(data_bin, tmp_path / "run", f"{extra} {option}", common=common)
    assert all(float(r["two_loss"]) == 0 < float(r["one_loss"]) for r in run.train)
    last = {k: float(v) for k, v in run.valid[-1].items()}
    assert {"loss", "ppl", "one_loss", "one_ppl", "two_loss", "two_ppl"} <= set(last)
    checkpoint = run.save_dir / "checkpoint_best.pt"
    alone = [validated(data, checkpoint) for data in (data_bin, second_bin)]
    for name, (loss, _) in zip(("one", "two"), alone):
        assert last[f"{name}_loss"] == pytest.approx(loss, abs=1.1e-3)
        assert last[f"{name}_ppl"] == pytest.approx(2**loss, rel=1e-3)
    assert run.state("checkpoint_best.pt")["extra_state"]["best"] == last["two_ppl"]
    (a, n), (b, m) = alone
    assert last["loss"] == pytest.approx((a * n + b * m) / (n + m), abs=1.1e-3)


def test_teachers_in_validation(fairseq_train, data_bin, teacher, dense_stores, mixture, tmp_path):
    option = mixture(f"{{checkpoint: {teacher}}}")
    extra = f"{KI} --ki-steps 8 --max-update 2 --ki-valid-teacher "
    run = fairseq_train(
        data_bin, tmp_path / "run", extra + option, common=with_validation(fairseq_train)
    )
    assert float(run.valid[-1]["one_teacher_ppl"]) > 1
    assert run.valid[-1]["one_teacher_ppl"] == run.valid[-1]["ki_teacher_ppl"]
    option = mixture(f"{{checkpoint: {teacher}}}", f"{{store: {dense_stores['first', 'two']}}}")
    with pytest.raises(ValueError, match=r"--ki-valid-teacher.*line 3: domains\.two\.teachers\.0"):
        fairseq_train(data_bin, tmp_path / "no", extra + option)


@pytest.mark.parametrize("workers", [0, 2])
def test_resumed_equals_straight_through(
    fairseq_train, data_bin, second_bin, teacher, second_teacher, mixture, tmp_path, workers
):
    """23 updates an epoch: stopped mid-epoch twice, over two epoch ends; live and stored."""
    kept = "--encoding topk --k 5 --mask-epochs 2"
    store = capture(second_bin, second_teacher, tmp_path / "store", kept)
    option = mixture(f"{{checkpoint: {teacher}}}", f"{{store: {store}}}")
    extra = f"{KI} {option} --ki-steps 40 --num-workers {workers}"
    records = stopped_and_resumed(fairseq_train, data_bin, tmp_path, extra, (10, 30, 52), KEYS)
    assert {r["epoch"] for r in records} == {1, 2, 3}


def test_a_causal_mixture(fairseq_train, data_bin, second_bin, gpt, mixture, tmp_path, monkeypatch):
    """GPTs: sentences of many lengths, live like stored, resumed like straight through."""
    blocks = "--sample-break-mode eos --tokens-per-sample 30"
    store = capture(second_bin, gpt, tmp_path / "s", f"--task ki_lm --encoding dense {blocks}")
    extra = (
        f"{CAUSAL} --ki-steps 60 --max-target-positions 18 {blocks} --batch-size 16 "
        "--max-tokens 200 --skip-invalid-size-inputs-valid-test "
    )
    student, live = GPT.format(2, 32), f"{{checkpoint: {gpt}}}"
    logs, losses = record_logs(monkeypatch), {}
    for name, two in (("live", live), ("stored", f"{{store: {store}}}")):
        option = mixture(live, two, name=f"{name}.yaml")
        fairseq_train(data_bin, tmp_path / name, f"{extra} {option} --max-epoch 1", student)
        losses[name] = objectives(logs)
        logs.clear()
    assert len(losses["live"]) > 20
    assert losses["stored"] == pytest.approx(losses["live"], rel=1e-3)
    extra += f"{option} --num-workers 1"
    records = stopped_and_resumed(fairseq_train, data_bin, tmp_path, extra, (20, 60), KEYS, student)
    assert {r["epoch"] for r in records} >= {1, 2}


def test_the_end_releases_everything(
    fairseq_train, data_bin, second_bin, teacher, mixture, tmp_path, monkeypatch, caplog
):
    """Then neither teacher nor store nor file of them is needed, to go on or to resume."""
    small = tmp_path / "teacher"
    shutil.copytree(teacher.parent, small)
    store = capture(second_bin, teacher, tmp_path / "store", "--encoding topk --k 5")
    option = mixture(f"{{checkpoint: {small / teacher.name}}}", f"{{store: {store}}}")
    extra = f"{KI} {option} --ki-steps 4 --num-workers 0 --data-buffer-size 0 --max-update "
    stored_in_batch = []
    forward = KICriterion.forward

    def recording(self, model, sample, reduce=True):
        stored_in_batch.append(bool(sample[STORED]))
        if self.inheritance.update >= 4:
            assert self.inheritance.source is None
            assert not self.task._domain_stores
        return forward(self, model, sample, reduce)

    monkeypatch.setattr(KICriterion, "forward", recording)
    with caplog.at_level(logging.INFO):
        fairseq_train(data_bin, tmp_path / "run", extra + "8")
    assert "in one: live teacher" in caplog.text
    assert "in two: stored teacher" in caplog.text
    assert any(stored_in_batch[:4])
    assert not any(stored_in_batch[6:])  # one batch is read ahead
    shutil.rmtree(small)
    shutil.rmtree(store)
    resumed = fairseq_train(data_bin, tmp_path / "run", extra + "10")
    assert [r["num_updates"] for r in resumed.train] == ["9", "10"]
    with pytest.raises(ValueError, match=r"line 2: domains\.one\.teachers\.0: .*found none"):
        fairseq_train(data_bin, tmp_path / "new", extra + "10")


def test_a_student_lives_without_the_file(fairseq_train, data_bin, teacher, mixture, tmp_path):
    option = mixture(f"{{checkpoint: {teacher}}}")
    run = fairseq_train(data_bin, tmp_path / "run", f"{KI} {option} --ki-steps 4 --max-update 3")
    file = Path(option.split()[1])
    file.unlink()
    checkpoint = run.save_dir / "checkpoint_last.pt"
    assert validated(data_bin, checkpoint)[1] > 0
    hub = RobertaModel.from_pretrained(
        str(run.save_dir), checkpoint.name, str(data_bin), bpe="characters"
    )
    assert hub.model.encoder.lm_head.weight.size(0) == len(hub.task.source_dictionary)
    later = f"{KI} --ki-steps 4 --max-update 2"
    next_one = fairseq_train(data_bin, tmp_path / "next", f"{later} --ki-teacher {checkpoint}")
    assert float(next_one.train[0]["ki_rate"]) == 1
    tuned = fairseq_train(
        data_bin, tmp_path / "tuned", f"{KI} --max-update 2 --finetune-from-model {checkpoint}"
    )
    assert float(tuned.train[0]["loss"]) > 0
    with pytest.raises(YamlFileError, match=r"mixture\.yaml: expected a file"):
        fairseq_train(data_bin, tmp_path / "run", f"{KI} {option} --ki-steps 4 --max-update 5")


def test_adaptation_of_a_trained_student(fairseq_train, data_bin, teacher, mixture, tmp_path):
    """Domain teacher, replay and self-teaching: entries of the file. Silence is refused."""
    fairseq_train(data_bin, tmp_path / "start", f"{KI} --max-update 6")
    start = tmp_path / "start" / "checkpoint_last.pt"
    option = mixture(
        f"{{checkpoint: {start}}}", f"{{checkpoint: {teacher}}}, {{checkpoint: {start}}}"
    )
    adapt = f"{KI} {option} --ki-steps 4 --max-update 8"
    with pytest.raises(SystemExit, match="--reset-optimizer"):
        fairseq_train(data_bin, tmp_path / "silent", f"{adapt} --restore-file {start}")
    resets = "--reset-optimizer --reset-lr-scheduler --reset-meters --reset-dataloader"
    for begin in (f"--restore-file {start} {resets}", f"--finetune-from-model {start}"):
        run = fairseq_train(data_bin, tmp_path / begin.split()[0], f"{adapt} {begin} --dropout 0")
        first = run.train[0]
        assert float(first["ki_rate"]) == 1
        # of its own start the student knows everything: on domain one it agrees with itself
        assert float(first["one_agreement"]) == 1
        assert float(first["one_teacher_ppl"]) == pytest.approx(float(first["one_ppl"]), rel=1e-3)
        assert float(first["two_agreement"]) < 1


def test_all_teachers_go_when_they_are_surpassed_together(
    fairseq_train, data_bin, teacher, second_teacher, mixture, tmp_path
):
    """On the taught rows of all domains; a run resumed in the streak comes to the same end."""
    option = mixture(f"{{checkpoint: {teacher}}}", f"{{checkpoint: {second_teacher}}}")
    extra = (
        f"{KI} {option} --ki-schedule constant --ki-rate 0.1 --lr 1e-2 --ki-stop-when-surpassed "
        "--ki-surpassed-window 4 --max-update "
    )
    straight = fairseq_train(data_bin, tmp_path / "straight", extra + "60")
    rates = [float(r["ki_rate"]) for r in straight.train]
    let_go = rates.index(0)
    assert rates == [0.1] * let_go + [0.0] * (60 - let_go)
    fairseq_train(data_bin, tmp_path / "run", f"{extra}{let_go - 2}")
    resumed = fairseq_train(data_bin, tmp_path / "run", extra + "60")
    assert [float(r["ki_rate"]) for r in resumed.train] == rates[let_go - 2 :]


@pytest.mark.parametrize("causal", [False, True])
def test_data_gives_the_dictionary_alone(fairseq_train, data_bin, mixture, tmp_path, causal):
    (tmp_path / "data").mkdir()
    shutil.copy(data_bin / "dict.txt", tmp_path / "data")
    common, student = with_validation(fairseq_train), fairseq_train.__globals__["STUDENT"]
    run = fairseq_train(
        tmp_path / "data",
        tmp_path / "run",
        f"{CAUSAL if causal else KI} {mixture()} --max-update 2",
        GPT.format(1, 16) + " --max-target-positions 32" if causal else student,
        common,
    )
    assert float(run.valid[-1]["two_loss"]) > 0
    assert (run.save_dir / "dict.txt").read_text() == (data_bin / "dict.txt").read_text()
