"""A teacher's logits at some rows, with what selecting from them needs, made in one sweep.

A vocabulary is cut into blocks of 32 consecutive ids. Largest logit and probability mass of each
block leave only V / 32 numbers per row for the dear operations (the K largest, a cumulative sum).
They are taken while a part of the logits is still in the processor's cache: so made, logits and
soft-max together take a CPU about the time of one plain matrix product, whose result goes out to
memory, and half that of a product and a soft-max after it.

Shapes: n rows, D width, V vocabulary, M blocks.
"""

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from fairseq_ki.models._row_features import TILE

BLOCK = 32

_PART = {"cpu": 64}  # blocks whose logits are made at once; a GPU makes all


@dataclass(frozen=True)
class Scores:
    """What a teacher says at n rows.

    Args:
        blocks: (n, M, 32) float32 logits in order of id; -inf behind the last id.
        vocabulary: V.
        highest: (n, M) the largest of each block.
        mass: (n, M) sum of each block's exp(logit - the row's largest).
        log_norm: (n,) float64; log-probability = logit - log_norm.
    """

    blocks: Tensor
    vocabulary: int
    highest: Tensor
    mass: Tensor
    log_norm: Tensor

    @property
    def logits(self) -> Tensor:
        """(n, V) float32."""
        return self.blocks.flatten(1)[:, : self.vocabulary]

    @property
    def log_probs(self) -> Tensor:
        """(n, V) float32, at temperature 1."""
        return self.logits - self.log_norm.float().unsqueeze(1)

    def of_blocks(self, block: Tensor) -> Tensor:
        """(n, K, 32) logits of K blocks of each row, by their numbers (n, K)."""
        first = torch.arange(len(block), device=block.device).unsqueeze(1) * self.blocks.size(1)
        found = self.blocks.flatten(0, 1).index_select(0, (first + block).flatten())
        return found.view(*block.shape, BLOCK)

    def log_probs_of(self, logits: Tensor) -> Tensor:
        """(n, K) float32, of K of each row's logits."""
        return (logits.double() - self.log_norm.unsqueeze(1)).float()


def score(hidden: Tensor, weight: Tensor, bias: Tensor | None) -> Scores:
    """Logits hidden @ weight.T + bias, and their soft-max.

    Args:
        hidden: (n, D); weight: (V, D); bias: (V,) or None. All float32, on one device.
    """
    asked, vocabulary = len(hidden), len(weight)
    hidden = F.pad(hidden, (0, 0, 0, -asked % TILE))
    rows = len(hidden)
    count = -(-vocabulary // BLOCK)
    logits = hidden.new_empty(rows, count * BLOCK)
    highest, mass = hidden.new_empty(rows, count), hidden.new_empty(rows, count)
    step = _PART.get(hidden.device.type, count)
    tops = []
    for first in range(0, count, step):
        last = min(first + step, count)
        ids = slice(first * BLOCK, min(last * BLOCK, vocabulary))
        part = hidden.new_empty(rows, (last - first) * BLOCK)
        made = part[:, : ids.stop - ids.start]
        part[:, made.size(1) :] = -torch.inf
        if bias is None:
            torch.mm(hidden, weight[ids].T, out=made)
        else:
            torch.addmm(bias[ids], hidden, weight[ids].T, out=made)
        logits[:, first * BLOCK : last * BLOCK] = part
        by_block = part.view(rows, last - first, BLOCK)
        highest[:, first:last] = by_block.amax(dim=2)
        top = highest[:, first:last].amax(dim=1, keepdim=True)
        exp_(part.sub_(top))
        mass[:, first:last] = by_block.sum(dim=2)
        tops.append(top.expand(-1, last - first))
    largest = highest.amax(dim=1, keepdim=True)
    mass *= exp_(torch.cat(tops, dim=1) - largest)  # each part was relative to its own largest
    log_norm = largest.squeeze(1).double() + mass.sum(dim=1, dtype=torch.float64).log()
    blocks = logits.view(rows, count, BLOCK)
    return Scores(blocks[:asked], vocabulary, highest[:asked], mass[:asked], log_norm[:asked])


def exp_(values: Tensor) -> Tensor:
    """In place; on a CPU by numpy, whose exp is the faster one."""
    if values.device.type != "cpu":
        return values.exp_()
    array = values.numpy()
    np.exp(array, out=array)
    return values


def argmax(values: Tensor) -> Tensor:
    """Along the last dimension, the first of equals; on a CPU by numpy, ten times as fast."""
    if values.device.type != "cpu":
        return values.argmax(dim=-1)
    return torch.from_numpy(values.numpy().argmax(axis=-1))
