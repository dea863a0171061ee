"""Which share of the wall time goes to the teacher, without making the device wait."""

import time
from collections.abc import Iterator
from contextlib import contextmanager

import torch


class TeacherClock:
    """Seconds in the teacher against seconds between one forward pass and the next.

    On CUDA the teacher is timed with events that are read one update later, when they have
    long happened: reading at once would stall the device in every update.
    """

    def __init__(self) -> None:
        self._seconds = 0.0
        self._events: list[tuple[torch.cuda.Event, torch.cuda.Event]] = []
        self._last_read: float | None = None

    @contextmanager
    def teacher(self, device: torch.device) -> Iterator[None]:
        """Time the block as the teacher's."""
        if device.type == "cuda":
            start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
            start.record()
            yield
            end.record()
            self._events.append((start, end))
        else:
            begun = time.perf_counter()
            yield
            self._seconds += time.perf_counter() - begun

    def read(self) -> tuple[float, float]:
        """(teacher's seconds, wall seconds) since the last read; (0, 0) the first time."""
        now = time.perf_counter()
        done = [pair for pair in self._events if pair[1].query()]
        self._events = [pair for pair in self._events if pair not in done]
        self._seconds += sum(start.elapsed_time(end) / 1000 for start, end in done)
        seconds, self._seconds = self._seconds, 0.0
        since, self._last_read = self._last_read, now
        return (0.0, 0.0) if since is None else (seconds, now - since)
