"""The teacher's forward pass on a CUDA stream of its own, beside the student's."""

import dataclasses
import logging
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

from fairseq_ki.objective.signals import MixedSignal, Signal

logger = logging.getLogger(__name__)


class SideStream:
    """Lets a GPU work on teacher and student at once; without CUDA it does nothing.

    Args:
        used: whether to, and not one after the other.
    """

    def __init__(self, used: bool) -> None:
        self._used = used
        self._stream: torch.cuda.Stream | None = None

    @contextmanager
    def aside(self, device: torch.device) -> Iterator[None]:
        """What is launched in the block starts when all before it is done, and nobody waits."""
        if self._used and device.type != "cuda":
            logger.warning(
                f"--ki-teacher-stream: expected a CUDA device, found {device}: no effect"
            )
            self._used = False
        if not self._used:
            yield
            return
        if self._stream is None:
            self._stream = torch.cuda.Stream(device)
        self._stream.wait_stream(torch.cuda.current_stream(device))
        with torch.cuda.stream(self._stream):
            yield

    def join(self, signal: Signal | tuple[Signal | None, ...] | None) -> None:
        """From here on the student's stream may read the signal."""
        if self._stream is None:
            return
        current = torch.cuda.current_stream(self._stream.device)
        current.wait_stream(self._stream)
        for tensor in tensors(signal):
            # or its memory could be handed out again on the side stream while it is being read
            tensor.record_stream(current)


def tensors(signal: Signal | tuple[Signal | None, ...] | None) -> Iterator[Tensor]:
    """All tensors of what a source said."""
    if signal is None:
        return
    if isinstance(signal, tuple):
        parts = signal
    elif isinstance(signal, MixedSignal):
        parts = signal.signals
    else:
        values = (getattr(signal, field.name) for field in dataclasses.fields(signal))
        yield from (value for value in values if isinstance(value, Tensor))
        return
    for part in parts:
        yield from tensors(part)
