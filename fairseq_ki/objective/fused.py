"""Equation 2 from features and output weight, without full logits.

The dense form keeps several (N, V) blocks alive for the backward pass: the student's and the
teacher's logits, their soft-maxes at temperature 1 and tau, and gradients. `fused_terms` works
through the rows in chunks instead: logits, losses, the losses' gradient written over the logits
(see `blocks`), and from it the gradients of features, weight and bias, all in the forward pass.

Shape suffixes: N rows, C rows of one chunk or block, V vocabulary, D features.
"""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from fairseq_ki.objective.blocks import Blend, block_losses
from fairseq_ki.objective.dense import Terms
from fairseq_ki.objective.divergence import (
    check_smoothing,
    check_sparse,
    check_temperature,
    inheritance_objective,
    summed_in,
)
from fairseq_ki.objective.logits import MM_OUT_DTYPE, linear, wide_mm, write_logits
from fairseq_ki.objective.mixing import mixed_logits
from fairseq_ki.objective.signals import (
    DenseSignal,
    HeadSignal,
    MixedSignal,
    OneTeacher,
    Signal,
    SparseSignal,
)

# A chunk is what one matrix product takes: large enough to use the weight well each time that it
# is read. A block is what one elementwise pass takes, in elements of a (rows, V) buffer. On a CPU
# a small one keeps its buffers in the cache from pass to pass (600 rows x 8,000 on two quiet
# cores, against dense: 2**19 0.45, 2**21 0.63, whole chunk 0.78), but after each pass the threads
# wait for one another, which costs milliseconds when other processes want the cores.
_CHUNK = {"cpu": 1 << 24, "cuda": 1 << 26}
_BLOCK = {"cpu": 1 << 20, "cuda": 1 << 24}


def fused_terms(
    features: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    target: Tensor,
    signal: Signal | None,
    rate: float,
    temperature: float,
    *,
    label_smoothing: float = 0.0,
    skip_bad_rows: bool = False,
    chunk_rows: int | None = None,
) -> Terms:
    """Equation 2 of the paper for one batch, as one autograd node; what `dense_terms` gives.

    Args:
        features: (N, D) what the student's output layer is applied to. N = 0 is allowed: every
            gradient is then zero, not missing.
        weight: (V, D) the output layer's weight; may be tied to an embedding.
        bias: (V,) or None.
        target: (N,) int64.
        signal: the teacher's word on the same rows; None for self-learning alone.
        rate: inheritance rate in [0, 1].
        temperature: of both distributions in the KL term.
        label_smoothing: epsilon of the self-learning part of the objective, as in
            `divergence.smoothed_cross_entropy`; ``ce`` is never smoothed.
        skip_bad_rows: as in `dense_terms`.
        chunk_rows: rows per matrix product; by default from the size of the vocabulary.

    Returns:
        Terms. Gradients are computed here if grad mode is on and an input needs them, so a
        validation pass costs the forward alone. Half-precision inputs are accumulated in float32.
        Two ids that share the highest logit both count as first in ``agreement``.

    Raises:
        ValueError: for shapes that do not fit, or numbers out of range.
    """
    rows, vocab = features.shape[0], weight.shape[0]
    check_temperature(temperature)
    check_smoothing(label_smoothing)
    if target.shape != (rows,):
        raise ValueError(f"target: expected shape ({rows},), got {tuple(target.shape)}")
    if chunk_rows is not None and chunk_rows < 1:
        raise ValueError(f"chunk_rows: expected 1 or more, got {chunk_rows}")
    if not 0.0 <= rate <= 1.0:
        raise ValueError(f"rate: expected a number in [0, 1], got {rate!r}")
    if signal is not None:
        _check_signal(signal, rows, vocab)
    blend = Blend(target, signal, rate, temperature, label_smoothing, skip_bad_rows)
    terms = _FusedTerms.apply(features, weight, bias, blend, chunk_rows, torch.is_grad_enabled())
    return Terms(*terms) if signal is not None else Terms(*terms[:-1])


