"""The fused objective against the dense one: values, all gradients, and what it leaves undone."""

import math
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils._python_dispatch import TorchDispatchMode

from fairseq_ki.objective import fused
from fairseq_ki.objective.dense import Terms, dense_terms
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
from fairseq_ki.objective.fused import fused_terms, prefer_fused
from fairseq_ki.objective.signals import DenseSignal, HeadSignal, SparseSignal

SIGNALS = ("head", "dense", "topk", "sampled", "tail")
SUMS = Terms._fields[:5]
EXACT = {"rtol": 1e-10, "atol": 1e-12}


def student(rows=13, vocab=37, dim=7, bias=True, dtype=torch.float64):
    make = lambda *shape: torch.randn(*shape, dtype=torch.float64).to(dtype).requires_grad_()  # noqa: E731
    return [make(rows, dim), make(vocab, dim), make(vocab) if bias else None]


def teacher(kind, target, vocab, tau, dtype=torch.float64):
    rows = len(target)
    head = HeadSignal(*(torch.randn(s, dtype=dtype) for s in ((rows, 5), (vocab, 5), (vocab,))))
    if kind == "head":
        return head
    logits = head.dense().logits
    if kind == "dense":
        return DenseSignal(logits)
    said, top1 = target_log_prob(logits, target), logits.argmax(-1)
    k = min(4, vocab)
    log_probs, ids = torch.log_softmax(logits, -1).topk(k)
    if kind == "topk":
        probs = renormalised_topk(log_probs, tau)
        probs[::3, -1] = 0.0  # padding carries any id
        ids[::3, -1] = ids[::3, 0]
        return SparseSignal(ids, probs, said, top1)
    if kind == "sampled":
        ids = torch.softmax(logits / tau, -1).multinomial(6, replacement=True)  # ids repeat
        return SparseSignal(ids, torch.full(ids.shape, 1 / 6, dtype=dtype), said, top1)
    probs = torch.softmax(logits / tau, -1).gather(1, ids)
    tail = 1 - probs.sum(-1)
    tail[::4] = 0.0
    return SparseSignal(ids, probs, said, top1, tail)


def reference(logits, target, signal, rate, tau, smoothing=0.0) -> Terms:
    """The same from full logits and the functions of `divergence`, float64 all through."""
    ce = -target_log_prob(logits, target).sum()
    own = smoothed_cross_entropy(logits, target, smoothing)
    if signal is None:
        return Terms(own, ce, *[torch.zeros_like(ce)] * 3)
    if isinstance(signal, SparseSignal):
        said, top1 = signal.target_log_prob, signal.top1
        if signal.tail is None:
            kl = sparse_kl(logits, signal.ids, signal.probs, tau)
        else:
            kl = tail_kl(logits, signal.ids, signal.probs, signal.tail, tau)
    else:
        teachers = signal.dense().logits if isinstance(signal, HeadSignal) else signal.logits
        said, top1 = target_log_prob(teachers, target), teachers.argmax(-1)
        kl = dense_kl(logits, teachers, tau)
    objective = inheritance_objective(own, kl, rate, tau)
    return Terms(objective, ce, kl, -said.sum(), top1_agreement(logits, top1))


def gradients(objective, inputs, **kwargs):
    return torch.autograd.grad(objective, [x for x in inputs if x is not None], **kwargs)


def check(inputs, target, signal, rate, tau, tolerance=EXACT, **kwargs):
    expected = reference(F.linear(*inputs), target, signal, rate, tau)
    found = fused_terms(*inputs, target, signal, rate, tau, **kwargs)
    for name, a, b in zip(SUMS, found, expected):
        torch.testing.assert_close(a, b.to(a.dtype), msg=lambda m, n=name: f"{n}: {m}", **tolerance)
    for a, b in zip(gradients(found.objective, inputs), gradients(expected.objective, inputs)):
        torch.testing.assert_close(a, b, **tolerance)


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


@pytest.mark.parametrize("tau", [1.0, 2.0, 3.0, 20.0])
@pytest.mark.parametrize("kind", SIGNALS)
def test_float32_is_the_formula_to_a_hundred_thousandth(kind, tau):
    inputs = student(200, 1000, 16, dtype=torch.float32)
    target = torch.randint(1000, (200,))
    signal = teacher(kind, target, 1000, tau, torch.float32)
    found = fused_terms(*inputs, target, signal, 0.6, tau, chunk_rows=64)
    wide = [x.detach().double().requires_grad_() for x in inputs]
    # the very probabilities that were given, the teacher's logits summed up in double
    signal = replace(
        signal,
        **{
            k: v.double()
            for k, v in vars(signal).items()
            if v is not None and v.is_floating_point()
        },
    )
    expected = reference(F.linear(*wide), target, signal, 0.6, tau)
    assert found.objective.item() == pytest.approx(expected.objective.item(), rel=1e-5)
    assert found.kl.item() == pytest.approx(expected.kl.item(), rel=1e-5)
    for a, b in zip(gradients(found.objective, inputs), gradients(expected.objective, wide)):
        torch.testing.assert_close(a.double(), b, rtol=1e-4, atol=1e-5 * b.abs().max().item())


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
    rate = torch.tensor([0.0, 0.3, 1.0, 0.7], dtype=torch.float64)

    def objective(*inputs):
        return fused_terms(
            *inputs, target, signal, rate, tau, label_smoothing=0.1, chunk_rows=3
        ).objective

    assert torch.autograd.gradcheck(objective, inputs)


