"""Batches and temperatures at the edges of what can happen train on, in finite numbers."""

import math

import pytest

from fairseq_ki.criterions.ki import KICriterion

KI = "--task ki_mlm --criterion ki"
LOGGED = ("loss", "ki_objective", "ki_loss", "ki_teacher_ppl", "ki_agreement", "gnorm")


def check(run, updates: int) -> None:
    assert len(run.train) == updates
    assert all(math.isfinite(float(r[key])) for r in run.train for key in LOGGED)
    assert all(weight.isfinite().all() for weight in run.state()["model"].values())


def test_batches_with_one_masked_token_or_none(
    fairseq_train, data_bin, teacher, tmp_path, monkeypatch
):
    rows, forward = [], KICriterion.forward

    def counting(self, model, sample, reduce=True):
        loss, count, log = forward(self, model, sample, reduce)
        rows.append(count)
        return loss, count, log

    monkeypatch.setattr(KICriterion, "forward", counting)
    sparse = "--mask-prob 0.03 --batch-size 1 --required-batch-size-multiple 1"
    run = fairseq_train(
        data_bin,
        tmp_path,
        f"{KI} --ki-teacher {teacher} --ki-steps 20 --max-update 25 {sparse} "
        "--ki-stop-when-surpassed --ki-surpassed-window 2",
    )
    assert {0, 1} <= set(rows)
    check(run, 25)


def test_every_token_masked(fairseq_train, data_bin, teacher, tmp_path):
    masks = "--mask-prob 0.999 --leave-unmasked-prob 0 --random-token-prob 0"
    run = fairseq_train(
        data_bin, tmp_path, f"{KI} --ki-teacher {teacher} --ki-steps 4 --max-update 6 {masks}"
    )
    check(run, 6)


@pytest.mark.parametrize("temperature", ["1e-3", "1e4"])
def test_temperatures_far_too_low_and_too_high(
    fairseq_train, data_bin, teacher, tmp_path, temperature
):
    run = fairseq_train(
        data_bin,
        tmp_path,
        f"{KI} --ki-teacher {teacher} --ki-steps 4 --max-update 6 --ki-temperature {temperature} "
        "--batch-size 16",
    )
    check(run, 6)
    assert float(run.train[0]["ki_rate"]) == 1  # the teacher alone
    assert float(run.train[-1]["ki_rate"]) == 0  # the text alone
