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
from fairseq_ki.objective.signals import DenseSignal, HeadSignal, Signal


class Terms(NamedTuple):
    """The objective and what is logged of it: 0-dim sums over rows, in nats.

    Args:
        objective: (1 - rate) * ce + rate * temperature^2 * kl; the only differentiable one.
        ce: self-learning cross-entropy at temperature 1.
        kl: KL(teacher || student) at the run's temperature.
        teacher_nll: the teacher's cross-entropy on the targets at temperature 1.
        agreement: number of rows where teacher and student put the same token first.
    """

    objective: Tensor
    ce: Tensor
    kl: Tensor
    teacher_nll: Tensor
    agreement: Tensor


def dense_terms(
    logits: Tensor,
    target: Tensor,
    signal: Signal | None,
    rate: float,
    temperature: float,
    label_smoothing: float = 0.0,
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
    if isinstance(signal, DenseSignal):
        kl = dense_kl(logits, signal.logits, temperature)
        teacher_nll = -target_log_prob(signal.logits, target).sum()
        teacher_top1 = signal.logits.argmax(dim=-1)
    else:
        if signal.tail is None:
            kl = sparse_kl(logits, signal.ids, signal.probs, temperature)
        else:
            kl = tail_kl(logits, signal.ids, signal.probs, signal.tail, temperature)
        teacher_nll = -signal.target_log_prob.sum()
        teacher_top1 = signal.top1
    objective = inheritance_objective(self_learning, kl, rate, temperature)
    agreement = top1_agreement(logits, teacher_top1)
    return Terms(objective, ce.detach(), kl.detach(), teacher_nll, agreement)
