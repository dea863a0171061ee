import math

import pytest
import torch
from fairseq.criterions.label_smoothed_cross_entropy import label_smoothed_nll_loss
from torch import Tensor

from fairseq_ki.objective.divergence import (
    dense_kl,
    inheritance_objective,
    renormalised_topk,
    smoothed_cross_entropy,
    sparse_kl,
    tail_kl,
    target_log_prob,
    top1_agreement,
)

# Worked out apart from this package, in python floats.
FROZEN = {
    "dense 1": 2.011406478,
    "dense 2": 0.709064934,
    "sparse": 2.262768731,
    "tail": 1.061761949,
    "smooth": 3.309132466,
}

TAUS = (0.5, 1.0, 2.0, 7.0)


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(3)


def pair(rows=5, vocab=11, dtype=torch.float64):
    make = lambda: (3 * torch.randn(rows, vocab, dtype=torch.float64)).to(dtype)  # noqa: E731
    return make().requires_grad_(), make()


def sparse_target(teacher: Tensor, k: int, tau: float):
    probs, ids = torch.softmax(teacher / tau, -1).topk(k)
    return ids, probs


# Naive references: loops over rows and python floats, nothing shared with the code under test.


def naive_softmax(row, tau):
    weights = [math.exp(x / tau) for x in row]
    return [w / sum(weights) for w in weights]


def naive_dense(student, teacher, tau):
    rows = [
        (naive_softmax(s, tau), naive_softmax(t, tau))
        for s, t in zip(student.tolist(), teacher.tolist(), strict=True)
    ]
    return sum(p * math.log(p / q) for qs, ps in rows for q, p in zip(qs, ps, strict=True))


def naive_sparse(student, ids, probs, tau):
    total = 0.0
    for s, row_ids, row_probs in zip(student.tolist(), ids.tolist(), probs.tolist(), strict=True):
        q = naive_softmax(s, tau)
        total += sum(p * math.log(p / q[i]) for i, p in zip(row_ids, row_probs, strict=True) if p)
    return total


def naive_tail(student, ids, probs, tail, tau):
    total = naive_sparse(student, ids, probs, tau)
    for s, row_ids, row_probs, t in zip(
        student.tolist(), ids.tolist(), probs.tolist(), tail.tolist(), strict=True
    ):
        q = naive_softmax(s, tau)
        listed = {i for i, p in zip(row_ids, row_probs, strict=True) if p}
        if t:
            total += t * math.log(t / sum(x for i, x in enumerate(q) if i not in listed))
    return total


@pytest.mark.parametrize("tau", TAUS)
def test_dense_against_naive_and_analytic_gradient(tau):
    student, teacher = pair()
    kl = dense_kl(student, teacher, tau)
    assert kl.item() == pytest.approx(naive_dense(student, teacher, tau), rel=1e-12)
    (grad,) = torch.autograd.grad(kl, student)
    expected = (torch.softmax(student / tau, -1) - torch.softmax(teacher / tau, -1)) / tau
    torch.testing.assert_close(grad, expected)


@pytest.mark.parametrize("tau", TAUS)
def test_sparse_against_naive_and_analytic_gradient(tau):
    student, teacher = pair()
    ids, probs = sparse_target(teacher, 4, tau)
    probs[:, 3] = 0.0  # padding may carry any id
    ids[:, 3] = ids[:, 0]
    kl = sparse_kl(student, ids, probs, tau)
    assert kl.item() == pytest.approx(naive_sparse(student, ids, probs, tau), rel=1e-12)
    (grad,) = torch.autograd.grad(kl, student)
    dense = torch.zeros_like(teacher).scatter_add_(1, ids, probs)
    expected = (probs.sum(-1, keepdim=True) * torch.softmax(student / tau, -1) - dense) / tau
    torch.testing.assert_close(grad, expected)


