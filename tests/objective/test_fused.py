"""The fused objective against the dense one: values, all gradients, and what it leaves undone."""

import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from naive_objective import EXACT, SIGNALS, check, gradients, reference, student, teacher
from torch.utils._python_dispatch import TorchDispatchMode

from fairseq_ki.objective import fused
from fairseq_ki.objective.dense import dense_terms
from fairseq_ki.objective.fused import fused_terms, prefer_fused
from fairseq_ki.objective.signals import DenseSignal, HeadSignal, SparseSignal


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(5)


@pytest.mark.parametrize("kind", SIGNALS)
@pytest.mark.parametrize("tau", [0.5, 1.0, 2.0, 7.0])
@pytest.mark.parametrize("rate", [0.0, 0.3, 1.0])
def test_equals_the_dense_form(kind, tau, rate):
    target = torch.randint(37, (13,))
    signal = teacher(kind, target, 37, tau)
    check(student(), target, signal, rate, tau, chunk_rows=5)


def test_agrees_with_dense_terms():
    inputs, target = student(dtype=torch.float32), torch.randint(37, (13,))
    for kind in (None, *SIGNALS):
        signal = teacher(kind, target, 37, 2.0, torch.float32) if kind else None
        dense = dense_terms(F.linear(*inputs), target, signal, 0.5 if kind else 0.0, 2.0)
        found = fused_terms(*inputs, target, signal, 0.5 if kind else 0.0, 2.0)
        for a, b in zip(found[:5], dense):
            torch.testing.assert_close(a, b.to(a.dtype))


@settings(max_examples=40, deadline=None)
@given(
    rows=st.integers(0, 20),
    vocab=st.integers(2, 60),
    chunk=st.integers(1, 25),
    block=st.integers(1, 400),
    kind=st.sampled_from(SIGNALS),
    bias=st.booleans(),
    tau=st.sampled_from([0.3, 1.0, 2.0, 3.0]),
    rate=st.floats(0, 1),
    seed=st.integers(0, 10**6),
)
def test_any_shape_and_any_chunk(rows, vocab, chunk, block, kind, bias, tau, rate, seed):
    torch.manual_seed(seed)
    target = torch.randint(vocab, (rows,))
    signal = teacher(kind, target, vocab, tau)
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(fused._BLOCK, "cpu", block)
        inputs = student(rows, vocab, bias=bias)
        check(inputs, target, signal, rate, tau, chunk_rows=chunk)


def test_without_a_signal_it_is_cross_entropy():
    inputs, target = student(), torch.randint(37, (13,))
    found = fused_terms(*inputs, target, None, 0.0, 2.0, chunk_rows=4)
    expected = F.cross_entropy(F.linear(*inputs), target, reduction="sum")
    torch.testing.assert_close(found.objective, expected)
    assert found.kl == found.teacher_nll == found.agreement == 0
    for a, b in zip(gradients(found.objective, inputs), gradients(expected, inputs)):
        torch.testing.assert_close(a, b, **EXACT)


@pytest.mark.parametrize("kind", [None, *SIGNALS])
@pytest.mark.parametrize("tau", [1.0, 2.0, 3.0])
def test_label_smoothing_is_the_papers(kind, tau):
    inputs, target = student(), torch.randint(37, (13,))
    signal = teacher(kind, target, 37, tau) if kind else None
    rate = 0.4 if kind else 0.0
    found = fused_terms(*inputs, target, signal, rate, tau, label_smoothing=0.2, chunk_rows=6)
    expected = reference(F.linear(*inputs), target, signal, rate, tau, 0.2)
    torch.testing.assert_close(found.objective, expected.objective)
    torch.testing.assert_close(found.ce, expected.ce)  # what is logged is not smoothed
    for a, b in zip(gradients(found.objective, inputs), gradients(expected.objective, inputs)):
        torch.testing.assert_close(a, b, **EXACT)


