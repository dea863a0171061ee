"""The manifest: what a finished store says of itself (FORMAT.md, "manifest.json")."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from .checks import check_int, check_sha256
from .errors import DamageError, MismatchError, StoreError, UnfinishedError
from .fingerprints import FINGERPRINTED_SAMPLES, masks_fingerprint
from .plan import Plan
from .strict_json import canonical_sha256, pretty, read_json

FORMAT = "fairseq-ki store"
VERSION = 1
MANIFEST = "manifest.json"

_MAX_SHARD_BYTES = 1 << 46
_NAMES = {"format", "version", "plan", "shards", "masks", "samples", "rows", "sha256"}


@dataclass(frozen=True)
class ShardEntry:
    """One shard as the manifest has it; which samples it holds follows from the plan."""

    file: str
    bytes: int
    rows: int
    sha256: str


@dataclass(frozen=True)
class Manifest:
    """A plan and the files that were captured under it. Checked when made."""

    plan: Plan
    shards: tuple[ShardEntry, ...]  # in the order of `plan.shards()`
    # masks[split][mask epoch - 1]: `masks_fingerprint` of the first 64 samples (or all, if fewer)
    masks: tuple[tuple[str, ...], ...]

    def __post_init__(self) -> None:
        count = self.plan.shard_count
        check_int("number of shards", len(self.shards), count, count)
        for shard, entry in zip(self.plan.shards(), self.shards):
            # Names follow from the plan, so that no name can lead out of the directory.
            if entry.file != shard.file:
                raise StoreError(f"shard: expected file {shard.file!r}, found {entry.file!r}")
            check_int(f"{entry.file}: bytes", entry.bytes, 1, _MAX_SHARD_BYTES)
            check_int(f"{entry.file}: rows", entry.rows, 0, shard.samples * self.plan.max_rows)
            check_sha256(f"{entry.file}: sha256", entry.sha256)
        check_int("masks: splits", len(self.masks), len(self.plan.splits), len(self.plan.splits))
        for of_split in self.masks:
            epochs = self.plan.mask_epochs
            check_int("masks: mask epochs", len(of_split), epochs, epochs)
            for fingerprint in of_split:
                check_sha256("masks", fingerprint)

    @property
    def samples(self) -> int:
        """Samples of all splits and mask epochs."""
        return sum(split.blocks for split in self.plan.splits) * self.plan.mask_epochs

    @property
    def rows(self) -> int:
        """Rows of all samples."""
        return sum(entry.rows for entry in self.shards)

    @property
    def shard_bytes(self) -> int:
        """Bytes of all shards."""
        return sum(entry.bytes for entry in self.shards)

    def compare(self, expected: Mapping[str, Any]) -> None:
        """`Plan.compare`: raise MismatchError naming every entry of `expected` that differs."""
        self.plan.compare(expected)

    def check_samples(self, split: int, mask_epoch: int, checksums: Iterable[int]) -> None:
        """Raise MismatchError unless a run's first samples are those that were captured.

        checksums: `sample_checksum` of blocks 0 to 63 (or all, if there are fewer) of a split in
        a mask epoch. Says at the start of a run what every read would say later.
        """
        self.plan.check_key(split, mask_epoch, 0)
        checksums = list(checksums)
        needed = min(FINGERPRINTED_SAMPLES, self.plan.splits[split].blocks)
        check_int("checksums", len(checksums), needed, needed)
        found = masks_fingerprint(checksums)
        expected = self.masks[split][mask_epoch - 1]
        if found != expected:
            raise MismatchError(
                f"samples of {self.plan.called(split)}, mask epoch {mask_epoch}: the "
                f"store's first {needed} have fingerprint {expected}, the run's {found}; blocks, "
                f"masks or seed differ (captured with numpy {self.plan.numpy}, "
                f"running {np.__version__})"
            )

    def to_dict(self) -> dict[str, Any]:
        """As the file has it, with its own SHA-256."""
        content = {
            "format": FORMAT,
            "version": VERSION,
            "plan": self.plan.to_dict(),
            "shards": [
                {
                    "bytes": entry.bytes,
                    "file": entry.file,
                    "rows": entry.rows,
                    "sha256": entry.sha256,
                }
                for entry in self.shards
            ],
            "masks": [list(of_split) for of_split in self.masks],
            "samples": self.samples,
            "rows": self.rows,
        }
        return {**content, "sha256": canonical_sha256(content)}

    def to_bytes(self) -> bytes:
        """The content of manifest.json."""
        return pretty(self.to_dict())

    @classmethod
    def load(cls, directory: str | Path) -> Manifest:
        """Read and check manifest.json.

        Raises UnfinishedError where there is none, MismatchError on a newer format version, and
        DamageError on everything that is not a manifest as `to_bytes` gives it.
        """
        path = Path(directory) / MANIFEST
        try:
            found = read_json(path)
        except (FileNotFoundError, NotADirectoryError) as error:
            raise UnfinishedError(
                f"{directory}: expected a finished store, found no {MANIFEST}; is the path right, "
                "has the capture finished?"
            ) from error
        check_version(path, found)
        if set(found) != _NAMES:
            raise DamageError(f"{path}: expected entries {sorted(_NAMES)}, found {sorted(found)}")
        content = {name: value for name, value in found.items() if name != "sha256"}
        try:
            check_sha256("sha256", found["sha256"])
            sha256 = canonical_sha256(content)
        except ValueError as error:  # a number that JSON has no place for, such as 1e999
            raise DamageError(f"{path}: {error}") from error
        if sha256 != found["sha256"]:
            raise DamageError(
                f"{path}: expected SHA-256 {found['sha256']} of its own content, found {sha256}; "
                "it was altered or damaged: copy it again from where it was captured"
            )
        try:
            manifest = cls(
                plan=Plan.from_dict(found["plan"]),
                shards=tuple(ShardEntry(**entry) for entry in found["shards"]),
                masks=tuple(tuple(of_split) for of_split in found["masks"]),
            )
        except StoreError as error:
            raise DamageError(f"{path}: {error}") from error
        except TypeError as error:  # which may hold a name of the file's
            raise DamageError(f"{path}: expected shards and masks, found {error!r}") from error
        for name in ("samples", "rows"):
            if found[name] != getattr(manifest, name):
                raise DamageError(
                    f"{path}: {name}: expected {getattr(manifest, name)}, found {found[name]!r}"
                )
        return manifest


def check_version(path: Path, found: Mapping[str, Any]) -> None:
    """Raise unless a JSON file is of this format and of a version that this code reads."""
    if found.get("format") != FORMAT:
        raise DamageError(f"{path}: expected format {FORMAT!r}, found {found.get('format')!r}")
    version = found.get("version")
    if isinstance(version, int) and version > VERSION:
        raise MismatchError(
            f"{path}: expected format version {VERSION}, found {version}: a newer release wrote "
            "it; upgrade fairseq-ki"
        )
    if version != VERSION or isinstance(version, bool):
        raise DamageError(f"{path}: expected format version {VERSION}, found {version!r}")
