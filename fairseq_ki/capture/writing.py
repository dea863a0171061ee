"""One process's part in a capture: its shards, the teacher's forward pass beside their encoding."""

from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

import numpy as np
import torch

from fairseq_ki.capture.samples import Sample, SplitSamples
from fairseq_ki.capture.scores import Scores
from fairseq_ki.capture.selection import select
from fairseq_ki.capture.teacher import TeacherPass
from fairseq_ki.store import Plan, Rows, Shard, ShardWriter, StoreWriter

T = TypeVar("T")

_AHEAD = 2  # batches made, and groups of rows encoded, while the teacher computes


def write_shards(
    writer: StoreWriter,
    splits: list[SplitSamples],
    teacher: TeacherPass,
    batch_size: int,
    on_samples: Callable[[int], None],
) -> None:
    """Write what is pending of one process's shards.

    Every shard is cut into the same batches whichever process writes it and whatever was written
    before, so a resumed capture gives the bytes of an uninterrupted one.

    Args:
        splits: in the order of the plan.
        batch_size: samples per forward pass.
        on_samples: told how many samples were written, now and then.
    """
    for shard in writer.pending():
        with writer.shard(shard) as out:
            _write_shard(out, writer.plan, shard, splits, teacher, batch_size, on_samples)


def _write_shard(
    out: ShardWriter,
    plan: Plan,
    shard: Shard,
    splits: list[SplitSamples],
    teacher: TeacherPass,
    batch_size: int,
    on_samples: Callable[[int], None],
) -> None:
    split = splits[shard.split]
    split.set_epoch(shard.mask_epoch)

    def keep(samples: list[Sample], scores: Scores) -> None:
        rows = kept_rows(plan, shard.split, shard.mask_epoch, samples, scores)
        out.add_samples([s.checksum for s in samples], rows, [len(s.targets) for s in samples])
        on_samples(len(samples))

    # numpy and torch let go of Python's lock while they compute, so threads suffice
    with ThreadPoolExecutor(1) as encoder:
        pending: deque[Future] = deque()
        for batch in made_ahead(split.batches(shard.blocks, batch_size)):
            for said in teacher.say(batch):
                pending.append(encoder.submit(keep, said.samples, said.scores))
                while len(pending) > _AHEAD:
                    pending.popleft().result()
        for future in pending:
            future.result()


def kept_rows(
    plan: Plan, split: int, mask_epoch: int, samples: list[Sample], scores: Scores
) -> Rows:
    """What the plan's encoding keeps of these samples, one after another."""
    targets = torch.cat([sample.targets for sample in samples])
    drawn = [plan.uniforms(split, mask_epoch, s.block, len(s.targets)) for s in samples]
    uniform = None if drawn[0] is None else np.concatenate(drawn)
    return select(plan.encoding, scores, targets, uniform)


def made_ahead(items: Iterator[T]) -> Iterator[T]:
    """The items, made in another thread a few ahead of whoever takes them."""
    end = object()
    with ThreadPoolExecutor(1) as maker:
        ahead = deque(maker.submit(next, items, end) for _ in range(_AHEAD))
        while (item := ahead.popleft().result()) is not end:
            ahead.append(maker.submit(next, items, end))
            yield item
