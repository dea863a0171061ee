"""Equation 2 against a naive reference, for every kind of signal."""

import pytest
import torch
import torch.nn.functional as F

from fairseq_ki.objective.dense import dense_terms
from fairseq_ki.objective.signals import DenseSignal, HeadSignal, SparseSignal

N, V, D = 7, 23, 5


def equation_2(student, teacher, target, rate, tau):
    p = F.softmax(teacher.double() / tau, dim=-1)
    q = F.softmax(student.double() / tau, dim=-1)
    kl = (p * (p / q).log()).sum()
    ce = -F.log_softmax(student.double(), dim=-1)[range(len(target)), target].sum()
    return (1 - rate) * ce + rate * tau**2 * kl, ce, kl


@pytest.mark.parametrize("rate", [0.0, 0.3, 1.0])
@pytest.mark.parametrize("tau", [0.5, 1.0, 2.0])
def test_dense_and_head_signals(rate, tau):
    torch.manual_seed(0)
    student = (3 * torch.randn(N, V)).requires_grad_()
    head = HeadSignal(torch.randn(N, D), torch.randn(V, D), torch.randn(V))
    target = torch.randint(0, V, (N,))
    teacher = head.dense().logits
    expected, ce, kl = equation_2(student, teacher, target, rate, tau)
    for signal in (head, DenseSignal(teacher)):
        terms = dense_terms(student, target, signal, rate, tau)
        torch.testing.assert_close(terms.objective.double(), expected, rtol=1e-5, atol=1e-6)
        torch.testing.assert_close(terms.ce.double(), ce, rtol=1e-5, atol=1e-6)
        torch.testing.assert_close(terms.kl.double(), kl, rtol=1e-5, atol=1e-6)
        assert terms.agreement == (student.argmax(-1) == teacher.argmax(-1)).sum()
        nll = F.cross_entropy(teacher, target, reduction="sum")
        torch.testing.assert_close(terms.teacher_nll, nll)
        assert not terms.ce.requires_grad


def test_sparse_signal_that_keeps_everything_is_the_dense_one():
    torch.manual_seed(1)
    student, teacher = torch.randn(N, V), torch.randn(N, V)
    target = torch.randint(0, V, (N,))
    sparse = SparseSignal(
        ids=torch.arange(V).expand(N, V),
        probs=F.softmax(teacher / 2, dim=-1),
        target_log_prob=F.log_softmax(teacher, dim=-1)[range(N), target],
        top1=teacher.argmax(-1),
    )
    one = dense_terms(student, target, DenseSignal(teacher), 0.5, 2.0)
    two = dense_terms(student, target, sparse, 0.5, 2.0)
    for a, b in zip(one, two):
        torch.testing.assert_close(a, b)


def test_no_signal_is_self_learning():
    student = torch.randn(N, V, requires_grad=True)
    target = torch.randint(0, V, (N,))
    terms = dense_terms(student, target, None, 0.0, 2.0)
    assert terms.objective == F.cross_entropy(student, target, reduction="sum")
    assert terms.kl == terms.teacher_nll == terms.agreement == 0


def test_no_rows_give_zero_and_zero_gradients():
    student = torch.randn(0, V, requires_grad=True)
    empty = torch.empty(0, dtype=torch.long)
    terms = dense_terms(student, empty, DenseSignal(torch.randn(0, V)), 0.5, 2.0)
    terms.objective.backward()
    assert terms.objective == 0
    assert student.grad is not None
