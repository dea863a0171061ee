"""What a capture will weigh and how long it will take, from a few batches that are timed."""

import itertools
import time
from dataclasses import dataclass

import numpy as np

from fairseq_ki.capture.session import Session
from fairseq_ki.capture.writing import kept_rows
from fairseq_ki.store import ZERO, Plan, Rows, bytes_per_row

_TIMED_BATCHES = 4  # and one before them, which warms up


@dataclass(frozen=True)
class Forecast:
    """Of the whole capture, by one process (of as many as share the work on other devices).

    Args:
        samples, shards: all splits and mask epochs; exact.
        rows: estimated, as everything that follows.
        bytes: of the shards.
        seconds: with all of this process's threads.
        bytes_per_row, distinct: means; the latter of the ids kept per row.
    """

    samples: int
    shards: int
    rows: int
    bytes: int
    seconds: float
    bytes_per_row: float
    distinct: float

    def text(self) -> str:
        """For people."""
        return (
            f"forecast: {self.samples:,} samples, about {self.rows:,} rows, "
            f"{self.distinct:.1f} ids and {self.bytes_per_row:.1f} bytes each: "
            f"{size(self.bytes)} in {self.shards:,} shards, {duration(self.seconds)}"
        )


def forecast(session: Session, plan: Plan, processes: int = 1) -> Forecast:
    """Capture a few batches, keep nothing, and extrapolate.

    Args:
        processes: how many share the work without sharing a device.
    """
    split = session.splits[0]
    split.set_epoch(1)
    batches = split.batches(range(len(split)), session.settings.batch_size)
    samples = rows = 0
    distinct = 0.0
    begun = time.perf_counter()
    for number, batch in enumerate(itertools.islice(batches, 1 + _TIMED_BATCHES)):
        for said in session.teacher.say(batch):
            kept = kept_rows(plan, 0, 1, said.samples, said.scores)
            plan.encoding.encode_samples(kept, [len(s.targets) for s in said.samples])
            rows += len(kept)
            distinct += kept_ids(kept)
        samples += len(batch.samples)
        if number == 0:
            warmed_up, first = time.perf_counter(), samples
    seconds = (time.perf_counter() - warmed_up) / max(1, samples - first)
    if samples == first:  # there is one batch only
        seconds = (warmed_up - begun) / samples
    per_row = bytes_per_row(plan.encoding, max(1, rows) / samples, distinct / max(1, rows))
    in_all = sum(split.blocks for split in plan.splits) * plan.mask_epochs
    in_all_rows = round(in_all * rows / samples)
    return Forecast(
        samples=in_all,
        shards=plan.shard_count,
        rows=in_all_rows,
        bytes=round(in_all_rows * per_row),
        seconds=in_all * seconds / processes,
        bytes_per_row=per_row,
        distinct=distinct / max(1, rows),
    )


def kept_ids(rows: Rows) -> int:
    """How many ids the rows keep together."""
    if rows.values.dtype.kind == "i":
        return int(np.count_nonzero(rows.values))
    return int((rows.values > ZERO).sum())


def size(count: float) -> str:
    """Bytes for people."""
    for unit in ("bytes", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.0f} {unit}" if unit == "bytes" else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.1f} TB"


def duration(seconds: float) -> str:
    """Seconds for people."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02} h" if hours else f"{minutes}:{rest:02} min"
