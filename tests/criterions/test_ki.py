"""Criterion ki: what it logs, where, and which tasks and numbers it takes."""

from types import SimpleNamespace

import pytest
import torch
from fairseq.logging import metrics
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from fairseq_ki.criterions._options import KICriterionConfig, build_inheritance
from fairseq_ki.criterions.ki import KICriterion

KI = "--task ki_mlm --criterion ki"


def test_it_needs_a_task_that_owns_a_teacher():
    task = SimpleNamespace(target_dictionary=None)
    with pytest.raises(ValueError, match=r"--task ki_mlm or ki_lm, found SimpleNamespace"):
        KICriterion(KICriterionConfig(), task)


def test_defaults_are_the_papers():
    inheritance = build_inheritance(KICriterionConfig(ki_steps=40000))
    assert inheritance.temperature == 2.0  # of the authors' code
    assert inheritance.schedule.alpha(0) == 1.0
    assert inheritance.schedule.alpha(20000) == 0.5
    constant = build_inheritance(KICriterionConfig(ki_schedule="constant"))
    assert constant.schedule.alpha(10**6) == 0.5


def test_metrics_are_means_per_row_in_bits():
    bit = torch.tensor(0.6931471805599453)
    log = {
        "loss": 8 * bit,
        "ntokens": 40,
        "nsentences": 2,
        "sample_size": 4,
        "ki_objective": 6 * bit,
        "ki_rate": 0.25 * 4,
        "ki_rows": 4,
        "ki_loss": 2 * bit,
        "ki_teacher_nll": 12 * bit,
        "ki_agreement": torch.tensor(3),
        "ki_student_nll": 8 * bit,
        "ki_teacher_seconds": 0.5,
        "ki_seconds": 2.0,
    }
    with metrics.aggregate() as logged:
        KICriterion.reduce_metrics([log, log])
    values = logged.get_smoothed_values()
    expected = {
        "loss": 2.0,
        "ppl": 4.0,
        "ki_objective": 1.5,
        "ki_rate": 0.25,
        "ki_loss": 0.5,
        "ki_teacher_ppl": 8.0,
        "ki_agreement": 0.75,
        "ki_teacher_share": 0.25,
    }
    assert {k: pytest.approx(float(v), abs=1e-3) for k, v in values.items()} == expected


def test_tensorboard_gets_the_same_scalars(fairseq_train, data_bin, teacher, tmp_path):
    logs = tmp_path / "tb"
    fairseq_train(
        data_bin,
        tmp_path / "run",
        f"{KI} --ki-teacher {teacher} --ki-steps 4 --max-update 3 --tensorboard-logdir {logs}",
    )
    events = EventAccumulator(str(logs / "train_inner")).Reload()
    assert {"loss", "ki_rate", "ki_loss", "ki_teacher_ppl"} <= set(events.Tags()["scalars"])
    assert [round(e.value, 4) for e in events.Scalars("ki_rate")] == [1.0, 0.75, 0.5]


def test_validation_is_self_learning_unless_asked(fairseq_train, data_bin, teacher, tmp_path):
    extra = f"{KI} --ki-teacher {teacher} --ki-steps 40 --max-update 4 "
    runs = [
        fairseq_train(
            data_bin, tmp_path / str(i), extra + more, common=_with_validation(fairseq_train)
        )
        for i, more in enumerate(["", "--ki-valid-teacher"])
    ]
    plain, with_teacher = (run.valid[-1] for run in runs)
    assert plain["loss"] == with_teacher["loss"]
    assert float(plain["ki_teacher_ppl"]) == 0
    assert float(with_teacher["ki_teacher_ppl"]) > 1


def _with_validation(train) -> str:
    return train.__globals__["COMMON"].replace("--disable-validation", "")


@pytest.mark.parametrize("precision", ["--bf16", ""])
def test_the_teacher_follows_the_students_type(
    fairseq_train, data_bin, teacher, tmp_path, precision
):
    run = fairseq_train(
        data_bin, tmp_path, f"{KI} --ki-teacher {teacher} --ki-steps 40 --max-update 6 {precision}"
    )
    assert float(run.train[-1]["ki_loss"]) < float(run.train[0]["ki_loss"])
