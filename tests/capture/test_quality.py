"""The audit's measures, against numbers that can be checked by hand."""

import math

import pytest
import torch

from fairseq_ki.capture.quality import (
    SMOOTHING,
    angle,
    calibration_error,
    logit_gradient,
    smoothed_kl,
    target_distribution,
)
from fairseq_ki.objective.signals import DenseSignal, SparseSignal


def sparse(ids, probs, tail=None):
    n = len(ids)
    return SparseSignal(
        torch.tensor(ids), torch.tensor(probs), torch.zeros(n), torch.zeros(n).long(),
        None if tail is None else torch.tensor(tail),
    )  # fmt: skip


def test_target_distributions():
    logits = torch.tensor([[0.0, 2.0, 4.0]])
    dense = target_distribution(DenseSignal(logits), 3, temperature=2.0)
    torch.testing.assert_close(dense, torch.softmax(logits / 2, 1))
    kept = target_distribution(sparse([[2, 0]], [[0.75, 0.25]]), 4, 1.0)
    assert kept.tolist() == [[0.25, 0.0, 0.75, 0.0]]
    # padding names an id that another column may carry
    padded = target_distribution(sparse([[2, 0, 0]], [[0.5, 0.5, 0.0]]), 4, 1.0)
    assert padded.tolist() == [[0.5, 0.0, 0.5, 0.0]]
    tailed = target_distribution(sparse([[2]], [[0.7]], [0.3]), 4, 1.0)
    torch.testing.assert_close(tailed, torch.tensor([[0.1, 0.1, 0.7, 0.1]]))


def test_kl_is_finite_where_ids_were_not_kept():
    full = torch.tensor([[0.5, 0.25, 0.25, 0.0]])
    assert float(smoothed_kl(full, full)) == pytest.approx(0, abs=2 * SMOOTHING)
    half = smoothed_kl(full, torch.tensor([[1.0, 0.0, 0.0, 0.0]]))
    by_hand = 0.5 * math.log(0.5 / (1 - SMOOTHING * 3 / 4)) + 0.5 * math.log(0.25 / (SMOOTHING / 4))
    assert float(half) == pytest.approx(by_hand, rel=1e-5)


def test_calibration_error():
    # sure at 0.9 and right half of the time; at 0.5 and right half of the time
    confidence = torch.tensor([0.9, 0.9, 0.5, 0.5])
    right = torch.tensor([True, False, True, False])
    assert calibration_error(confidence, right) == pytest.approx(0.2, abs=1e-6)
    assert calibration_error(torch.tensor([1.0]), torch.tensor([True])) == 0


def test_angles():
    x, y = torch.tensor([[1.0, 0], [1, 0], [1, 1], [0, 0]]), torch.eye(2)
    found = angle(x, torch.stack([y[0], y[1], y[0], torch.zeros(2)]))
    torch.testing.assert_close(found.float(), torch.tensor([0.0, 90, 45, 0]), rtol=0, atol=1e-3)


def test_the_gradient_is_student_minus_teacher():
    """With tau: tau * (softmax(z / tau) - target), Equation 2 at rate 1."""
    student = torch.randn(3, 7, generator=torch.Generator().manual_seed(0))
    teacher = torch.randn(3, 7, generator=torch.Generator().manual_seed(1))
    found = logit_gradient(student, torch.zeros(3).long(), DenseSignal(teacher), 2.0)
    expected = 2 * (torch.softmax(student / 2, 1) - torch.softmax(teacher / 2, 1))
    torch.testing.assert_close(found, expected)