@pytest.mark.parametrize("kind", SIGNALS)
@pytest.mark.parametrize("tau", [1.0, 2.0, 3.0])
def test_gradcheck(kind, tau):
    target = torch.randint(6, (4,))
    signal, inputs = teacher(kind, target, 6, tau), student(4, 6, 3)

    def objective(*inputs):
        terms = fused_terms(*inputs, target, signal, 0.3, tau, label_smoothing=0.1, chunk_rows=3)
        return terms.objective

    assert torch.autograd.gradcheck(objective, inputs)


def test_weight_tied_to_an_embedding_gets_both_gradients():
    target, ids = torch.randint(37, (13,)), torch.randint(37, (13,))
    _, weight, bias = student()
    signal = teacher("head", target, 37, 2.0)
    expected, found = (
        gradients(objective, [weight, bias])
        for objective in (
            reference(F.linear(weight[ids], weight, bias), target, signal, 0.5, 2.0).objective,
            fused_terms(weight[ids], weight, bias, target, signal, 0.5, 2.0).objective,
        )
    )
    for a, b in zip(found[:5], expected):
        torch.testing.assert_close(a, b, **EXACT)


def test_gradients_accumulate_over_micro_batches_and_scale():
    inputs = student()
    total = [torch.zeros_like(x) for x in inputs]
    for _ in range(2):
        target = torch.randint(37, (13,))
        signal = teacher("head", target, 37, 2.0)
        (128.0 * fused_terms(*inputs, target, signal, 0.5, 2.0).objective).backward()
        dense = reference(F.linear(*inputs), target, signal, 0.5, 2.0).objective
        total = [t + 128.0 * g for t, g in zip(total, gradients(dense, inputs))]
    for x, expected in zip(inputs, total):
        torch.testing.assert_close(x.grad, expected, **EXACT)


def test_a_retained_graph_can_be_walked_again():
    inputs, target = student(), torch.randint(37, (13,))
    objective = fused_terms(*inputs, target, None, 0.0, 1.0).objective
    first = gradients(objective, inputs, retain_graph=True)
    second = gradients(3.0 * objective, inputs)
    for a, b in zip(first, second):
        torch.testing.assert_close(3.0 * a, b, **EXACT)


@pytest.mark.parametrize("kind", [None, *SIGNALS])
def test_no_rows_give_zero_and_zero_gradients_for_every_parameter(kind):
    _, weight, bias = student()
    inputs = [torch.randn(0, 7, dtype=torch.float64, requires_grad=True), weight, bias]
    target = torch.zeros(0, dtype=torch.long)
    terms = fused_terms(*inputs, target, teacher(kind, target, 37, 2.0) if kind else None, 0.5, 2.0)
    assert all(term == 0 for term in terms[:5])
    terms.objective.backward()
    for x in inputs:
        assert torch.equal(x.grad, torch.zeros_like(x))


def test_what_needs_no_gradient_costs_none(monkeypatch):
    inputs, target = student(), torch.randint(37, (13,))
    signal = teacher("head", target, 37, 2.0)
    expected = fused_terms(*inputs, target, signal, 0.5, 2.0)
    features = inputs[0]
    frozen = fused_terms(features, inputs[1].detach(), None, target, signal, 0.5, 2.0)
    (grad,) = torch.autograd.grad(frozen.objective, features)
    logits = F.linear(features, inputs[1].detach())
    dense = reference(logits, target, signal, 0.5, 2.0).objective
    torch.testing.assert_close(grad, torch.autograd.grad(dense, features)[0], **EXACT)

    def products(grad_CV, x, weight, here, grads):
        assert grads == [None, None, None]

    monkeypatch.setattr(fused, "_accumulate", products)
    with torch.no_grad():
        validation = fused_terms(*inputs, target, signal, 0.5, 2.0)
    assert not validation.objective.requires_grad
    for a, b in zip(validation[:5], expected):
        torch.testing.assert_close(a, b)


