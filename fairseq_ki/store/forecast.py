"""What a store will weigh, before anything is captured."""

from __future__ import annotations

from .encoding import Encoding
from .shard import INDEX_BYTES_PER_SAMPLE, RECORD_HEAD_BYTES


def bytes_per_row(
    encoding: Encoding, rows_per_sample: float, distinct: float | None = None
) -> float:
    """Expected bytes of one row in a store, index and record heads included.

    rows_per_sample: mean number of rows (for MLM about mask_prob * tokens_per_sample); distinct:
    mean number of ids kept per row, needed where the encoding does not fix it (topp, sampled);
    without it every row is taken to be as wide as it can be.
    """
    kept = encoding.width if distinct is None else distinct
    sample = INDEX_BYTES_PER_SAMPLE + RECORD_HEAD_BYTES
    return encoding.bytes_per_row(kept) + sample / rows_per_sample