@pytest.mark.parametrize("tau", TAUS)
def test_tail_against_naive_and_gradcheck(tau):
    student, teacher = pair()
    ids, probs = sparse_target(teacher, 4, tau)
    probs[:2, 3] = 0.0
    ids[:2, 3] = ids[:2, 0]
    tail = 1 - probs.sum(-1)
    tail[4] = 0.0
    kl = tail_kl(student, ids, probs, tail, tau)
    assert kl.item() == pytest.approx(naive_tail(student, ids, probs, tail, tau), rel=1e-12)
    assert torch.autograd.gradcheck(lambda s: tail_kl(s, ids, probs, tail, tau), student)


@pytest.mark.parametrize("tau", TAUS)
def test_k_equal_to_the_vocabulary_is_dense(tau):
    student, teacher = pair()
    ids, probs = sparse_target(teacher, teacher.shape[1], tau)
    dense = dense_kl(student, teacher, tau)
    (dense_grad,) = torch.autograd.grad(dense, student)
    for kl in (
        sparse_kl(student, ids, probs, tau),
        tail_kl(student, ids, probs, torch.zeros(5).double(), tau),
        tail_kl(student, ids, probs, torch.full((5,), 1e-7).double(), tau),  # rounded up
    ):
        torch.testing.assert_close(kl, dense)
        torch.testing.assert_close(torch.autograd.grad(kl, student)[0], dense_grad)


def test_identical_teacher_gives_zero_and_no_gradient():
    student, _ = pair(dtype=torch.float32)
    teacher = student.detach().clone()
    kl = dense_kl(student, teacher, 2.0)
    assert kl.item() == 0.0
    ids, probs = sparse_target(teacher, 4, 2.0)
    with_tail = tail_kl(student, ids, probs, 1 - probs.sum(-1), 2.0)
    assert with_tail.item() == pytest.approx(0.0, abs=1e-5)
    for loss in (kl, with_tail):
        (grad,) = torch.autograd.grad(loss, student)
        torch.testing.assert_close(grad, torch.zeros_like(grad), atol=1e-6, rtol=0)


def test_renormalised_identical_top_k_is_the_mass_the_student_puts_elsewhere():
    # KL(renormalised top-K of q || q) = -log(mass of q on the K): the bias of the paper's form
    student, _ = pair()
    log_probs, ids = torch.log_softmax(student.detach(), -1).topk(4)
    kl = sparse_kl(student, ids, renormalised_topk(log_probs, 1.0), 1.0)
    assert kl.item() == pytest.approx(-log_probs.logsumexp(-1).sum().item(), rel=1e-12)


def test_no_rows_give_zero_and_zero_gradients():
    student = torch.randn(6, 9, requires_grad=True)
    none = student[torch.zeros(6, dtype=torch.bool)]
    ids, probs = torch.zeros(0, 3, dtype=torch.long), torch.zeros(0, 3)
    losses = [
        dense_kl(none, torch.zeros(0, 9), 2.0),
        sparse_kl(none, ids, probs, 2.0),
        tail_kl(none, ids, probs, torch.zeros(0), 2.0),
        smoothed_cross_entropy(none, torch.zeros(0, dtype=torch.long), 0.1),
    ]
    for loss in losses:
        assert loss.item() == 0.0
        (grad,) = torch.autograd.grad(loss, student, retain_graph=True)
        assert torch.equal(grad, torch.zeros_like(grad))


def test_frozen_numbers():
    student = torch.tensor([[0.0, 1.0, 2.0, -1.0], [0.5, 0.5, 0.5, 0.5]])
    teacher = torch.tensor([[2.0, 0.0, 1.0, 1.0], [3.0, -3.0, 0.0, 0.0]])
    assert dense_kl(student, teacher, 1.0).item() == pytest.approx(FROZEN["dense 1"], rel=1e-6)
    assert dense_kl(student, teacher, 2.0).item() == pytest.approx(FROZEN["dense 2"], rel=1e-6)
    ids = torch.tensor([[0, 2], [0, 0]])
    probs = torch.tensor([[0.7, 0.3], [1.0, 0.0]])
    assert sparse_kl(student, ids, probs, 2.0).item() == pytest.approx(FROZEN["sparse"], rel=1e-6)
    part, tail = 0.8 * probs, torch.tensor([0.2, 0.2])
    assert tail_kl(student, ids, part, tail, 2.0).item() == pytest.approx(FROZEN["tail"], rel=1e-6)
    smooth = smoothed_cross_entropy(student, torch.tensor([1, 3]), 0.3)
    assert smooth.item() == pytest.approx(FROZEN["smooth"], rel=1e-6)


