"""What an encoding keeps of a teacher's rows, selected where the scores are.

The store's own numpy code (``Encoding.select``) does the same from log-probabilities alone, and
is what this is tested against; here the block sums of ``scores.py`` spare most of its passes over
the vocabulary, and on a GPU only the kept entries leave the device.

Shapes: n rows, V vocabulary, M blocks, K kept ids, D draws.
"""

import numpy as np
import torch
from torch import Tensor

from fairseq_ki.capture.scores import BLOCK, Scores, argmax, exp_
from fairseq_ki.store import (
    ZERO,
    Dense,
    Encoding,
    Rows,
    Sampled,
    StoreError,
    TopK,
    TopP,
    draw_by_block,
    select_topp,
    tally,
    to_half,
)

_SCALE = 2.0**40  # probabilities as integers: their sums are exact in any order


def select(encoding: Encoding, scores: Scores, targets: Tensor, uniform: np.ndarray | None) -> Rows:
    """What ``encoding`` keeps.

    Args:
        targets: (n,) int64, on the CPU.
        uniform: (n, D) of ``Plan.uniforms``, for encodings that draw.
    """
    wanted = targets.to(scores.blocks.device).unsqueeze(1)
    target = to_half(_numpy(scores.log_probs_of(scores.logits.gather(1, wanted)).squeeze(1)))
    match encoding:
        case TopK() | TopP():
            return _ranked(encoding, scores, target)
        case Sampled():
            assert uniform is not None
            ids, counts = tally(draw(scores, uniform, encoding.tau), encoding.vocabulary)
            return Rows(ids, counts, target, _top1(scores))
        case Dense():
            return Rows(None, to_half(_numpy(scores.log_probs)), target, _top1(scores))
    raise StoreError(f"encoding: expected one that capture selects for, found {encoding}")


def _top1(scores: Scores) -> np.ndarray:
    block = argmax(scores.highest).unsqueeze(1)
    return _numpy(block * BLOCK + argmax(scores.of_blocks(block)))[:, 0].astype(np.int32)


def _ranked(encoding: TopK | TopP, scores: Scores, target: np.ndarray) -> Rows:
    found, logits = best(scores, encoding.k)
    ids, exact = _numpy(found).astype(np.int32), _numpy(scores.log_probs_of(logits))
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
        probs = exp_(scores.log_probs).scatter_(1, listed.to(found.device), 0.0)
        tail = to_half(np.clip(_numpy(probs.sum(dim=1).log()), ZERO, 0.0))
    return Rows(ids, values, target, ids[:, 0].copy(), tail)


def best(scores: Scores, k: int) -> tuple[Tensor, Tensor]:
    """The k most probable ids of each row and their logits, most probable first.

    Returns:
        (n, k) int64 and float32; equal logits in order of id.
    """
    vocabulary, blocks = scores.vocabulary, scores.highest.size(1)
    k1 = min(k + 1, vocabulary)  # one more, to see a tie for the last place
    if 2 * k1 <= blocks:
        # the k1 largest are in the k1 blocks with the largest maxima
        block = scores.highest.topk(k1, dim=1, sorted=False).indices
        values, order = scores.of_blocks(block).flatten(1).topk(k1, dim=1)
        ids = block.gather(1, order // BLOCK) * BLOCK + order % BLOCK
    else:
        values, ids = scores.logits.topk(k1, dim=1)
    tied = (values[:, 1:] == values[:, :-1]).any(dim=1)
    if tied.any():  # topk leaves the order of equals open, and which of them comes in
        again = scores.logits[tied].sort(dim=1, descending=True, stable=True)
        values[tied], ids[tied] = again.values[:, :k1], again.indices[:, :k1]
    return ids[:, :k], values[:, :k]


def draw(scores: Scores, uniform: np.ndarray, tau: float) -> np.ndarray:
    """Draw ids with replacement from softmax(logits / tau), by inversion in order of id.

    Args:
        uniform: (n, D) float64 in [0, 1).

    Returns:
        (n, D) int32, ascending; a function of each row alone.
    """
    mass = scores.mass
    if tau != 1.0:
        largest = scores.highest.amax(dim=1).view(-1, 1, 1)
        mass = exp_((scores.blocks - largest) / tau).sum(dim=2)
    if mass.device.type != "cpu":
        return _numpy(_draw_there(scores, mass, torch.from_numpy(uniform), tau)).astype(np.int32)
    # numpy leaves torch's threads to the teacher's forward pass, which goes on meanwhile
    logits, highest = scores.blocks.flatten(0, 1).numpy(), scores.highest.flatten().numpy()

    def weights(block: np.ndarray) -> np.ndarray:
        relative = np.subtract(logits.take(block, axis=0).T, highest.take(block), order="C")
        return np.exp(relative if tau == 1.0 else relative / np.float32(tau), out=relative)

    return draw_by_block(mass.numpy(), uniform, weights)


def _draw_there(scores: Scores, mass: Tensor, uniform: Tensor, tau: float) -> Tensor:
    """``store.draw_by_block`` on the device of the scores, (n, D) int64.

    However that orders its sums: those over blocks are of integers.
    """
    share = mass.double()
    edges = (share * (_SCALE / share.sum(dim=1, keepdim=True))).long().cumsum(dim=1)  # (n, M)
    total = edges[:, -1:]
    points = uniform.to(mass.device).sort(dim=1).values * total
    # a product rounded up to the total would fall behind the last id
    block = torch.searchsorted(edges, points.long().minimum(total - 1), right=True)  # (n, D)
    low = edges.gather(1, (block - 1).clamp(min=0)).masked_fill(block == 0, 0)
    within = (points - low) / (edges.gather(1, block) - low)
    weights = scores.of_blocks(block) - scores.highest.gather(1, block).unsqueeze(2)
    reached = exp_(weights if tau == 1.0 else weights / tau).cumsum(dim=2)  # (n, D, 32)
    last = reached[..., -1]
    point = (within * last).float().minimum(torch.nextafter(last, torch.zeros_like(last)))
    return block * BLOCK + (reached <= point.unsqueeze(2)).sum(dim=2)


def _numpy(tensor: Tensor) -> np.ndarray:
    return tensor.cpu().numpy()
