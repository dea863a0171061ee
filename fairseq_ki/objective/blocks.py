"""Losses of a block of rows and their gradient with respect to the student's logits.

With z the student's logits, y the right id and P the teacher's distribution at tau, the gradient
of ``(1 - rate) * CE + rate * tau**2 * KL`` has the closed form

    (1 - rate) * (softmax(z) - one_hot(y)) + rate * tau * (softmax(z / tau) - P)

The passes over (C, V) buffers are what this costs. They are few, in place, and free of the ones
that are slow on a CPU: an exponential takes as long as six sums, an argmax longer still.

Shapes: C rows of a block, V vocabulary, K listed ids.
"""

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from fairseq_ki.objective.divergence import bucket_mass
from fairseq_ki.objective.signals import Signal, SparseSignal


@dataclass(frozen=True)
class Blend:
    """What the objective of N rows is made of, besides the student's logits."""

    target: Tensor  # (N,) right ids
    signal: Signal | None
    rate: float
    tau: float
    smoothing: float  # of the self-learning part, as in divergence.smoothed_cross_entropy
    skip_bad: bool = False  # rows whose teacher logits are no numbers: as if their rate were 0


def block_losses(
    z: Tensor,
    said: Tensor | None,
    at: slice,
    blend: Blend,
    scratch: list[Tensor],
    grad: bool,
    said_right: Tensor | None = None,
    said_first: Tensor | None = None,
) -> Tensor:
    """Losses of the rows ``at``; replaces their logits by the gradient.

    Args:
        z: (C, V) the student's logits, overwritten.
        said: (C, V) the teacher's logits, overwritten; None for a sparse signal or none.
        at: which of the N rows of ``blend`` these are.
        scratch: three (C, V) buffers.
        grad: False leaves z undefined.
        said_right: (C,) the teacher's log-probability of the right id at temperature 1, where
            ``said`` tells its distribution at tau alone.
        said_first: (C,) the id that agreement is with, where it is not the first of ``said``.

    Returns:
        (6, C): cross-entropy, self-learning loss (the same unless smoothed), KL without tau**2,
        the teacher's cross-entropy at temperature 1, agreement of the first ids as 0 or 1, and 1
        where the teacher's logits are no numbers. The third to fifth are 0 where there is no
        signal or the row is skipped.
    """
    at_one, at_tau, said_at_tau = scratch
    vocab, y = z.shape[1], blend.target[at].unsqueeze(1)
    rate: float | Tensor = blend.rate  # becomes (C, 1) if rows are skipped
    uniform = blend.smoothing / (vocab - 1)
    right = z.gather(1, y).squeeze(1)
    z_sum = z.sum(-1) if blend.smoothing else 0.0

    tau, sparse = blend.tau, None
    mass: float | Tensor = 1.0  # of the target; it may be less on sampled or padded rows
    if isinstance(blend.signal, SparseSignal):
        sparse = _rows(blend.signal, at, z)
        compared, lse, norm = _against_sparse(z, sparse, tau, scratch)
        mass = sparse.probs.sum(-1, keepdim=True)
        if sparse.tail is not None:
            mass = mass + sparse.tail.unsqueeze(1)
    elif said is not None:
        agree = None
        if said_first is not None:  # now, as z is about to be overwritten
            agree = _are_first(z, said_first, z.amax(-1))
        compared, lse, norm = _against_dense(z, said, y, tau, scratch)
        if agree is not None:
            compared[2] = agree.to(lse)
        if said_right is not None:
            compared[1] = -said_right
    else:
        tau, mass = 1.0, 0.0
        _, lse, norm = _softmaxes(z, z.amax(-1), tau, at_tau, at_one)
        compared = [torch.zeros_like(lse)] * 3
    ce = lse - right
    self_learning = ce
    if blend.smoothing:
        self_learning = (1.0 - blend.smoothing) * ce + uniform * (vocab * lse - z_sum)
    # one NaN or +inf among a row's logits makes its soft-max NaN; -inf alone is a probability of 0
    bad = compared[1].isnan()
    losses = torch.stack([ce, self_learning, *compared, bad.to(ce)])
    if said is not None and blend.skip_bad and (z.is_cuda or bad.any()):
        # On CUDA one more pass over the buffer, which is less than waiting for the answer.
        rate = torch.full_like(right, blend.rate).masked_fill_(bad, 0.0).unsqueeze(1)
        said_at_tau.masked_fill_(bad.unsqueeze(1), 0.0)
        losses[2:5].masked_fill_(bad, 0.0)
    if not grad:
        return losses

    own = (1.0 - rate) * (1.0 + uniform)  # the smoothed target sums to 1 + uniform
    if tau == 1.0:
        torch.mul(at_tau, own + rate * mass, out=z)
    else:
        torch.mul(at_one, own / norm, out=z)
        _add_scaled_(z, at_tau, rate * tau * mass)
    if sparse is not None and sparse.tail is None:
        z.scatter_add_(1, sparse.ids, -rate * tau * sparse.probs)
    elif blend.signal is not None:
        _add_scaled_(z, said_at_tau, -rate * tau)
    one_hot = (1.0 - rate) * (1.0 - blend.smoothing)
    z.scatter_add_(1, y, torch.zeros_like(y, dtype=z.dtype) - one_hot)
    if blend.smoothing:
        z.sub_((1.0 - rate) * uniform)
    return losses


