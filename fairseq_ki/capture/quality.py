"""How far a stored target is from the teacher's distribution, as numbers.

Shapes: N rows, V vocabulary, F directions.
"""

import math

import torch
from torch import Tensor

from fairseq_ki.objective.dense import dense_terms
from fairseq_ki.objective.signals import DenseSignal, Signal, SparseSignal

SMOOTHING = 1e-3
BINS = 15


def target_distribution(
    signal: DenseSignal | SparseSignal, vocabulary: int, temperature: float
) -> Tensor:
    """(N, V) the target that a student is pulled towards; a tail is spread evenly."""
    if isinstance(signal, DenseSignal):
        return torch.softmax(signal.logits / temperature, dim=1)
    target = signal.probs.new_zeros(len(signal.probs), vocabulary)
    target.scatter_add_(1, signal.ids, signal.probs)
    if signal.tail is not None:
        listed = target > 0
        others = (vocabulary - listed.sum(dim=1)).clamp(min=1)
        target = torch.where(listed, target, (signal.tail / others).unsqueeze(1))
    return target


def smoothed_kl(full: Tensor, stored: Tensor) -> Tensor:
    """(N,) KL(full || stored) in nats, of a stored target mixed with 0.1 % of uniform.

    Without that it is infinite wherever an id that the teacher thinks possible was not kept.
    """
    mixed = (1 - SMOOTHING) * stored + SMOOTHING / stored.size(1)
    return (torch.xlogy(full, full) - full * mixed.log()).sum(dim=1)


def calibration_error(confidence: Tensor, right: Tensor) -> float:
    """Expected calibration error: mean distance of accuracy from confidence, over equal bins.

    Args:
        confidence: (N,) probability of the most probable id; right: (N,) bool, it was the token.
    """
    bins = (confidence * BINS).long().clamp(0, BINS - 1)
    gaps = torch.zeros(BINS, dtype=torch.float64)
    gaps.index_add_(0, bins, confidence.double() - right.double())
    return float(gaps.abs().sum() / max(1, len(confidence)))


def logit_gradient(logits: Tensor, target: Tensor, signal: Signal, temperature: float) -> Tensor:
    """(N, V) gradient of the KL term in the student's logits, as training computes it."""
    logits = logits.detach().requires_grad_(True)
    with torch.enable_grad():
        terms = dense_terms(logits, target, signal, rate=1.0, temperature=temperature)
        (gradient,) = torch.autograd.grad(terms.objective, logits)
    return gradient


def angle(one: Tensor, other: Tensor) -> Tensor:
    """Degrees between vectors along the last dimension; 0 between two zeros."""
    products = (one * other).sum(-1), (one * one).sum(-1), (other * other).sum(-1)
    inner, first, second = (x.double() for x in products)
    cosine = inner / (first * second).sqrt().clamp(min=1e-30)
    degrees = cosine.clamp(-1, 1).arccos() * (180 / math.pi)
    return torch.where((first == 0) & (second == 0), 0.0, degrees)
