"""Equation 2 on logits that exist in full: simple, and fast where rows are few.

Shapes: N rows, V vocabulary, K kept ids.
"""

from typing import NamedTuple

import torch.nn.functional as F
from torch import Tensor

from fairseq_ki.objective.divergence import (
    dense_kl,
    inheritance_objective,
    smoothed_cross_entropy,
    sparse_kl,
    tail_kl,
    target_log_prob,
    top1_agreement,
)
from fairseq_ki.objective.mixing import dense_mixture
from fairseq_ki.objective.signals import DenseSignal, HeadSignal, MixedSignal, Signal


class Terms(NamedTuple):
    """The objective and what is logged of it: 0-dim sums over N rows, in nats.

    Args:
        objective: (1 - rate) * ce + rate * temperature^2 * kl; the only differentiable one.
        ce: self-learning cross-entropy at temperature 1.
        kl: KL(teacher || student) at the run's temperature.
        teacher_nll: the teacher's cross-entropy on the targets at temperature 1.
        agreement: number of rows where teacher and student put the same token first; of mixtures
            see ``mixing``.
        bad_rows: (N,) bool, True where the teacher's logits hold a NaN or +inf, so that it says
            nothing; None if no teacher was asked.
    """

    objective: Tensor
    ce: Tensor
    kl: Tensor
    teacher_nll: Tensor
    agreement: Tensor
    bad_rows: Tensor | None = None


def dense_terms(
    logits: Tensor,
    target: Tensor,
    signal: Signal | None,
    rate: float,
    temperature: float,
    label_smoothing: float = 0.0,
    skip_bad_rows: bool = False,
) -> Terms:
    """Equation 2 of the paper for one batch.

    Args:
        logits: (N, V) of the student.
        target: (N,) int64.
        signal: the teacher's word on the same rows; None for self-learning alone.
        rate: inheritance rate in [0, 1].
        temperature: of both distributions in the KL term.
        label_smoothing: epsilon of the self-learning part of the objective, as in
            `divergence.smoothed_cross_entropy`; ``ce`` is never smoothed.
        skip_bad_rows: rows whose teacher logits are no numbers get the rate 0, and count neither
            in ``kl``, ``teacher_nll`` nor ``agreement``; otherwise they make the objective NaN.
    """
    ce = F.cross_entropy(logits.float(), target, reduction="sum")
    zero = ce.new_zeros(())
    self_learning = (
        smoothed_cross_entropy(logits, target, label_smoothing) if label_smoothing else ce
    )
    if signal is None:
        return Terms(self_learning, ce.detach(), zero, zero, zero)
    if isinstance(signal, HeadSignal):
        signal = signal.dense()
    if isinstance(signal, MixedSignal):
        signal, said_right, teacher_top1 = dense_mixture(signal, target, temperature)
    elif isinstance(signal, DenseSignal):
        said_right = target_log_prob(signal.logits, target)
        teacher_top1 = signal.logits.argmax(dim=-1)
    else:
        said_right, teacher_top1 = signal.target_log_prob, signal.top1
    teacher_nll = -said_right
    bad_rows = teacher_nll.isnan()
    if isinstance(signal, DenseSignal):
        if skip_bad_rows and bad_rows.any():
            good = ~bad_rows
            return _without_rows(
                bad_rows, logits, target, signal.logits, rate, temperature, label_smoothing
            )._replace(
                teacher_nll=teacher_nll[good].sum(),
                agreement=top1_agreement(logits[good], teacher_top1[good]),
            )
        kl = dense_kl(logits, signal.logits, temperature)
    elif signal.tail is None:
        kl = sparse_kl(logits, signal.ids, signal.probs, temperature)
    else:
        kl = tail_kl(logits, signal.ids, signal.probs, signal.tail, temperature)
    objective = inheritance_objective(self_learning, kl, rate, temperature)
    agreement = top1_agreement(logits, teacher_top1)
    return Terms(objective, ce.detach(), kl.detach(), teacher_nll.sum(), agreement, bad_rows)


def _without_rows(
    bad_rows: Tensor,
    logits: Tensor,
    target: Tensor,
    said: Tensor,
    rate: float,
    temperature: float,
    label_smoothing: float,
) -> Terms:
    """`dense_terms` where the teacher's logits ``said`` (N, V) count in the other rows alone."""
    good = ~bad_rows
    taught = dense_terms(
        logits[good], target[good], DenseSignal(said[good]), rate, temperature, label_smoothing
    )
    alone = dense_terms(logits[bad_rows], target[bad_rows], None, 0.0, temperature, label_smoothing)
    return taught._replace(
        objective=taught.objective + alone.objective, ce=taught.ce + alone.ce, bad_rows=bad_rows
    )
