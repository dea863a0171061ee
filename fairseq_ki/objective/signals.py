"""What a teacher says about the rows of a batch, whatever kind of teacher it is.

A *row* is one position whose token the student has to predict: a masked one (MLM) or a
non-pad one (LM). Shapes: N rows, V vocabulary, K kept ids, D teacher width, B samples, T length.
"""

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class DenseSignal:
    """The teacher's logits over the whole vocabulary.

    Args:
        logits: (N, V), any floating type.
    """

    logits: Tensor


@dataclass(frozen=True)
class HeadSignal:
    """The teacher's logits, not yet multiplied out: ``features @ weight.T + bias``.

    Keeps the (N, V) block from existing in full when the objective works in row chunks.

    Args:
        features: (N, D) input of the output projection.
        weight: (V, D); bias: (V,) or None.
    """

    features: Tensor
    weight: Tensor
    bias: Tensor | None

    def dense(self) -> DenseSignal:
        return DenseSignal(torch.nn.functional.linear(self.features, self.weight, self.bias))


@dataclass(frozen=True)
class SparseSignal:
    """A target distribution on few ids per row, as it comes out of a store.

    Args:
        ids: (N, K) int64; padding columns carry probability 0 and any valid id.
        probs: (N, K) float32, at the run's temperature; a row sums to 1, or to 1 - tail.
        tail: (N,) float32 probability of all other ids together, or None.
        target_log_prob: (N,) float32, the teacher's log-probability (nats, temperature 1) of
            the target, which the kept ids need not contain.
        top1: (N,) int64, the teacher's most probable id.
    """

    ids: Tensor
    probs: Tensor
    target_log_prob: Tensor
    top1: Tensor
    tail: Tensor | None = None


OneTeacher = DenseSignal | HeadSignal | SparseSignal


@dataclass(frozen=True)
class MixedSignal:
    """Several teachers on the same rows, of which one at least is not sparse.

    Stands for the weighted mean of their probabilities at the run's temperature, which the
    objective works out where it needs it (see ``mixing.mix``, which makes these).

    Args:
        signals: of N rows each, none with a tail.
        weights: one per signal, above 0, summing to 1.
    """

    signals: tuple[OneTeacher, ...]
    weights: tuple[float, ...]


Signal = OneTeacher | MixedSignal
