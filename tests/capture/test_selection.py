"""Selection on a device against the store's own, and draws whose mean is the teacher."""

import math

import numpy as np
import pytest
import torch

from fairseq_ki.capture.quality import logit_gradient
from fairseq_ki.capture.selection import draw, select, select_with_torch
from fairseq_ki.data.stored_rows import collate_rows
from fairseq_ki.objective.signals import DenseSignal
from fairseq_ki.store import Dense, Sampled, TopK, TopP
from fairseq_ki.teachers.stored import stored_signal

V = 301  # no multiple of the blocks that ids are summed in


@pytest.fixture
def log_probs():
    generator = torch.Generator().manual_seed(1)
    return torch.log_softmax(3 * torch.randn(60, V, generator=generator), dim=1)


TARGETS = torch.arange(60) * 5


@pytest.mark.parametrize(
    "encoding",
    [
        TopK(V, k=10),
        TopK(V, k=7, tail=True),
        TopK(V, k=V),
        TopP(V, p=0.9, k=40),
        TopP(V, p=0.5, k=100, tail=True),
        Sampled(V, draws=30),
        Sampled(V, draws=30, tau=2.0),
        Dense(V),
    ],
    ids=lambda encoding: f"{encoding.name}-{encoding.parameters()}",
)
def test_a_device_selects_as_the_store_does(log_probs, encoding):
    uniform = encoding.uniforms("b" * 64, 2, 5, 60)
    ours = select_with_torch(encoding, log_probs, TARGETS, uniform)
    reference = select(encoding, log_probs, TARGETS, uniform)
    encoding.check(ours)
    assert np.array_equal(ours.target_logprob, reference.target_logprob)
    assert np.array_equal(ours.top1, reference.top1)
    if isinstance(encoding, Sampled):
        # sums are rounded otherwise: a draw at the boundary of two ids may take the other one
        ours, reference = (_dense_counts(rows) for rows in (ours, reference))
        assert np.abs(ours - reference).sum() <= 4
        return
    assert np.array_equal(ours.values, reference.values)
    assert encoding.name == "dense" or np.array_equal(ours.ids, reference.ids)
    if encoding.keeps_tail:
        np.testing.assert_allclose(ours.tail.astype(float), reference.tail.astype(float), rtol=2e-3)


def _dense_counts(rows) -> np.ndarray:
    counts = np.zeros((len(rows), V), int)
    np.add.at(counts, (np.arange(len(rows))[:, None], rows.ids), rows.values)
    return counts


def test_a_draw_is_where_its_uniform_number_falls():
    """Four ids of probability 1/8, 0, 3/8 and 1/2, in order of id within one column of blocks."""
    probs = torch.tensor([[1 / 8, 0, 3 / 8, 1 / 2]])
    uniform = torch.tensor([[0.0, 0.124, 0.126, 0.49, 0.51, 1 - 2**-53]], dtype=torch.float64)
    found = draw(probs.log(), uniform, tau=1.0)
    counts = torch.bincount(found.flatten(), minlength=4)
    assert counts.tolist() == [2, 0, 2, 2]


def test_an_impossible_id_is_never_drawn():
    log_probs = torch.full((3, V), -math.inf)
    log_probs[:, 17] = 0.0
    uniform = torch.rand(3, 1000, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    assert (draw(log_probs, uniform, tau=1.0) == 17).all()


@pytest.mark.parametrize("tau", [1.0, 2.0])
@pytest.mark.parametrize("selecting", [select, select_with_torch])
def test_the_gradient_of_draws_is_unbiased(log_probs, selecting, tau):
    """Fails one time in a hundred without a bias, and at least 95 times with one of 5 %.

    The statistic is the mean product of the errors of two different seeds, in units of the
    gradient's squared norm: 0 without a bias, 0.05 squared with one, whatever its direction.
    """
    seeds = 80
    student = torch.zeros(60, V)
    full = logit_gradient(student, TARGETS, DenseSignal(log_probs), tau)
    errors = []
    for seed in range(seeds):
        encoding = Sampled(V, draws=100, tau=tau, seed=seed)
        rows = selecting(encoding, log_probs, TARGETS, encoding.uniforms("c" * 64, 1, 0, 60))
        signal = stored_signal(collate_rows([rows]), tau, False)
        sampled = logit_gradient(student, TARGETS, signal, tau)
        errors.append((sampled - full).sum(0) / full.sum(0).norm())
    products = torch.stack(errors) @ torch.stack(errors).T
    pairs = products[tuple(torch.triu_indices(seeds, seeds, offset=1))].double()
    standard_error = float(pairs.std()) / math.sqrt(len(pairs))
    assert float(pairs.mean()) <= 2.326 * standard_error
    assert (2.326 + 1.645) * standard_error <= 0.05**2


def test_a_bias_of_five_percent_would_be_found(log_probs):
    """The same statistic on draws that leave out the least probable ids."""
    seeds, student = 80, torch.zeros(60, V)
    full = logit_gradient(student, TARGETS, DenseSignal(log_probs), 1.0)
    rank = log_probs.argsort(dim=1, descending=True).argsort(dim=1)
    cut = torch.log_softmax(log_probs.masked_fill(rank >= 40, -math.inf), dim=1)
    biased = logit_gradient(student, TARGETS, DenseSignal(cut.clamp(min=-1e4)), 1.0)
    bias = float((biased - full).sum(0).norm() / full.sum(0).norm())
    assert 0.04 < bias < 0.08
    errors = []
    for seed in range(seeds):
        encoding = Sampled(V, draws=100, seed=seed)
        uniform = encoding.uniforms("c" * 64, 1, 0, 60)
        rows = select_with_torch(encoding, cut, torch.zeros(60, dtype=torch.long), uniform)
        signal = stored_signal(collate_rows([rows]), 1.0, False)
        gradient = logit_gradient(student, TARGETS, signal, 1.0)
        errors.append((gradient - full).sum(0) / full.sum(0).norm())
    products = torch.stack(errors) @ torch.stack(errors).T
    pairs = products[tuple(torch.triu_indices(seeds, seeds, offset=1))].double()
    assert float(pairs.mean()) > 2.326 * float(pairs.std()) / math.sqrt(len(pairs))


@pytest.mark.gpu
def test_a_gpu_selects_as_the_cpu_does(log_probs):
    for encoding in (TopK(V, k=10), Sampled(V, draws=30)):
        uniform = encoding.uniforms("b" * 64, 2, 5, 60)
        there = select(encoding, log_probs.cuda(), TARGETS, uniform)
        again = select(encoding, log_probs.cuda(), TARGETS, uniform)
        here = select_with_torch(encoding, log_probs, TARGETS, uniform)
        assert np.array_equal(there.ids, again.ids)
        assert np.array_equal(there.values, again.values)
        if encoding.name == "topk":
            assert np.array_equal(there.ids, here.ids)
        else:
            assert np.abs(_dense_counts(there) - _dense_counts(here)).sum() <= 4
