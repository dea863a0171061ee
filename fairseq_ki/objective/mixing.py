"""Several teachers on the same rows: the weighted mixture of their probabilities.

The mixture is of probabilities at the run's temperature, P = sum_i w_i * softmax(z_i / tau), not
of logits: what one teacher holds possible stays possible, however sure the others are.

Which id is first in a mixture is not known of rows that list few ids, least of all of draws. So
where one of the teachers is sparse, the student's agreement is with the heaviest teacher, the first
one among equals.

Shapes: N rows, C rows of one block, V vocabulary, K listed ids of all teachers together.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from fairseq_ki.objective.logits import write_logits
from fairseq_ki.objective.signals import (
    DenseSignal,
    HeadSignal,
    MixedSignal,
    OneTeacher,
    Signal,
    SparseSignal,
)


def mix(signals: Sequence[OneTeacher], weights: Sequence[float]) -> Signal:
    """The weighted mixture of several teachers' probabilities on the same N rows.

    Args:
        signals: one per teacher; sparse ones without a tail.
        weights: one per teacher, finite and above 0; only their proportions count.

    Returns:
        The signal itself if there is one, a SparseSignal if all are sparse, else a MixedSignal.

    Raises:
        ValueError: for no signals, other weights, or a signal with a tail: which part of it falls
            on the ids that another teacher lists is not known.
    """
    if not signals or len(signals) != len(weights):
        raise ValueError(
            f"mixture: expected a weight for each of one or more teachers, found {len(signals)} "
            f"teachers and {len(weights)} weights"
        )
    if not all(0.0 < weight < math.inf for weight in weights):
        raise ValueError(f"mixture: expected finite weights above 0, found {list(weights)}")
    if len(signals) == 1:
        return signals[0]
    if any(isinstance(s, SparseSignal) and s.tail is not None for s in signals):
        raise ValueError(
            "mixture: expected teachers without a tail bucket, found one: it may hold ids that "
            "another teacher lists; use the kept ids alone, or one teacher"
        )
    total = math.fsum(weights)
    shares = tuple(weight / total for weight in weights)
    sparse = [signal for signal in signals if isinstance(signal, SparseSignal)]
    if len(sparse) == len(signals):
        return _mix_sparse(sparse, shares)
    return MixedSignal(tuple(signals), shares)


def mixed_target_log_prob(log_probs: Sequence[Tensor], weights: Sequence[float]) -> Tensor:
    """log sum_i w_i * p_i from log p_i; all of one shape."""
    weighed = [log_prob + math.log(w) for log_prob, w in zip(log_probs, weights, strict=True)]
    return torch.stack(weighed).logsumexp(0)


def _mix_sparse(parts: Sequence[SparseSignal], weights: Sequence[float]) -> SparseSignal:
    """Ids that several teachers list become one, or the mixture's entropy would be wrong."""
    ids, order = torch.cat([part.ids.long() for part in parts], 1).sort(dim=1, stable=True)
    probs = torch.cat([w * p.probs for p, w in zip(parts, weights, strict=True)], 1)
    probs = probs.gather(1, order)
    new = torch.ones_like(ids, dtype=torch.bool)
    new[:, 1:] = ids[:, 1:] != ids[:, :-1]
    column = new.cumsum(1) - 1
    # columns that are left over at the end: probability 0 and the valid id 0, as padding has
    merged = torch.zeros_like(probs).scatter_add_(1, column, probs)
    merged_ids = torch.zeros_like(ids).scatter_(1, column, ids)
    return SparseSignal(
        ids=merged_ids,
        probs=merged,
        target_log_prob=mixed_target_log_prob([p.target_log_prob for p in parts], weights),
        top1=parts[_heaviest(weights)].top1,
    )


def _heaviest(weights: Sequence[float]) -> int:
    return max(range(len(weights)), key=weights.__getitem__)


def mixed_logits(
    signal: MixedSignal, at: slice, target: Tensor, tau: float, out: Tensor, spare: Tensor
) -> tuple[Tensor, Tensor | None]:
    """Write logits whose soft-max at tau is the mixture, for the rows ``at``.

    Args:
        target: (C,) right ids.
        out: (C, V), overwritten with tau * log P.
        spare: (C, V), overwritten.

    Returns:
        (C,) log-probability of the target in the teachers' mixture at temperature 1; and (C,) ids
        of the heaviest teacher's first choice, or None if that of ``out`` is the mixture's.
    """
    sparse = any(isinstance(part, SparseSignal) for part in signal.signals)
    heaviest = signal.signals[_heaviest(signal.weights)] if sparse else None
    first = None
    out.zero_()
    wanted, log_probs = target.unsqueeze(1), []
    for part, weight in zip(signal.signals, signal.weights, strict=True):
        if isinstance(part, SparseSignal):
            out.scatter_add_(1, part.ids[at].long(), (weight * part.probs[at]).to(out.dtype))
            log_probs.append(part.target_log_prob[at].to(out.dtype))
            if part is heaviest:
                first = part.top1[at].long()
            continue
        write_logits(part, at, spare)
        if part is heaviest:
            first = spare.argmax(1)
        # a logit of +inf is no number either, and another teacher's share would cover it up
        lse = spare.logsumexp(1)
        lse.masked_fill_(lse == math.inf, math.nan)
        log_probs.append(spare.gather(1, wanted).squeeze(1) - lse)
        out.add_(torch.softmax(spare.div_(tau), 1), alpha=weight)
    out.log_().mul_(tau)
    return mixed_target_log_prob(log_probs, signal.weights), first


def dense_mixture(
    signal: MixedSignal, target: Tensor, tau: float
) -> tuple[DenseSignal, Tensor, Tensor]:
    """Logits (N, V) whose soft-max at tau is the mixture, and `mixed_logits`' answers (N,)."""
    parts = tuple(s.dense() if isinstance(s, HeadSignal) else s for s in signal.signals)
    like = next(s.logits for s in parts if isinstance(s, DenseSignal))
    wide = torch.promote_types(like.dtype, torch.float32)
    said, spare = (torch.empty_like(like, dtype=wide) for _ in range(2))
    whole = slice(0, len(target))
    mixed = MixedSignal(parts, signal.weights)
    right, first = mixed_logits(mixed, whole, target, tau, said, spare)
    return DenseSignal(said), right, said.argmax(1) if first is None else first