def _add_scaled_(z: Tensor, x: Tensor, factor: float | Tensor) -> None:
    """z += factor * x, where factor is a number or (C, 1); may overwrite x."""
    if isinstance(factor, Tensor):
        z.add_(x.mul_(factor))
    else:
        z.add_(x, alpha=factor)


def _softmax(z: Tensor, largest: Tensor, out: Tensor) -> Tensor:
    """out = softmax(z) by rows, whose largest values (C,) are known; returns the log-sum-exp (C,).

    The latter comes from the largest probability: at least 1 / V, so its log is exact, and it
    costs no second exponential.
    """
    torch.softmax(z, -1, out=out)
    return largest - out.amax(-1).log()


def _softmaxes(
    z: Tensor, largest: Tensor, tau: float, at_tau: Tensor, at_one: Tensor
) -> tuple[Tensor, Tensor, float | Tensor]:
    """Soft-maxes at tau and at 1; divides z by tau on the way.

    Returns:
        log-sum-exp (C,) of z / tau, the same of z, and what ``at_one`` has yet to be divided by
        to be a soft-max: 1 or (C, 1). At tau = 1 ``at_one`` is left alone: it would be at_tau.
    """
    if tau == 1.0:
        lse = _softmax(z, largest, at_tau)
        return lse, lse, 1.0
    if tau == 2.0:
        # softmax(z) is softmax(z / 2) squared and normalised: at the temperature that is used
        # most, that spares the second exponential
        lse_tau = _softmax(z.div_(tau), largest / tau, at_tau)
        norm = torch.mul(at_tau, at_tau, out=at_one).sum(-1, keepdim=True)
        return lse_tau, 2.0 * lse_tau + norm.log().squeeze(1), norm
    lse = _softmax(z, largest, at_one)
    return _softmax(z.div_(tau), largest / tau, at_tau), lse, 1.0


def _against_dense(
    z: Tensor, said: Tensor, y: Tensor, tau: float, scratch: list[Tensor]
) -> tuple[list[Tensor], Tensor, float | Tensor]:
    """Compares with the teacher's logits; both get divided by tau, and said is overwritten.

    Leaves in scratch: softmax(z) times a factor, softmax(z / tau), the teacher's softmax at tau.

    Returns:
        [KL, teacher's cross-entropy, agreement], each (C,); log-sum-exp of z (C,); the factor.
    """
    at_one, at_tau, said_at_tau = scratch
    # the largest sum is the sum of the largest only if both have their first id in common
    largest, said_largest = z.amax(-1), said.amax(-1)
    agree = torch.add(z, said, out=at_one).amax(-1) == largest + said_largest
    said_right = said.gather(1, y).squeeze(1)
    said_lse_tau, said_lse, _ = _softmaxes(said, said_largest, tau, said_at_tau, at_one)
    lse_tau, lse, norm = _softmaxes(z, largest, tau, at_tau, at_one)
    # The difference of the logits first: identical ones then give exactly 0. An id that the
    # teacher cannot say has -inf, and 0 * -inf must be 0.
    said.sub_(z).clamp_(min=torch.finfo(z.dtype).min)
    kl = said.mul_(said_at_tau).sum(-1) - said_lse_tau + lse_tau
    return [kl, said_lse - said_right, agree.to(kl)], lse, norm


def _are_first(z: Tensor, ids: Tensor, largest: Tensor) -> Tensor:
    """Whether the ids (C,) have the largest logits (C,) of their rows."""
    return z.gather(1, ids.unsqueeze(1)).squeeze(1) == largest


def _rows(signal: SparseSignal, at: slice, z: Tensor) -> SparseSignal:
    """The rows ``at`` in the types of the block."""
    probs, tail = signal.probs[at].to(z.dtype), signal.tail
    if tail is not None:
        tail = bucket_mass(tail[at].to(z.dtype), probs > 0, z.shape[1])
    return replace(
        signal,
        ids=signal.ids[at].long(),
        probs=probs,
        target_log_prob=signal.target_log_prob[at].to(z.dtype),
        top1=signal.top1[at].long(),
        tail=tail,
    )


def _against_sparse(
    z: Tensor, signal: SparseSignal, tau: float, scratch: list[Tensor]
) -> tuple[list[Tensor], Tensor, float | Tensor]:
    """As `_against_dense`; the third buffer is left alone unless the signal has a tail."""
    at_one, at_tau, said_at_tau = scratch
    ids, p, tail = signal.ids, signal.probs, signal.tail
    largest = z.amax(-1)
    agree = _are_first(z, signal.top1, largest)
    lse_rest = z.new_zeros(())
    if tail is not None:
        # Soft-max over the ids that are not listed: the tail bucket's share of the target. Over
        # all ids where there is no mass: the bucket may be empty there.
        cut = torch.where((p > 0) & (tail > 0).unsqueeze(1), -torch.inf, torch.inf).to(z.dtype)
        rest = torch.div(z, tau, out=at_tau).scatter_reduce_(1, ids, cut, "amin")
        lse_rest = _softmax(rest, rest.amax(-1), said_at_tau)
        said_at_tau.mul_(tail.unsqueeze(1)).scatter_add_(1, ids, p)
    lse_tau, lse, norm = _softmaxes(z, largest, tau, at_tau, at_one)
    kl = (torch.xlogy(p, p) - p * (z.gather(1, ids) - lse_tau.unsqueeze(1))).sum(-1)
    if tail is not None:
        kl += torch.xlogy(tail, tail) - tail * (lse_rest - lse_tau)
    return [kl, -signal.target_log_prob, agree.to(kl)], lse, norm
