"""Mixtures of teachers against the mean of their soft-maxes, written out."""

import pytest
import torch
import torch.nn.functional as F

from fairseq_ki.objective.dense import dense_terms
from fairseq_ki.objective.fused import fused_terms
from fairseq_ki.objective.mixing import mix
from fairseq_ki.objective.signals import DenseSignal, HeadSignal, MixedSignal, SparseSignal

ROWS, VOCAB = 13, 29
EXACT = {"rtol": 1e-9, "atol": 1e-11}
SINGLE = {"rtol": 1e-6, "atol": 1e-6}  # the dense form's cross-entropy is in float32
WEIGHTS = (1.0, 0.5, 2.5)


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(3)


def logits(*shape):
    return 2 * torch.randn(*shape, dtype=torch.float64)


def signal_and_probs(kind, target, tau):
    """A teacher, its probabilities in full: at tau, and of the right ids at 1; its first ids."""
    if kind == "head":
        signal = HeadSignal(logits(ROWS, 5), logits(VOCAB, 5), logits(VOCAB))
        said = signal.features @ signal.weight.T + signal.bias
    else:
        said = logits(ROWS, VOCAB)
        signal = DenseSignal(said)
    probs = torch.softmax(said / tau, -1)
    right = torch.softmax(said, -1).gather(1, target.unsqueeze(1)).squeeze(1)
    if kind == "sparse":
        kept, ids = probs.topk(6)
        kept[::3, -1] = 0.0  # padding carries any id
        ids[::3, -1] = ids[::3, 0]
        kept = kept / kept.sum(-1, keepdim=True)
        signal = SparseSignal(ids, kept, right.log(), said.argmax(-1))
        probs = torch.zeros_like(probs).scatter_add_(1, ids, kept)
    return signal, probs, right, said.argmax(-1)


@pytest.mark.parametrize("others", [(), ("dense",), ("sparse",), ("sparse", "head")])
def test_agreement_where_a_teacher_is_known_by_draws(others):
    """A few draws seldom tell the first id; the store does, and the heaviest teacher is asked."""
    target = torch.randint(VOCAB, (ROWS,))
    said, eye = logits(ROWS, VOCAB), torch.eye(VOCAB, dtype=torch.float64)
    draws = torch.multinomial(torch.softmax(said, -1), 3, replacement=True)
    drawn = SparseSignal(draws, torch.full((ROWS, 3), 1 / 3), said[:, 0], said.argmax(-1))
    signal = mix(
        [drawn, *(signal_and_probs(kind, target, 1.0)[0] for kind in others)],
        [1.0, 0.9, 0.9][: 1 + len(others)],
    )
    for terms in (
        dense_terms(said, target, signal, 0.5, 1.0, skip_bad_rows=True),
        fused_terms(said, eye, None, target, signal, 0.5, 1.0, skip_bad_rows=True, chunk_rows=5),
    ):
        assert int(terms.agreement) == ROWS


@pytest.mark.parametrize("bad", [torch.inf, torch.nan])
@pytest.mark.parametrize("skip", [False, True])
def test_a_teacher_of_no_numbers_is_not_covered_up(bad, skip):
    student = logits(ROWS, VOCAB).requires_grad_()
    target = torch.randint(VOCAB, (ROWS,))
    said = [logits(ROWS, VOCAB) for _ in range(2)]
    said[0][4, 7] = bad
    signal = mix([DenseSignal(z) for z in said], WEIGHTS[:2])
    eye = torch.eye(VOCAB, dtype=torch.float64)
    for terms in (
        dense_terms(student, target, signal, 0.5, 2.0, skip_bad_rows=skip),
        fused_terms(student, eye, None, target, signal, 0.5, 2.0, skip_bad_rows=skip),
    ):
        assert terms.bad_rows.nonzero().flatten().tolist() == [4]
        assert bool(terms.objective.isfinite()) is skip


def naive(student, target, teachers, rate, tau):
    weights = torch.tensor(WEIGHTS[: len(teachers)], dtype=torch.float64)
    weights = weights / weights.sum()
    p = sum(w * probs for w, (_, probs, *_) in zip(weights, teachers))
    right = sum(w * right for w, (_, _, right, _) in zip(weights, teachers))
    ce = F.cross_entropy(student, target, reduction="sum")
    kl = (torch.xlogy(p, p) - p * torch.log_softmax(student / tau, -1)).sum()
    first = p.argmax(-1)
    if any(isinstance(signal, SparseSignal) for signal, *_ in teachers):
        heaviest = int(weights.argmax())
        first = teachers[heaviest][3]
    agreement = (first == student.argmax(-1)).sum()
    return (1 - rate) * ce + rate * tau**2 * kl, ce, kl, -right.log().sum(), agreement


