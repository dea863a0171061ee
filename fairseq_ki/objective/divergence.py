"""Losses between a student and what a teacher says, as pure functions of tensors.

Shapes: N rows (masked or next-token positions), V vocabulary, K listed token ids. Every loss is a
sum over its rows, in nats, accumulated in float32 when the inputs are float16 or bfloat16 (float64
stays float64). The direction is always KL(teacher || student), the student is always soft-maxed
over the whole vocabulary. The factor tau**2 is not in the divergences but in
`inheritance_objective`. Zero rows give 0 with zero gradients.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor


def _wide(x: Tensor) -> Tensor:
    return x if x.dtype == torch.float64 else x.float()


def summed_in(dtype: torch.dtype, tau: float) -> torch.dtype:
    """The type to compute a dense KL in: float64 for float32 inputs at temperatures above 2.

    There both distributions are nearly flat, and their KL is a small difference of large numbers:
    over 1,000 ids with logits of variance 1 float32 keeps 6 digits at tau = 2, and 4 at tau = 10.
    """
    return torch.float64 if dtype == torch.float32 and tau > 2.0 else dtype


def check_temperature(tau: float) -> None:
    """Raise ValueError unless tau is a finite number above 0."""
    if not 0.0 < tau < math.inf:
        raise ValueError(f"temperature: expected a finite number above 0, got {tau!r}")


def check_sparse(ids: Tensor, probs: Tensor, rows: int) -> None:
    """Raise ValueError unless ids and probs are both (rows, K)."""
    if ids.dim() != 2 or ids.shape != probs.shape or ids.shape[0] != rows:
        raise ValueError(
            f"sparse target: expected ids and probs of one shape ({rows}, K), got ids "
            f"{tuple(ids.shape)} and probs {tuple(probs.shape)}"
        )


def dense_kl(student_logits: Tensor, teacher_logits: Tensor, tau: float) -> Tensor:
    """Sum over rows of KL(softmax(teacher / tau) || softmax(student / tau)).

    Args:
        student_logits: (N, V).
        teacher_logits: (N, V); an id that the teacher cannot say may have -inf.
        tau: temperature, > 0.

    Returns:
        scalar, in nats, without tau**2 (equation 2 of the paper multiplies by it).
    """
    check_temperature(tau)
    if student_logits.shape != teacher_logits.shape:
        raise ValueError(
            "student and teacher must have the same rows and vocabulary: expected teacher logits "
            f"{tuple(student_logits.shape)}, got {tuple(teacher_logits.shape)}"
        )
    student_logits, teacher_logits = _wide(student_logits), _wide(teacher_logits)
    dtype = summed_in(student_logits.dtype, tau)
    student = F.log_softmax(student_logits.to(dtype) / tau, dim=-1)
    teacher = F.log_softmax(teacher_logits.to(dtype) / tau, dim=-1)
    # p log p is 0 at p = 0, but 0 * -inf is not
    teacher = teacher.clamp_min(torch.finfo(teacher.dtype).min)
    kl = F.kl_div(student, teacher, reduction="sum", log_target=True)
    return kl.to(student_logits.dtype)


def sparse_kl(student_logits: Tensor, ids: Tensor, probs: Tensor, tau: float) -> Tensor:
    """Sum over rows of sum_k p_k * (log p_k - log q_k) for targets on a few token ids.

    Serves both the paper's re-normalised top-K (`renormalised_topk`) and sampled targets (counts
    divided by the number of draws). It is the cross-entropy with the target minus its entropy.

    Args:
        student_logits: (N, V).
        ids: (N, K) integer token ids; where probs is 0 any valid id will do.
        probs: (N, K) probabilities at temperature tau, 0 as padding; a row of zeros counts 0.
        tau: temperature of both sides, > 0.

    Returns:
        scalar, in nats, without tau**2.
    """
    check_temperature(tau)
    check_sparse(ids, probs, student_logits.shape[0])
    p = _wide(probs)
    log_q = F.log_softmax(_wide(student_logits) / tau, dim=-1).gather(1, ids.long())
    return (torch.xlogy(p, p) - p * log_q).sum()


def tail_kl(student_logits: Tensor, ids: Tensor, probs: Tensor, tail: Tensor, tau: float) -> Tensor:
    """KL with K listed ids and one more bucket that holds all other ids together.

    Unlike the re-normalised form it does not push the student's mass off the ids that are not
    listed. An id is listed if its probability is above 0, so padding may carry any valid id.

    Args:
        student_logits: (N, V).
        ids: (N, K) integer token ids.
        probs: (N, K) the teacher's probabilities at tau, not re-normalised, 0 as padding.
        tail: (N,) the teacher's mass at tau on the ids that are not listed; taken as 0 where
            none is left out (K = V), however it was rounded.
        tau: temperature, > 0.

    Returns:
        scalar, in nats, without tau**2.
    """
    listed_part = sparse_kl(student_logits, ids, probs, tau)
    if tail.shape != probs.shape[:1]:
        raise ValueError(
            f"tail mass: expected shape {tuple(probs.shape[:1])}, got {tuple(tail.shape)}"
        )
    z, listed = _wide(student_logits) / tau, probs > 0
    t = bucket_mass(_wide(tail), listed, z.shape[1])
    # log(1 - sum q) loses all digits when the listed ids hold nearly all the mass, so the bucket
    # is summed over its own ids instead. Rows without a tail keep every id: their bucket may be
    # empty, and the gradient of an empty log-sum-exp is not a number.
    cut = (listed & (t > 0).unsqueeze(1)).to(z.dtype)
    cut = torch.zeros_like(z).scatter_reduce_(1, ids.long(), cut, "amax") > 0
    log_q_tail = z.masked_fill(cut, -math.inf).logsumexp(-1) - z.logsumexp(-1)
    return listed_part + (torch.xlogy(t, t) - t * log_q_tail).sum()


def bucket_mass(tail: Tensor, listed: Tensor, vocab: int) -> Tensor:
    """tail (N,), but 0 in rows where listed (N, K) leaves none of vocab ids for the bucket."""
    return tail.masked_fill(listed.sum(-1) >= vocab, 0.0)


def inheritance_objective(ce: Tensor, kl: Tensor, alpha: float | Tensor, tau: float) -> Tensor:
    """Equation 2 of the paper: (1 - alpha) * L_SELF + alpha * tau**2 * KL.

    Of the sums over all rows; or by row, (N,), where alpha may be (N,), too.
    """
    return (1.0 - alpha) * ce + alpha * tau**2 * kl


def renormalised_topk(log_probs: Tensor, tau: float) -> Tensor:
    """The paper's stored target: the K probabilities at tau, re-normalised over the K.

    Values kept at temperature 1 serve any tau here, because the normaliser over V cancels.

    Args:
        log_probs: (N, K) log-probabilities (or logits) at temperature 1, -inf as padding.
        tau: temperature, > 0.

    Returns:
        (N, K) probabilities in float32 (float64 for float64); a row that is all padding is 0.
    """
    check_temperature(tau)
    wide = _wide(log_probs)
    padding = wide == -math.inf
    return torch.softmax(wide / tau, dim=-1).masked_fill(padding, 0.0)


def top1_agreement(student_logits: Tensor, teacher_top1: Tensor) -> Tensor:
    """Number of rows whose most likely id is teacher_top1 (N,); scalar, detached."""
    return (student_logits.detach().argmax(-1) == teacher_top1).sum()


def target_log_prob(logits: Tensor, target: Tensor) -> Tensor:
    """(N,) log-probabilities at temperature 1 of target (N,) under logits (N, V), in nats."""
    return -F.cross_entropy(_wide(logits), target, reduction="none")


def smoothed_cross_entropy(logits: Tensor, target: Tensor, epsilon: float) -> Tensor:
    """Sum over rows of the cross-entropy with the paper's smoothed target (Table 10).

    The target is ``(1 - epsilon) * one_hot + epsilon / (V - 1)`` on every id, as the paper prints
    it; it sums to ``1 + epsilon / (V - 1)``. fairseq's label_smoothed_cross_entropy leaves the
    second term out on the right id, so that its target sums to 1.

    Args:
        logits: (N, V).
        target: (N,) right ids.
        epsilon: in [0, 1); 0 is plain cross-entropy.
    """
    check_smoothing(epsilon)
    log_q = F.log_softmax(_wide(logits), dim=-1)
    right = log_q.gather(1, target.unsqueeze(1)).sum()
    if epsilon == 0.0:
        return -right
    return -(1.0 - epsilon) * right - epsilon / (logits.shape[-1] - 1) * log_q.sum()


def check_smoothing(epsilon: float) -> None:
    """Raise ValueError unless epsilon is in [0, 1)."""
    if not 0.0 <= epsilon < 1.0:
        raise ValueError(f"label smoothing: expected a number in [0, 1), got {epsilon!r}")