def test_only_the_objective_is_differentiable():
    terms = fused_terms(*student(), torch.randint(37, (13,)), None, 0.0, 1.0)
    assert [t.requires_grad for t in terms[:5]] == [True, False, False, False, False]


def test_identical_teacher_gives_zero_exactly():
    features, weight, bias = student(dtype=torch.float32)
    target = torch.randint(37, (13,))
    signal = HeadSignal(features.detach(), weight.detach(), bias.detach())
    for tau in (1.0, 2.0, 3.0):
        terms = fused_terms(features, weight, bias, target, signal, 1.0, tau)
        assert terms.kl == 0.0
        assert terms.agreement == 13
        torch.testing.assert_close(terms.ce, terms.teacher_nll)
        for grad in gradients(terms.objective, (features, weight, bias)):
            torch.testing.assert_close(grad, torch.zeros_like(grad), atol=1e-5, rtol=0)


@pytest.mark.parametrize("tau", [1.0, 2.0, 3.0])
def test_an_id_the_teacher_cannot_say(tau):
    inputs, target = student(), torch.full((13,), 2)
    signal = teacher("dense", target, 37, tau)
    signal.logits[:, 3] = -math.inf
    check(inputs, target, signal, 0.5, tau)


@pytest.mark.parametrize("kind", ["head", "topk", "tail"])
def test_no_block_of_all_rows_by_all_ids_ever_exists(kind):
    rows, vocab = 64, 50

    class Largest(TorchDispatchMode):
        numel = 0

        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            out = func(*args, **(kwargs or {}))
            for x in out if isinstance(out, (tuple, list)) else (out,):
                if isinstance(x, torch.Tensor):
                    self.numel = max(self.numel, x.numel())
            return out

    inputs, target = student(rows, vocab, dim=4), torch.randint(vocab, (rows,))
    signal = teacher(kind, target, vocab, 2.0)
    with Largest() as largest:
        gradients(fused_terms(*inputs, target, signal, 0.5, 2.0, chunk_rows=8).objective, inputs)
    assert largest.numel == 8 * vocab
    with Largest() as largest:
        gradients(reference(F.linear(*inputs), target, signal, 0.5, 2.0).objective, inputs)
    assert largest.numel == rows * vocab


def test_prefer_fused_only_with_many_rows():
    assert [prefer_fused(n) for n in (0, 1, 63, 64, 10_000)] == [False] * 3 + [True] * 2


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"target": torch.zeros(12).long()}, r"target: expected shape \(13,\), got \(12,\)"),
        ({"rate": 1.5}, r"rate: expected a number in \[0, 1\], got 1.5"),
        ({"rate": math.nan}, r"rate: expected a number in \[0, 1\], got nan"),
        ({"temperature": 0.0}, "temperature: expected a finite number above 0, got 0.0"),
        ({"label_smoothing": 1.0}, r"label smoothing: .* \[0, 1\), got 1.0"),
        ({"chunk_rows": 0}, "chunk_rows: expected 1 or more, got 0"),
        ({"signal": DenseSignal(torch.zeros(13, 36))}, r"\[13, 37\], got \[13, 36\]"),
        (
            {"signal": HeadSignal(torch.zeros(12, 5), torch.zeros(37, 5), None)},
            r"\[13, 37\], got \[12, 37\]",
        ),
        (
            {
                "signal": SparseSignal(
                    torch.zeros(13, 2).long(),
                    torch.zeros(13, 2),
                    torch.zeros(12),
                    torch.zeros(13).long(),
                )
            },
            r"target_log_prob: expected shape \(13,\), got \(12,\)",
        ),
    ],
)
def test_what_does_not_fit_is_refused(change, words):
    features, weight, bias = student()
    arguments = {"target": torch.zeros(13).long(), "signal": None, "rate": 0.5, "temperature": 2.0}
    with pytest.raises(ValueError, match=words):
        fused_terms(features, weight, bias, **(arguments | change))