@pytest.mark.parametrize("tau", [0.7, 1.0, 2.0, 5.0])
@pytest.mark.parametrize(
    "kinds",
    [
        ("head", "head"),
        ("dense", "head"),
        ("head", "sparse"),
        ("sparse", "dense", "head"),
        ("sparse", "sparse"),
        ("sparse", "sparse", "sparse"),
    ],
)
def test_both_forms_equal_the_mean_of_soft_maxes(kinds, tau):
    features = logits(ROWS, 7).requires_grad_()
    weight, bias = logits(VOCAB, 7).requires_grad_(), logits(VOCAB).requires_grad_()
    target, rate = torch.randint(VOCAB, (ROWS,)), 0.6
    teachers = [signal_and_probs(kind, target, tau) for kind in kinds]
    signal = mix([t[0] for t in teachers], WEIGHTS[: len(kinds)])
    assert isinstance(signal, SparseSignal if set(kinds) == {"sparse"} else MixedSignal)
    expected = naive(F.linear(features, weight, bias), target, teachers, rate, tau)
    inputs = (features, weight, bias)
    gradients = torch.autograd.grad(expected[0], inputs)
    dense = dense_terms(F.linear(*inputs), target, signal, rate, tau)
    fused = fused_terms(*inputs, target, signal, rate, tau, chunk_rows=5)
    for found, tolerance in ((dense, SINGLE), (fused, EXACT)):
        for a, b in zip(found, expected):
            torch.testing.assert_close(a, b.to(a.dtype), **tolerance)
        for a, b in zip(torch.autograd.grad(found.objective, inputs), gradients):
            torch.testing.assert_close(a, b, **tolerance)


def test_it_is_no_mixture_of_logits():
    """Two sure teachers of other minds leave both possible; their mean logits would be flat."""
    sure = torch.full((2, 1, 4), -20.0)
    sure[0, 0, 1] = sure[1, 0, 2] = 20.0
    signal = mix([DenseSignal(s) for s in sure], [3.0, 1.0])
    student = torch.log(torch.tensor([[1e-9, 0.75, 0.25, 1e-9]]))
    assert float(dense_terms(student, torch.tensor([1]), signal, 1.0, 1.0).kl) < 1e-6


def test_a_teacher_mixed_with_itself_changes_nothing():
    target = torch.randint(VOCAB, (ROWS,))
    student = logits(ROWS, VOCAB)
    for kind in ("head", "sparse"):
        one = signal_and_probs(kind, target, 2.0)[0]
        twice = dense_terms(student, target, mix([one, one], [0.2, 5.0]), 0.5, 2.0)
        once = dense_terms(student, target, one, 0.5, 2.0)
        for a, b in zip(twice, once):
            torch.testing.assert_close(a, b, rtol=1e-6, atol=1e-6)
        assert mix([one], [0.1]) is one


def test_half_precision_teachers_agree_in_both_forms():
    target, inputs = torch.randint(VOCAB, (ROWS,)), [logits(ROWS, 7), logits(VOCAB, 7), None]
    inputs = [x if x is None else x.to(torch.bfloat16) for x in inputs]
    head = HeadSignal(*(x.to(torch.bfloat16) for x in (logits(ROWS, 5), logits(VOCAB, 5))), None)
    sparse = signal_and_probs("sparse", target, 2.0)[0]
    signal = mix([head, sparse], [1.0, 1.0])
    fused = fused_terms(*inputs, target, signal, 0.5, 2.0)
    dense = dense_terms(F.linear(*inputs[:2]), target, signal, 0.5, 2.0)
    for a, b in zip(fused, dense):
        torch.testing.assert_close(a.double(), b.double(), rtol=0.02, atol=1.5)


def test_no_rows():
    none = torch.zeros(0, dtype=torch.long)
    sparse = SparseSignal(none.view(0, 3), torch.zeros(0, 3), torch.zeros(0), none)
    for other in (sparse, DenseSignal(torch.zeros(0, VOCAB))):
        signal = mix([sparse, other], [1, 1])
        assert float(dense_terms(torch.zeros(0, VOCAB), none, signal, 1.0, 2.0).objective) == 0
        inputs = torch.zeros(0, 4), torch.zeros(VOCAB, 4), None
        assert float(fused_terms(*inputs, none, signal, 1.0, 2.0).objective) == 0


@pytest.mark.parametrize("weights", [[1.0], [1.0, 0.0], [1.0, -1.0], [1.0, float("nan")]])
def test_weights_that_make_no_mixture(weights):
    signal = DenseSignal(logits(2, VOCAB))
    with pytest.raises(ValueError, match="weight"):
        mix([signal, signal], weights)


def test_tails_are_not_mixed():
    target = torch.randint(VOCAB, (ROWS,))
    one = signal_and_probs("sparse", target, 1.0)[0]
    tailed = SparseSignal(one.ids, one.probs, one.target_log_prob, one.top1, torch.zeros(ROWS))
    assert mix([tailed], [1.0]).tail is not None
    with pytest.raises(ValueError, match="tail"):
        mix([one, tailed], [1.0, 1.0])
