"""What the fused objective keeps of its digits: float32, half precision, far temperatures."""

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from naive_objective import SIGNALS, check, gradients, reference, student, teacher

from fairseq_ki.objective.fused import fused_terms


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(5)


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


@pytest.mark.parametrize("kind", SIGNALS)
@pytest.mark.parametrize("tau", [1e-2, 1e3])
def test_extreme_temperatures(kind, tau):
    inputs, target = student(), torch.randint(37, (13,))
    signal = teacher(kind, target, 37, tau)
    check(inputs, target, signal, 0.5, tau, {"rtol": 1e-6, "atol": 1e-6})


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