def _check_signal(signal: Signal, rows: int, vocab: int) -> None:
    if isinstance(signal, MixedSignal):
        for part in signal.signals:
            _check_signal(part, rows, vocab)
        return
    if isinstance(signal, SparseSignal):
        check_sparse(signal.ids, signal.probs, rows)
        for name in ("target_log_prob", "top1", "tail"):
            value = getattr(signal, name)
            if value is not None and value.shape != (rows,):
                raise ValueError(
                    f"sparse signal, {name}: expected shape ({rows},), got {tuple(value.shape)}"
                )
        return
    if isinstance(signal, HeadSignal):
        found = [signal.features.shape[0], signal.weight.shape[0]]
    else:
        found = list(signal.logits.shape)
    if found != [rows, vocab]:
        raise ValueError(
            "student and teacher must have the same rows and vocabulary: expected "
            f"[{rows}, {vocab}], got {found}"
        )


class _FusedTerms(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        features: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        blend: Blend,
        chunk_rows: int | None,
        grad_enabled: bool,
    ) -> tuple[Tensor, ...]:
        need = [grad_enabled and needed for needed in ctx.needs_input_grad[:3]]
        dtype = _compute_dtype(features, weight)
        blend = replace(blend, signal=_in_compute_dtype(blend.signal))
        # autocast has no say in products with out=, and would round the accumulators
        with torch.autocast(features.device.type, enabled=False):
            terms, grads = _run(features, weight, bias, blend, chunk_rows, need, dtype)
        ctx.save_for_backward(*grads)
        ctx.dtypes = [None if x is None else x.dtype for x in (features, weight, bias)]
        ctx.mark_non_differentiable(*terms[1:])
        return terms

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_objective: Tensor, *_: Tensor) -> tuple[Tensor | None, ...]:
        # Scaled in the accumulators' float32 and only then rounded: the loss scale of fp16
        # training arrives here. In place unless the graph is wanted again; a copy of the weight's
        # gradient would cost as much as the loss of some 50 rows.
        scaled = (
            torch.mul if torch._C._autograd._get_current_graph_task_keep_graph() else Tensor.mul_
        )
        grads = [
            None if grad is None else scaled(grad, grad_objective).to(dtype)
            for grad, dtype in zip(ctx.saved_tensors, ctx.dtypes, strict=True)
        ]
        return (*grads, None, None, None)


def _compute_dtype(features: Tensor, weight: Tensor) -> torch.dtype:
    """The type of the matrix products: half only where the hardware sums it up in float32."""
    device = features.device.type
    if torch.is_autocast_enabled(device):
        dtype = torch.get_autocast_dtype(device)
    else:
        dtype = torch.promote_types(features.dtype, weight.dtype)
    return torch.float32 if device == "cpu" and dtype != torch.float64 else dtype


