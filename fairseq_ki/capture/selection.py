"""What an encoding keeps of a teacher's rows, selected where the log-probabilities are.

On a CPU the store's own numpy code is the fastest there is; on another device the rows would
have to cross over to it, so there the same selection is made with torch.

Shapes: N rows, V vocabulary, K kept ids, D draws, M columns of a block of ids.
"""

import numpy as np
import torch
from torch import Tensor

from fairseq_ki.store import (
    ZERO,
    Dense,
    Encoding,
    Rows,
    Sampled,
    StoreError,
    TopK,
    TopP,
    select_topp,
    tally,
    to_half,
)

_BLOCK = 32  # ids summed up at once, so that only V / 32 sums are searched
_SCALE = 2.0**40  # probabilities as integers: their sums are exact in any order


def select(
    encoding: Encoding, log_probs: Tensor, targets: Tensor, uniform: np.ndarray | None
) -> Rows:
    """What ``encoding`` keeps; on the CPU, ``encoding.select`` itself.

    Args:
        log_probs: (N, V) float32, at temperature 1.
        targets: (N,) int64, on the CPU.
        uniform: (N, D) of ``Plan.uniforms``, for encodings that draw.
    """
    if log_probs.device.type == "cpu":
        return encoding.select(log_probs.numpy(), targets.numpy(), uniform)
    return select_with_torch(encoding, log_probs, targets, uniform)


def select_with_torch(
    encoding: Encoding, log_probs: Tensor, targets: Tensor, uniform: np.ndarray | None
) -> Rows:
    """As :func:`select`, on the device of ``log_probs``; only the kept entries leave it."""
    wanted = targets.to(log_probs.device).unsqueeze(1)
    target = to_half(_numpy(log_probs.gather(1, wanted).squeeze(1)))
    match encoding:
        case TopK() | TopP():
            return _ranked(encoding, log_probs, target)
        case Sampled():
            drawn = draw(log_probs, torch.from_numpy(uniform).to(log_probs.device), encoding.tau)
            ids, counts = tally(_numpy(drawn).astype(np.int32), encoding.vocabulary)
            top1 = _numpy(log_probs.argmax(dim=1)).astype(np.int32)
            return Rows(ids, counts, target, top1)
        case Dense():
            top1 = _numpy(log_probs.argmax(dim=1)).astype(np.int32)
            return Rows(None, to_half(_numpy(log_probs)), target, top1)
    raise StoreError(f"encoding: expected one that a device selects for, found {encoding}")


def _ranked(encoding: TopK | TopP, log_probs: Tensor, target: np.ndarray) -> Rows:
    best = log_probs.topk(encoding.k, dim=1)
    ids, exact = _numpy(best.indices).astype(np.int32), _numpy(best.values)
    if isinstance(encoding, TopP):
        # of the k best alone: a column there is a rank here
        ranks, exact = select_topp(exact, encoding.p, encoding.k)
        ids = np.where(exact > ZERO, np.take_along_axis(ids, ranks, axis=1), 0).astype(np.int32)
    values = to_half(exact)
    tail = None
    if encoding.tail:
        # summed by itself: 1 minus the kept part would lose every small tail to rounding
        kept = values > ZERO
        kept[:, 0] = True
        listed = torch.from_numpy(np.where(kept, ids, ids[:, :1])).long()
        mass = log_probs.exp().scatter_(1, listed.to(log_probs.device), 0.0).sum(dim=1)
        tail = to_half(np.clip(_numpy(mass.log()), ZERO, 0.0))
    return Rows(ids, values, target, ids[:, 0].copy(), tail)


def draw(log_probs: Tensor, uniform: Tensor, tau: float) -> Tensor:
    """Draw ids with replacement from softmax(log_probs / tau), by inversion.

    Args:
        log_probs: (N, V) float32; uniform: (N, D) float64 in [0, 1).

    Returns:
        (N, D) int64. A function of each row alone, however the device orders its sums: they are
        of integers. An id of probability below 2^-40 is never drawn.
    """
    rows, vocabulary = log_probs.shape
    columns = -(-vocabulary // _BLOCK)
    probs = log_probs.exp() if tau == 1.0 else torch.softmax(log_probs / tau, dim=1)
    weights = log_probs.new_zeros((rows, _BLOCK * columns), dtype=torch.int64)
    weights[:, :vocabulary] = probs.mul_(_SCALE)
    weights = weights.view(rows, _BLOCK, columns)  # id = b * M + m
    edges = weights.sum(dim=1).cumsum(dim=1)  # (N, M)
    total = edges[:, -1:]
    points = torch.minimum((uniform * total).long(), total - 1)
    column = torch.searchsorted(edges, points, right=True)  # (N, D)
    low = edges.gather(1, (column - 1).clamp(min=0)).masked_fill(column == 0, 0)
    within = weights.gather(2, column.unsqueeze(1).expand(-1, _BLOCK, -1)).cumsum(dim=1)
    member = (within <= (points - low).unsqueeze(1)).sum(dim=1)
    return member * columns + column


def _numpy(tensor: Tensor) -> np.ndarray:
    return tensor.cpu().numpy()
