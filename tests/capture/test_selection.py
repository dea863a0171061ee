"""Selection from scores against the store's own, and draws whose mean is the teacher."""

import math

import numpy as np
import pytest
import torch

from fairseq_ki.capture.quality import logit_gradient
from fairseq_ki.capture.scores import Scores, score
from fairseq_ki.capture.selection import draw, select
from fairseq_ki.data.stored_rows import collate_rows
from fairseq_ki.objective.signals import DenseSignal
from fairseq_ki.store import Dense, Sampled, StoreError, TopK, TopP
from fairseq_ki.teachers.stored import stored_signal

V = 301  # no multiple of the blocks that ids are summed in


@pytest.fixture
def log_probs():
    generator = torch.Generator().manual_seed(1)
    return torch.log_softmax(3 * torch.randn(60, V, generator=generator), dim=1)


TARGETS = torch.arange(60) * 5
SEEDS, DRAWS = 120, 100


def scores_of(logits: torch.Tensor) -> Scores:
    """Of given logits, which a product with the identity leaves as they are."""
    finite = logits.clamp(min=-1e30)  # 0 * -inf would not be 0
    return score(finite, torch.eye(logits.size(1), device=logits.device), None)


def of_the_store(encoding, log_probs, targets, uniform):
    """The reference, from log-probabilities alone."""
    return encoding.select(log_probs.numpy(), targets.numpy(), uniform)


def of_scores(encoding, log_probs, targets, uniform):
    return select(encoding, scores_of(log_probs), targets, uniform)


@pytest.mark.parametrize(
    "encoding",
    [
        TopK(V, k=10),
        TopK(V, k=7, tail=True),
        TopK(V, k=1),
        TopK(V, k=3, tail=True),
        TopK(V, k=V),
        TopP(V, p=0.9, k=40),
        TopP(V, p=0.9, k=4),
        TopP(V, p=0.5, k=100, tail=True),
        Sampled(V, draws=30),
        Sampled(V, draws=30, tau=2.0),
        Dense(V),
    ],
    ids=lambda encoding: f"{encoding.name}-{encoding.parameters()}",
)
def test_it_selects_as_the_store_does(log_probs, encoding):
    uniform = encoding.uniforms("b" * 64, 2, 5, 60)
    ours = of_scores(encoding, log_probs, TARGETS, uniform)
    reference = of_the_store(encoding, log_probs, TARGETS, uniform)
    encoding.check(ours)
    np.testing.assert_allclose(ours.target_logprob, reference.target_logprob, rtol=1e-3)
    assert np.array_equal(ours.top1, reference.top1)
    if isinstance(encoding, Sampled):
        # sums are rounded otherwise: a draw at the boundary of two ids may take the other one
        ours, reference = (_dense_counts(rows) for rows in (ours, reference))
        assert np.abs(ours - reference).sum() <= 4
        return
    np.testing.assert_allclose(ours.values, reference.values, rtol=1e-3)
    assert encoding.name == "dense" or np.array_equal(ours.ids, reference.ids)
    if encoding.keeps_tail:
        np.testing.assert_allclose(ours.tail.astype(float), reference.tail.astype(float), rtol=2e-3)


def _dense_counts(rows) -> np.ndarray:
    counts = np.zeros((len(rows), V), int)
    np.add.at(counts, (np.arange(len(rows))[:, None], rows.ids), rows.values)
    return counts


def test_a_draw_is_where_its_uniform_number_falls():
    """Ids of probability 1/8, 0, 3/8 and 1/2, in one block and in several."""
    for step in (1, 40):
        log_probs = torch.full((1, 4 * step), -math.inf)
        log_probs[0, ::step] = torch.tensor([1 / 8, 0, 3 / 8, 1 / 2]).log()
        uniform = [[0.0, 0.124, 0.126, 0.49, 0.51, 1 - 2**-53]]
        found = draw(scores_of(log_probs), np.array(uniform), tau=1.0)
        assert (found / step).tolist() == [[0, 0, 2, 2, 3, 3]]


def test_an_impossible_id_is_never_drawn():
    log_probs = torch.full((3, V), -math.inf)
    log_probs[:, 17] = 0.0
    uniform = np.random.default_rng(2).random((3, 1000))
    for tau in (0.1, 1.0, 3.0):
        assert (draw(scores_of(log_probs), uniform, tau) == 17).all()


def test_equal_probabilities_are_in_order_of_id():
    """Also where they are the last to be kept, in one block or in several."""
    for vocabulary in (40, 1000):
        logits = torch.zeros(4, vocabulary)
        logits[0, 3] = logits[1, -1] = logits[2, [5, 9, 33]] = 1.0
        for k in (1, 2, 3, 7):
            encoding = TopK(vocabulary, k=k)
            targets = torch.zeros(4, dtype=torch.long)
            ours = of_scores(encoding, torch.log_softmax(logits, 1), targets, None)
            reference = of_the_store(encoding, torch.log_softmax(logits, 1), targets, None)
            assert np.array_equal(ours.ids, reference.ids)