def _run(
    features: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    blend: Blend,
    chunk_rows: int | None,
    need: list[bool],
    dtype: torch.dtype,
) -> tuple[tuple[Tensor, ...], list[Tensor | None]]:
    """`Terms`, and the gradients of the objective with respect to features, weight and bias."""
    (rows, vocab), signal = (features.shape[0], weight.shape[0]), blend.signal
    wide = torch.float64 if dtype == torch.float64 else torch.float32
    result = wide
    dense = signal is not None and not isinstance(signal, SparseSignal)
    if dtype == torch.float32 and dense:
        wide = summed_in(dtype, blend.tau)
    grads = [
        torch.zeros_like(x, dtype=wide) if x is not None and needed else None
        for x, needed in zip((features, weight, bias), need, strict=True)
    ]
    weight = weight.to(dtype)
    kind = "cpu" if features.device.type == "cpu" else "cuda"
    chunk = chunk_rows or max(1, _CHUNK[kind] // vocab)
    block = max(1, _BLOCK[kind] // vocab)

    def buffer(size: int) -> Tensor:
        return features.new_empty(min(size, rows), vocab, dtype=wide)

    logits_CV, scratch_CV = buffer(chunk), [buffer(min(block, chunk)) for _ in range(3)]
    said_CV = buffer(chunk if dense else 0)
    spare_CV = buffer(chunk if isinstance(signal, MixedSignal) else 0)
    losses = features.new_zeros(6, rows, dtype=wide)

    for here in _slices(0, rows, chunk):
        n = here.stop - here.start
        x = features[here].to(dtype)
        linear(x, weight, bias, logits_CV[:n])
        # the teacher's log-probability of the right id, and its first id, where logits lack them
        said_right = first = None
        if isinstance(signal, MixedSignal):
            buffers = said_CV[:n], spare_CV[:n]
            said_right, first = mixed_logits(signal, here, blend.target[here], blend.tau, *buffers)
        elif isinstance(signal, HeadSignal | DenseSignal):
            write_logits(signal, here, said_CV[:n])
        for part in _slices(0, n, block):
            at = slice(here.start + part.start, here.start + part.stop)
            said = said_CV[part] if dense else None
            known = [None if x is None else x[part] for x in (said_right, first)]
            scratch = [x[: part.stop - part.start] for x in scratch_CV]
            losses[:, at] = block_losses(
                logits_CV[part], said, at, blend, scratch, any(need), *known
            )
        _accumulate(logits_CV[:n], x, weight, here, grads)

    ce, self_learning, kl, teacher_nll, agree, bad = losses
    rate = blend.rate * (1.0 - bad) if blend.skip_bad else blend.rate
    objective = inheritance_objective(self_learning, kl, rate, blend.tau).sum()
    sums = (objective, ce.sum(), kl.sum(), teacher_nll.sum())
    return (*(x.to(result) for x in sums), agree.sum().long(), bad.bool()), grads


def _in_compute_dtype(signal: Signal | None) -> Signal | None:
    """The signal with the weights of its output layers cast once, not in every chunk."""

    def cast(part: OneTeacher) -> OneTeacher:
        if not isinstance(part, HeadSignal):
            return part
        dtype = _compute_dtype(part.features, part.weight)
        return replace(part, weight=part.weight.to(dtype))

    if isinstance(signal, MixedSignal):
        return replace(signal, signals=tuple(cast(part) for part in signal.signals))
    return None if signal is None else cast(signal)


def _slices(start: int, stop: int, step: int) -> Iterator[slice]:
    for at in range(start, stop, step):
        yield slice(at, min(at + step, stop))


def _accumulate(
    grad_CV: Tensor, x: Tensor, weight: Tensor, here: slice, grads: list[Tensor | None]
) -> None:
    """Add one chunk's share to the gradients of features, weight and bias."""
    d_features, d_weight, d_bias = grads
    if d_bias is not None:
        d_bias += grad_CV.sum(0)
    if x.dtype == grad_CV.dtype:
        if d_features is not None:
            torch.mm(grad_CV, weight, out=d_features[here])
        if d_weight is not None:
            # with beta = 0 the first chunk does not read what it replaces
            d_weight.addmm_(grad_CV.t(), x, beta=0 if here.start == 0 else 1)
        return
    # A soft-max over a large vocabulary underflows in float16; products that come out in float32
    # leave room to scale it up.
    scale = 1024.0 if x.dtype == torch.float16 and MM_OUT_DTYPE else 1.0
    half = grad_CV.mul_(scale).to(x.dtype)
    if d_features is not None:
        d_features[here] = wide_mm(half, weight, grad_CV.dtype).div_(scale)
    if d_weight is not None:
        d_weight.add_(wide_mm(half.t(), x, grad_CV.dtype), alpha=1.0 / scale)


def prefer_fused(rows: int) -> bool:
    """Whether `fused_terms` is at least as fast as `dense_terms` on full logits.

    Measured with ``benchmarks/loss.py`` on one CPU core (fused / dense): with few rows the fixed
    costs decide and the dense form's logits are small anyway (16 rows x 8,000: 1.04, one row x
    1,000: 1.6). At 64 rows the two meet at the latest (0.67 to 0.99 over vocabularies from 1,000
    to 50,265), and from there on fused gains with every row (600 x 8,000: 0.58).
    """
    return rows >= 64
