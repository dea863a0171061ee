"""Checking every byte of a store."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from .errors import DamageError, StoreError
from .fingerprints import FINGERPRINTED_SAMPLES, file_sha256, masks_fingerprint
from .manifest import MANIFEST, Manifest, ShardEntry
from .plan import Shard
from .shard import RECORD_HEAD_BYTES, ShardFile, index_end


@dataclass
class Report:
    """What `verify` found."""

    problems: list[str] = field(default_factory=list)  # one line each; none: the store is whole
    ignored: list[str] = field(default_factory=list)  # files that are no part of the store
    manifest: Manifest | None = None  # None: it cannot be read

    @property
    def whole(self) -> bool:
        """Nothing is damaged."""
        return not self.problems


def verify(directory: str | Path, on_shard: Callable[[int, int], None] | None = None) -> Report:
    """Hash every shard and walk every record of a store; never raises on a damaged one.

    on_shard: called with (shards done, shards in all) after each, for a progress bar.
    """
    directory = Path(directory)
    report = Report()
    try:
        manifest = Manifest.load(directory)
    except StoreError as error:
        report.problems.append(str(error))
        return report
    report.manifest = manifest
    path = directory / MANIFEST
    if path.read_bytes() != manifest.to_bytes():
        report.problems.append(f"{path}: expected its canonical layout, found another")
    # Of each (split, mask epoch): the checksums of its samples, as far as its masks' fingerprint
    # needs them; None where the record cannot be read.
    checksums: dict[tuple[int, int], list[int | None]] = {}
    for number, (shard, entry) in enumerate(zip(manifest.plan.shards(), manifest.shards)):
        problems, found = _verify_shard(directory, manifest, shard, entry)
        report.problems += problems
        known = checksums.setdefault((shard.split, shard.mask_epoch), [])
        known += found[: FINGERPRINTED_SAMPLES - len(known)]
        if on_shard is not None:
            on_shard(number + 1, len(manifest.shards))
    for (split, mask_epoch), first in checksums.items():
        readable = [checksum for checksum in first if checksum is not None]
        expected = manifest.masks[split][mask_epoch - 1]
        if len(readable) == len(first) and masks_fingerprint(readable) != expected:
            report.problems.append(
                f"{path}: {manifest.plan.called(split)}, mask epoch {mask_epoch}: expected "
                f"fingerprint {expected} of the masks, found {masks_fingerprint(readable)}"
            )
    parts = {MANIFEST} | {entry.file for entry in manifest.shards}
    report.ignored = sorted(set(os.listdir(directory)) - parts)
    return report


def _verify_shard(
    directory: Path, manifest: Manifest, shard: Shard, entry: ShardEntry
) -> tuple[list[str], list[int | None]]:
    """The problems of one shard, and the checksum of each of its samples that can be read."""
    plan = manifest.plan
    try:
        file = ShardFile(directory, plan, bytes.fromhex(plan.fingerprint()), shard)
    except DamageError as error:
        return [str(error)], [None] * shard.samples
    problems = []
    if file.bytes != entry.bytes:
        problems.append(f"{file.path}: expected {entry.bytes} bytes, found {file.bytes}")
    else:
        sha256 = file_sha256(file.path)
        if sha256 != entry.sha256:
            problems.append(f"{file.path}: expected SHA-256 {entry.sha256}, found {sha256}")
    offsets = file.offsets()
    inside = offsets[0] == index_end(shard.samples) and offsets.max() == offsets[-1] == file.bytes
    if not inside or (offsets[1:] < offsets[:-1] + np.uint64(RECORD_HEAD_BYTES)).any():
        problems.append(f"{file.path}: expected an index of ascending offsets, record after record")
    rows = 0
    checksums: list[int | None] = []
    for number, block in enumerate(shard.blocks):
        checksums.append(None)
        try:
            record = file.record(number)
            checksums[-1] = record.checksum
            rows += record.rows
            plan.encoding.check(plan.encoding.decode(record.body, record.rows))
        except StoreError as error:
            where = f"{plan.called(shard.split)}, mask epoch {shard.mask_epoch}, block {block}"
            problems.append(f"{where}: {error}")
    if None not in checksums and rows != entry.rows:
        problems.append(f"{file.path}: expected {entry.rows} rows, found {rows}")
    return problems, checksums