@pytest.mark.parametrize("encoding", [TopK(V, k=3), Sampled(V), Dense(V)])
def test_a_teacher_that_does_not_give_numbers(log_probs, encoding):
    for nothing in (math.nan, math.inf):
        broken = log_probs.clone()
        broken[7, 200] = nothing
        with pytest.raises(StoreError, match="must be numbers: found NaN"):
            of_scores(encoding, broken, TARGETS, encoding.uniforms("b" * 64, 1, 0, 60))


def mean_error(selecting, drawn_from, log_probs, tau) -> float:
    """Of the gradient in the logits, summed over rows and averaged over SEEDS stores: its length,
    in units of the dense gradient's."""
    student = torch.zeros(60, V)
    full = logit_gradient(student, TARGETS, DenseSignal(log_probs), tau).sum(0)
    total = torch.zeros(V, dtype=torch.float64)
    for seed in range(SEEDS):
        encoding = Sampled(V, draws=DRAWS, tau=tau, seed=seed)
        rows = selecting(encoding, drawn_from, TARGETS, encoding.uniforms("c" * 64, 1, 0, 60))
        signal = stored_signal(collate_rows([rows]), tau, False)
        total += logit_gradient(student, TARGETS, signal, tau).sum(0)
    return float((total / SEEDS - full).norm() / full.norm())


def bound_and_power(log_probs, tau, bias, alpha=0.01) -> tuple[float, float]:
    """What unbiased draws stay below with probability 1 - alpha, and the probability that draws
    with a bias of this length, in the direction that hides it best, go beyond.

    The mean error is normal (720,000 draws), with a covariance that follows from the teacher:
    tau (p - counts / draws) of every row, the counts multinomial.
    """
    student = torch.zeros(60, V)
    full = logit_gradient(student, TARGETS, DenseSignal(log_probs), tau).sum(0).double()
    probs = torch.softmax(log_probs.double() / tau, dim=1)
    covariance = torch.diag(probs.sum(0)) - probs.T @ probs
    covariance *= tau**2 / (DRAWS * SEEDS) / full.norm() ** 2
    spread = torch.linalg.eigvalsh(covariance).clamp(min=0).sqrt()
    generator = torch.Generator().manual_seed(0)
    errors = torch.randn(20_000, V, generator=generator, dtype=torch.float64) * spread
    bound = errors.norm(dim=1).quantile(1 - alpha)
    errors[:, -1] += bias  # where the noise is largest
    return float(bound), float((errors.norm(dim=1) > bound).double().mean())


@pytest.mark.parametrize("tau", [1.0, 2.0])
@pytest.mark.parametrize("selecting", [of_the_store, of_scores])
def test_the_mean_gradient_of_draws_is_the_dense_one(log_probs, selecting, tau):
    """At 1 %; a bias of 5 % of the gradient's length, whatever its direction, is found in at least
    95 of 100 cases."""
    bound, power = bound_and_power(log_probs, tau, bias=0.05)
    assert power >= 0.95
    assert mean_error(selecting, log_probs, log_probs, tau) <= bound


def test_a_bias_of_five_percent_is_found(log_probs):
    """Draws of a distribution that is 5 % nearer to the student's, so that the gradient is short
    by 5 %; and of one without the least probable ids."""
    bound, _ = bound_and_power(log_probs, 1.0, bias=0.05)
    nearer = (0.95 * log_probs.exp() + 0.05 / V).log()
    assert mean_error(of_scores, nearer, log_probs, 1.0) > bound
    rank = log_probs.argsort(dim=1, descending=True).argsort(dim=1)
    cut = torch.log_softmax(log_probs.masked_fill(rank >= 40, -math.inf), dim=1)
    assert mean_error(of_scores, cut, log_probs, 1.0) > bound


@pytest.mark.gpu
def test_a_gpu_selects_as_the_cpu_does(log_probs):
    for encoding in (TopK(V, k=10), Sampled(V, draws=30)):
        uniform = encoding.uniforms("b" * 64, 2, 5, 60)
        there = of_scores(encoding, log_probs.cuda(), TARGETS, uniform)
        again = of_scores(encoding, log_probs.cuda(), TARGETS, uniform)
        here = of_scores(encoding, log_probs, TARGETS, uniform)
        assert np.array_equal(there.ids, again.ids)
        assert np.array_equal(there.values, again.values)
        if encoding.name == "topk":
            assert np.array_equal(there.ids, here.ids)
        else:
            assert np.abs(_dense_counts(there) - _dense_counts(here)).sum() <= 4
