"""Stored teacher logits: computed once, read by any number of training runs.

A store is a directory of shards and a ``manifest.json`` (FORMAT.md has every byte). This package
needs numpy and the standard library alone. A stored sample is keyed by (index of the data-bin
split in the plan, mask epoch from 1, block index inside the split) and guarded by a checksum of
its loss positions, targets and model inputs.

Capture, in any number of processes; N rows of many samples may share one call of ``select``::

    plan = Plan(encoding=Sampled(50265, draws=50), task="mlm", splits=(Split("train",
                split_fingerprint("data-bin/train"), blocks=9000),), mask_epochs=4, max_rows=512,
                dictionary_sha256=file_sha256("data-bin/dict.txt"),
                teacher_sha256=file_sha256("teacher.pt"), data={"tokens_per_sample": 512, ...})
    writer = StoreWriter("store", plan, rank=0, workers=1)       # resumes what a kill left
    for shard in writer.pending():
        with writer.shard(shard) as out:
            for block in shard.blocks:                           # logprobs: (n, V) float32
                uniform = plan.uniforms(shard.split, shard.mask_epoch, block, len(targets))
                rows = plan.encoding.select(logprobs, targets, uniform)
                out.add(sample_checksum(positions, targets, inputs), rows)
    writer.finalize()

Train::

    reader = StoreReader("store")                                # checks sizes and headers
    reader.manifest.compare({"vocabulary": 50265, "data": {"tokens_per_sample": 512, ...}})
    split = reader.plan.find_split(split_fingerprint("data-bin/train"), blocks=9000)
    reader.plan.encoding.check_tau(1.0)
    rows = reader.read(split, mask_epoch, block,
                       checksum=sample_checksum(positions, targets, inputs))
    rows.ids, rows.values, rows.target_logprob, rows.top1        # see `Rows`

A caller that selects on its own device makes `Rows` itself: `draw_by_block` draws where the sums
of blocks are known, `tally` turns drawn ids into ids and counts, `to_half` makes log-probabilities
float16. `verify` checks every byte of a store, `bytes_per_row` forecasts its size. All errors are
`StoreError`, a ValueError.
"""

from .dense import Dense
from .encodings import ENCODINGS, Encoding, make_encoding
from .errors import (
    DamageError,
    FinishedError,
    MismatchError,
    StoreError,
    UnfinishedError,
    WriteError,
)
from .fingerprints import (
    FINGERPRINTED_SAMPLES,
    file_sha256,
    masks_fingerprint,
    sample_checksum,
    split_fingerprint,
)
from .forecast import bytes_per_row
from .manifest import Manifest
from .plan import Plan, Shard, Split
from .ranked import TopK, TopP
from .reader import StoreReader
from .rows import ZERO, Rows, to_half
from .sampled import Sampled
from .selection import draw, draw_by_block, select_topk, select_topp, tally
from .verify import Report, verify
from .writer import ShardWriter, StoreWriter

__all__ = [
    "ENCODINGS",
    "FINGERPRINTED_SAMPLES",
    "ZERO",
    "DamageError",
    "Dense",
    "Encoding",
    "FinishedError",
    "Manifest",
    "MismatchError",
    "Plan",
    "Report",
    "Rows",
    "Sampled",
    "Shard",
    "ShardWriter",
    "Split",
    "StoreError",
    "StoreReader",
    "StoreWriter",
    "TopK",
    "TopP",
    "UnfinishedError",
    "WriteError",
    "bytes_per_row",
    "draw",
    "draw_by_block",
    "file_sha256",
    "make_encoding",
    "masks_fingerprint",
    "sample_checksum",
    "select_topk",
    "select_topp",
    "split_fingerprint",
    "tally",
    "to_half",
    "verify",
]
