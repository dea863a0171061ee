"""Teachers that say no numbers, and numbers at the edges: every outcome is defined."""

import math

import pytest
import torch
import torch.nn.functional as F

from fairseq_ki.objective.dense import dense_terms
from fairseq_ki.objective.fused import fused_terms
from fairseq_ki.objective.signals import DenseSignal, HeadSignal

ROWS, VOCAB, DIM = 9, 31, 6
BAD = [1, 4, 8]
NO_NUMBERS = {"nan": math.nan, "inf": math.inf, "-inf everywhere": -math.inf}


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(3)


def student(rows=ROWS, dtype=torch.float64):
    return [
        torch.randn(*shape, dtype=torch.float64).to(dtype).requires_grad_()
        for shape in ((rows, DIM), (VOCAB, DIM), (VOCAB,))
    ]


def said_badly(value: float) -> torch.Tensor:
    """(ROWS, VOCAB) logits, of which the rows BAD are no distribution."""
    logits = torch.randn(ROWS, VOCAB, dtype=torch.float64)
    if value == -math.inf:
        logits[BAD] = value
    else:
        logits[BAD, [5, 0, 30]] = value
    return logits


def both_forms(inputs, target, signal, rate, tau, **kwargs):
    """(Terms, gradients) of the dense and the fused form."""
    dense = dense_terms(F.linear(*inputs), target, signal, rate, tau, **kwargs)
    for terms in (dense, fused_terms(*inputs, target, signal, rate, tau, chunk_rows=4, **kwargs)):
        yield terms, torch.autograd.grad(terms.objective, inputs)


@pytest.mark.parametrize("value", NO_NUMBERS.values(), ids=list(NO_NUMBERS))
@pytest.mark.parametrize("tau", [1.0, 2.0, 3.0])
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_skipped_rows_learn_from_themselves_alone(value, tau, smoothing):
    inputs, target = student(), torch.randint(VOCAB, (ROWS,))
    signal = DenseSignal(said_badly(value))
    bad = torch.zeros(ROWS, dtype=torch.bool).index_fill(0, torch.tensor(BAD), True)
    taught = DenseSignal(signal.logits[~bad])
    parts = [
        fused_terms(
            inputs[0][rows], *inputs[1:], target[rows], said, rate, tau, label_smoothing=smoothing
        )
        for rows, said, rate in ((~bad, taught, 0.7), (bad, None, 0.0))
    ]
    expected = [sum(terms) for terms in zip(*(part[:5] for part in parts))]
    expected_grads = torch.autograd.grad(expected[0], inputs)
    found = both_forms(
        inputs, target, signal, 0.7, tau, label_smoothing=smoothing, skip_bad_rows=True
    )
    for terms, grads in found:
        assert terms.bad_rows.nonzero().view(-1).tolist() == BAD
        for a, b in zip(terms[:5], expected):
            torch.testing.assert_close(a, b.to(a.dtype))
        for a, b in zip(grads, expected_grads):
            torch.testing.assert_close(a, b)


@pytest.mark.parametrize("value", NO_NUMBERS.values(), ids=list(NO_NUMBERS))
def test_without_skipping_nothing_is_hidden(value):
    inputs, target = student(), torch.randint(VOCAB, (ROWS,))
    for terms, grads in both_forms(inputs, target, DenseSignal(said_badly(value)), 0.7, 2.0):
        assert terms.bad_rows.nonzero().view(-1).tolist() == BAD
        assert terms.objective.isnan()
        assert terms.ce.isfinite()
        assert grads[0].isnan().any()


def test_a_nan_in_the_input_of_the_teachers_head_is_found():
    inputs, target = student(), torch.randint(VOCAB, (ROWS,))
    features = torch.randn(ROWS, DIM, dtype=torch.float64)
    features[BAD, 2] = math.nan
    signal = HeadSignal(features, torch.randn(VOCAB, DIM, dtype=torch.float64), None)
    for terms, grads in both_forms(inputs, target, signal, 0.7, 2.0, skip_bad_rows=True):
        assert terms.bad_rows.nonzero().view(-1).tolist() == BAD
        assert terms.objective.isfinite()
        assert all(grad.isfinite().all() for grad in grads)


def test_ids_that_the_teacher_cannot_say_are_no_fault():
    """-inf on some ids is a probability of 0; on the right one the teacher's loss is infinite."""
    inputs, target = student(), torch.randint(1, VOCAB, (ROWS,))
    logits = torch.randn(ROWS, VOCAB, dtype=torch.float64)
    logits[:, 0] = -math.inf
    logits[3, target[3]] = -math.inf
    for terms, grads in both_forms(inputs, target, DenseSignal(logits), 0.7, 2.0):
        assert not terms.bad_rows.any()
        assert terms.teacher_nll == math.inf
        assert terms.objective.isfinite()
        assert all(grad.isfinite().all() for grad in grads)


def test_a_teacher_is_not_blamed_for_its_student():
    inputs, target = student(), torch.randint(VOCAB, (ROWS,))
    inputs[0].data[2] = math.nan
    signal = DenseSignal(torch.randn(ROWS, VOCAB, dtype=torch.float64))
    for terms, _ in both_forms(inputs, target, signal, 0.7, 2.0, skip_bad_rows=True):
        assert terms.objective.isnan()
        assert not terms.bad_rows.any()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("tau", [1e-3, 1.0, 2.0, 1e4])
@pytest.mark.parametrize("rate", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("rows", [0, 1, ROWS])
def test_edges_are_finite_and_the_two_forms_agree(dtype, tau, rate, rows):
    """Temperatures a thousand times too small or large, no row, one row, the rates 0 and 1."""
    inputs, target = student(rows, dtype), torch.randint(VOCAB, (rows,))
    signal = HeadSignal(*(x.detach() for x in student(rows, dtype)))
    terms, grads = zip(*both_forms(inputs, target, signal, rate, tau))
    for form, its in zip(terms, grads):
        assert all(x.isfinite() for x in form[:5])
        assert float(form.kl) >= -1e-6
        assert all(x.isfinite().all() for x in its)
        if rate == 0.0:
            torch.testing.assert_close(form.objective, form.ce)
    half = dtype != torch.float32
    scale = {1e-3: 1e3, 1e4: 1.0}.get(tau, 1.0)
    torch.testing.assert_close(
        terms[0].kl, terms[1].kl, rtol=5e-2 if half else 1e-4, atol=scale * (1e-1 if half else 1e-3)
    )


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_logits_beyond_half_precision_do_not_overflow(dtype):
    """Products that float16 cannot hold (65,504) are summed in float32."""
    inputs, target = student(dtype=dtype), torch.randint(VOCAB, (ROWS,))
    inputs[0].data.mul_(3e3)
    inputs[1].data.mul_(3e2)
    signal = HeadSignal(*(x.detach().clone() for x in inputs[:2]), None)
    assert F.linear(*(x.detach() for x in inputs[:2])).abs().max() > 65504
    terms = fused_terms(*inputs, target, signal, 0.5, 2.0)
    assert not terms.bad_rows.any()
    assert all(x.isfinite() for x in terms[:5])
    # what the loss scaler of fp16 training has to see, to leave the update out
    (grad,) = torch.autograd.grad(2.0**40 * terms.objective, inputs[:1])
    if dtype == torch.float16:
        assert not grad.isfinite().all()
