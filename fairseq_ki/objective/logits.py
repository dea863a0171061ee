"""Logits of some rows, written into a buffer.

Shapes: C rows, V vocabulary, D features.
"""

import torch
from torch import Tensor

from fairseq_ki.objective.signals import DenseSignal, HeadSignal

# torch >= 2.8: matrix products of half inputs with a float32 result, on CUDA
MM_OUT_DTYPE = "dtype" in torch.ops.aten.mm.overloads()


def linear(x: Tensor, weight: Tensor, bias: Tensor | None, out: Tensor) -> None:
    """out (C, V) = x (C, D) @ weight.T (V, D) + bias (V,); x and weight are of one type."""
    if x.dtype == out.dtype:
        torch.mm(x, weight.t(), out=out)
    else:
        out.copy_(wide_mm(x, weight.t(), out.dtype))
    if bias is not None:
        out.add_(bias)


def wide_mm(a: Tensor, b: Tensor, wide: torch.dtype) -> Tensor:
    """a @ b in the type ``wide``, not rounded to half before, where torch can do that."""
    if a.is_cuda and MM_OUT_DTYPE and a.dtype in (torch.float16, torch.bfloat16):
        # torch gives float32 at most; wide may be float64
        return torch.mm(a, b, out_dtype=torch.float32).to(wide)
    return torch.mm(a, b).to(wide)


def write_logits(signal: DenseSignal | HeadSignal, rows: slice, out: Tensor) -> None:
    """Put a teacher's logits of some rows into ``out`` (C, V).

    The product of a head is in the type of its weight.
    """
    if isinstance(signal, DenseSignal):
        out.copy_(signal.logits[rows])
    else:
        linear(signal.features[rows].to(signal.weight.dtype), signal.weight, signal.bias, out)