@pytest.mark.parametrize("kind", SIGNALS)
@pytest.mark.parametrize("tau", [1.0, 2.0, 3.0])
def test_a_rate_per_row_and_rows_without_a_teacher(kind, tau):
    """Rows of rate 0 hold garbage, and must count as rows without a signal."""
    inputs, target = student(), torch.randint(37, (13,))
    signal = teacher(kind, target, 37, tau)
    rate = torch.rand(13, dtype=torch.float64)
    silent = torch.tensor([0, 3, 4, 12])
    rate[silent] = 0.0
    for name in ("features", "logits", "probs", "tail", "target_log_prob"):
        if getattr(signal, name, None) is not None:
            getattr(signal, name)[silent] = math.nan
    found = fused_terms(*inputs, target, signal, rate, tau, chunk_rows=5)

    logits = F.linear(*inputs)
    one_by_one = []
    for n in range(13):
        row = slice(n, n + 1)
        per_row = {
            k: v[row]
            for k, v in vars(signal).items()
            if v is not None and k not in ("weight", "bias")
        }
        said = None if n in silent else replace(signal, **per_row)
        one_by_one.append(reference(logits[row], target[row], said, float(rate[n]), tau))
    expected = [sum(terms) for terms in zip(*(terms[:5] for terms in one_by_one))]
    for a, b in zip(found[:5], expected):
        torch.testing.assert_close(a, b.to(a.dtype), **EXACT)
    for a, b in zip(gradients(found.objective, inputs), gradients(expected[0], inputs)):
        torch.testing.assert_close(a, b, **EXACT)


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


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("kind", SIGNALS)
def test_half_inputs_are_accumulated_in_float32(dtype, kind):
    inputs = student(100, 300, 16, dtype=dtype)
    target = torch.randint(300, (100,))
    signal = teacher(kind, target, 300, 2.0, torch.float32)
    found = fused_terms(*inputs, target, signal, 0.6, 2.0, chunk_rows=33)
    wide = [x.detach().double().requires_grad_() for x in inputs]
    expected = reference(F.linear(*wide), target, signal, 0.6, 2.0)
    assert found.objective.dtype == torch.float32
    assert found.objective.item() == pytest.approx(expected.objective.item(), rel=1e-5)
    for a, b in zip(gradients(found.objective, inputs), gradients(expected.objective, wide)):
        assert a.dtype == dtype
        # rounded once, at the end
        one_step = torch.finfo(dtype).eps * b.abs() + 1e-4 * b.abs().max()
        assert ((a.double() - b).abs() <= one_step).all()


def test_the_loss_scale_arrives_before_the_rounding():
    # float16 has nothing between 0 and 6e-8; a scaled loss must keep what is below
    features = torch.full((1, 1), 2**-14, dtype=torch.float16)
    weight = torch.zeros(4000, 1, dtype=torch.float16, requires_grad=True)
    objective = fused_terms(features, weight, None, torch.tensor([0]), None, 0.0, 1.0).objective
    (grad,) = torch.autograd.grad(1024.0 * objective, weight)
    assert grad[1].item() == pytest.approx(1024 * 2**-14 / 4000, rel=1e-2)


def test_autocast_does_not_round_the_accumulators():
    inputs, target = student(dtype=torch.float32), torch.randint(37, (13,))
    signal = teacher("head", target, 37, 2.0, torch.float32)
    expected = fused_terms(*inputs, target, signal, 0.5, 2.0)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = fused_terms(*inputs, target, signal, 0.5, 2.0)
    assert found.objective.dtype == torch.float32
    torch.testing.assert_close(found.objective, expected.objective)
    for a, b in zip(gradients(found.objective, inputs), gradients(expected.objective, inputs)):
        torch.testing.assert_close(a, b)


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


@pytest.mark.parametrize("kind", SIGNALS)
@pytest.mark.parametrize("tau", [1e-2, 1e3])
def test_extreme_temperatures(kind, tau):
    inputs, target = student(), torch.randint(37, (13,))
    signal = teacher(kind, target, 37, tau)
    check(inputs, target, signal, 0.5, tau, {"rtol": 1e-6, "atol": 1e-6})


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
        ({"rate": torch.zeros(12)}, r"rate: .*\(13,\), got \(12,\)"),
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


@pytest.mark.gpu
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("kind", SIGNALS)
def test_cuda(dtype, kind):
    inputs = [x.detach().cuda().requires_grad_() for x in student(300, 1000, 64, dtype=dtype)]
    target = torch.randint(1000, (300,))
    signal = teacher(kind, target, 1000, 2.0, torch.float32)
    target = target.cuda()
    signal = replace(signal, **{k: v.cuda() for k, v in vars(signal).items() if v is not None})
    found = fused_terms(*inputs, target, signal, 0.6, 2.0, chunk_rows=128)
    wide = [x.detach().double().requires_grad_() for x in inputs]
    expected = reference(F.linear(*wide), target, signal, 0.6, 2.0)
    half = dtype != torch.float32
    assert found.objective.item() == pytest.approx(
        expected.objective.item(), rel=5e-3 if half else 1e-4
    )
    for a, b in zip(gradients(found.objective, inputs), gradients(expected.objective, wide)):
        error = (a.double() - b).norm() / b.norm()
        assert error < (2e-2 if half else 1e-3)