@pytest.mark.parametrize("rows", [1, 64])
@pytest.mark.parametrize("tau", [0.5, 2.0, 8.0, 100.0])
def test_float32_is_the_formula_to_a_hundred_thousandth(tau, rows):
    student, teacher = pair(rows, 1000, torch.float32)
    exact = dense_kl(student.double(), teacher.double(), tau)
    value = dense_kl(student, teacher, tau)
    assert value.dtype == torch.float32
    assert value.item() == pytest.approx(exact.item(), rel=1e-5)


@pytest.mark.parametrize("tau", [1e-2, 1e3])
def test_extreme_temperatures_stay_finite_and_right(tau):
    student, teacher = pair(dtype=torch.float32)
    ids, probs = sparse_target(teacher, 4, tau)
    tail = (1 - probs.double().sum(-1)).clamp_min(0).float()
    for loss, args in (
        (dense_kl, (teacher, tau)),
        (sparse_kl, (ids, probs, tau)),
        (tail_kl, (ids, probs, tail, tau)),
    ):
        value = loss(student, *args)
        exact = loss(student.double(), *(x.double() if _is_float(x) else x for x in args))
        assert value.item() == pytest.approx(exact.item(), rel=2e-4, abs=2e-6)
        (grad,) = torch.autograd.grad(value, student)
        assert torch.isfinite(grad).all()


def _is_float(x) -> bool:
    return isinstance(x, Tensor) and x.is_floating_point()


def test_tail_is_exact_where_one_minus_the_sum_would_round_to_zero():
    student = torch.tensor([[60.0, 0.0, 0.0]], requires_grad=True)
    kl = tail_kl(student, torch.tensor([[0]]), torch.tensor([[0.5]]), torch.tensor([0.5]), 1.0)
    assert kl.item() == pytest.approx(math.log(0.5) - 0.5 * (math.log(2) - 60), rel=1e-6)
    (grad,) = torch.autograd.grad(kl, student)
    torch.testing.assert_close(grad, torch.tensor([[0.5, -0.25, -0.25]]))


def test_an_id_the_teacher_cannot_say_counts_nothing():
    student, teacher = pair()
    teacher[:, 3] = -math.inf
    keep = [i for i in range(11) if i != 3]
    kl = dense_kl(student, teacher, 2.0)
    q, p = torch.log_softmax(student / 2, -1)[:, keep], torch.softmax(teacher / 2, -1)[:, keep]
    torch.testing.assert_close(kl, (p * (p.log() - q)).sum())
    (grad,) = torch.autograd.grad(kl, student)
    assert torch.isfinite(grad).all()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_inputs_are_accumulated_in_float32(dtype):
    student, teacher = pair(rows=64, vocab=500, dtype=dtype)
    student = student.detach().requires_grad_()
    ids, probs = sparse_target(teacher.float(), 10, 2.0)
    target = torch.randint(500, (64,))
    pairs = [
        (dense_kl(student, teacher, 2.0), dense_kl(student.double(), teacher.double(), 2.0)),
        (sparse_kl(student, ids, probs, 2.0), sparse_kl(student.double(), ids, probs.double(), 2)),
        (
            smoothed_cross_entropy(student, target, 0.1),
            smoothed_cross_entropy(student.double(), target, 0.1),
        ),
    ]
    for value, exact in pairs:
        assert value.dtype == torch.float32
        assert value.item() == pytest.approx(exact.item(), rel=1e-5)
    assert torch.autograd.grad(pairs[0][0], student)[0].dtype == dtype
    assert target_log_prob(student, target).dtype == torch.float32


@pytest.mark.parametrize("tau", [1.0, 2.0])
def test_objective_is_equation_2(tau):
    ce, kl = torch.tensor(3.0), torch.tensor(0.7)
    assert inheritance_objective(ce, kl, 0.0, tau).item() == 3.0
    assert inheritance_objective(ce, kl, 1.0, tau).item() == pytest.approx(0.7 * tau**2)
    assert inheritance_objective(ce, kl, 0.25, tau).item() == pytest.approx(
        0.75 * 3.0 + 0.25 * tau**2 * 0.7
    )


@pytest.mark.parametrize("tau", TAUS)
def test_top_k_at_temperature_one_serves_every_temperature(tau):
    _, teacher = pair()
    log_probs, ids = torch.log_softmax(teacher, -1).topk(4)
    at_tau = torch.softmax(teacher / tau, -1).gather(1, ids)
    expected = at_tau / at_tau.sum(-1, keepdim=True)
    torch.testing.assert_close(renormalised_topk(log_probs, tau), expected)


def test_top_k_padding_and_half_values():
    log_probs = torch.tensor([[-0.1, -3.0, -math.inf], [-math.inf] * 3], dtype=torch.float16)
    probs = renormalised_topk(log_probs, 2.0)
    assert probs.dtype == torch.float32
    assert probs[0].sum().item() == pytest.approx(1.0)
    assert probs[0, 2] == 0
    assert torch.equal(probs[1], torch.zeros(3))


def test_smoothing_is_the_papers_printed_form_and_not_fairseqs():
    logits, _ = pair()
    target, vocab, eps = torch.tensor([0, 3, 3, 10, 7]), 11, 0.3
    expected = 0.0
    for row, right in zip(logits.tolist(), target.tolist(), strict=True):
        for i, q in enumerate(naive_softmax(row, 1.0)):
            expected -= ((1 - eps) * (i == right) + eps / (vocab - 1)) * math.log(q)
    value = smoothed_cross_entropy(logits, target, eps)
    assert value.item() == pytest.approx(expected, rel=1e-12)
    # fairseq leaves eps / (K - 1) out on the right id
    fairseq, nll = label_smoothed_nll_loss(torch.log_softmax(logits, -1), target.unsqueeze(1), eps)
    torch.testing.assert_close(fairseq, value - eps / (vocab - 1) * nll)
    assert torch.autograd.gradcheck(lambda z: smoothed_cross_entropy(z, target, eps), logits)
    plain = torch.nn.functional.cross_entropy(logits, target, reduction="sum")
    torch.testing.assert_close(smoothed_cross_entropy(logits, target, 0.0), plain)


def test_agreement_and_target_log_prob():
    logits = torch.tensor([[0.0, 5.0], [2.0, 1.0], [0.0, 1.0]])
    assert top1_agreement(logits, torch.tensor([1, 1, 1])).item() == 2
    expected = torch.log_softmax(logits, -1)[torch.arange(3), torch.tensor([0, 1, 1])]
    torch.testing.assert_close(target_log_prob(logits, torch.tensor([0, 1, 1])), expected)


@pytest.mark.parametrize("tau", [0.0, -1.0, math.nan, math.inf])
def test_wrong_temperature_is_refused(tau):
    student, teacher = pair()
    with pytest.raises(ValueError, match=f"above 0, got {tau}"):
        dense_kl(student, teacher, tau)
    with pytest.raises(ValueError, match="temperature"):
        renormalised_topk(teacher, tau)


def test_wrong_shapes_are_refused_with_both():
    student, teacher = pair()
    with pytest.raises(ValueError, match=r"\(5, 11\), got \(5, 10\)"):
        dense_kl(student, teacher[:, :10], 1.0)
    with pytest.raises(ValueError, match=r"\(5, K\), got ids \(5, 2\) and probs \(5, 3\)"):
        sparse_kl(student, torch.zeros(5, 2).long(), torch.zeros(5, 3), 1.0)
    with pytest.raises(ValueError, match=r"shape \(5,\), got \(4,\)"):
        tail_kl(student, torch.zeros(5, 2).long(), torch.zeros(5, 2), torch.zeros(4), 1.0)
    with pytest.raises(ValueError, match=r"\[0, 1\), got 1.0"):
        smoothed_cross_entropy(student, torch.zeros(5).long(), 1.0)
