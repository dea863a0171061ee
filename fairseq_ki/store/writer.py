"""Writing a store: shards one by one, by any number of processes, resumable after a kill."""

from __future__ import annotations

import errno
import os
import secrets
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

import numpy as np

from .checks import check_int
from .errors import (
    DamageError,
    FinishedError,
    MismatchError,
    StoreError,
    UnfinishedError,
    WriteError,
)
from .fingerprints import FINGERPRINTED_SAMPLES, file_sha256, masks_fingerprint
from .manifest import FORMAT, MANIFEST, VERSION, Manifest, ShardEntry, check_version
from .plan import Plan, Shard, differences
from .rows import Rows
from .shard import Record, ShardFile, index_end, pack_header, pack_record
from .strict_json import pretty, read_json

PLAN = "capture.json"
_TEMPORARY = ".tmp"
_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_NO_LINKS = {errno.EPERM, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP}


class ShardWriter:
    """The samples of one shard, added in order of block. Made by `StoreWriter.shard`."""

    def __init__(self, file: BinaryIO, plan: Plan, shard: Shard) -> None:
        self._file = file
        self._plan = plan
        self._shard = shard
        self._ends = [index_end(shard.samples)]
        self._rows = 0
        file.seek(self._ends[0])

    def add(self, checksum: int, rows: Rows) -> None:
        """Write the next sample. checksum: its `sample_checksum`; rows: in order of position."""
        self.add_samples([checksum], rows, [len(rows)])

    def add_samples(self, checksums: Sequence[int], rows: Rows, lengths: Sequence[int]) -> None:
        """Write the next samples, whose rows follow one another: lengths[i] of sample i."""
        if sum(lengths) != len(rows):
            raise StoreError(f"samples: expected {sum(lengths)} rows, found {len(rows)}")
        most = max(lengths, default=0)
        if most > self._plan.max_rows:
            raise StoreError(
                f"sample: expected at most max_rows = {self._plan.max_rows} rows, found {most}"
            )
        bodies = self._plan.encoding.encode_samples(rows, lengths)
        for checksum, n, body in zip(checksums, lengths, bodies, strict=True):
            size = self._file.write(pack_record(Record(checksum, n, body)))
            self._ends.append(self._ends[-1] + size)
        self._rows += len(rows)

    def complete(self, fingerprint: bytes) -> None:
        """Write header and index. Raises StoreError unless every sample was added."""
        if len(self._ends) != self._shard.samples + 1:
            raise StoreError(
                f"{self._shard.file}: expected {self._shard.samples} samples, "
                f"found {len(self._ends) - 1}"
            )
        self._file.seek(0)
        self._file.write(pack_header(self._shard, fingerprint, self._rows, self._ends[-1]))
        self._file.write(np.array(self._ends, "<u8").tobytes())


class StoreWriter:
    """One process's part in a capture.

    Process `rank` of `workers` writes the shards whose number modulo `workers` is its rank. All
    of them, and whoever resumes a killed capture with any number of workers, give the same plan;
    another one is refused. When every shard is there, `finalize` makes the directory a store.
    The bytes depend on the plan and the rows alone.
    """

    def __init__(self, directory: str | Path, plan: Plan, rank: int = 0, workers: int = 1) -> None:
        """Begin or resume.

        Raises FinishedError on a finished store and MismatchError where another plan was begun.
        """
        check_int("workers", workers, 1, 1 << 20)
        check_int("rank", rank, 0, workers - 1)
        self.directory = Path(directory)
        self.plan = plan
        self._fingerprint = bytes.fromhex(plan.fingerprint())
        self._own = [shard for i, shard in enumerate(plan.shards()) if i % workers == rank]
        self._refuse_finished()
        self.directory.mkdir(parents=True, exist_ok=True)
        self._keep_plan()
        self._refuse_finished()  # another process may have finished it since

    def pending(self) -> list[Shard]:
        """The shards that this process has still to write, in order."""
        return [shard for shard in self._own if not self._is_complete(shard)]

    @contextmanager
    def shard(self, shard: Shard) -> Iterator[ShardWriter]:
        """Write one shard: add all its samples within the block; it is published at the end.

        Nothing is published where the block raises.
        """
        with self._published(shard.file) as file:
            writer = ShardWriter(file, self.plan, shard)
            yield writer
            writer.complete(self._fingerprint)
        self._open(shard)

    def finalize(self) -> Manifest:
        """Check that all shards are there, hash them, and write the manifest.

        Any process may call it, any number of times, at once or again after a kill. Raises
        UnfinishedError while shards are missing.
        """
        if (self.directory / MANIFEST).exists():
            return self._finished()
        missing = [shard.file for shard in self.plan.shards() if not self._is_complete(shard)]
        if missing:
            raise UnfinishedError(
                f"{self.directory}: expected all {self.plan.shard_count} shards, found "
                f"{len(missing)} missing, the first of them {missing[0]}; resume the capture"
            )
        entries = []
        for shard in self.plan.shards():
            opened = self._open(shard)
            sha256 = file_sha256(opened.path)
            entries.append(ShardEntry(shard.file, opened.bytes, opened.rows, sha256))
        masks = tuple(
            tuple(self._masks(split, epoch) for epoch in range(1, self.plan.mask_epochs + 1))
            for split in range(len(self.plan.splits))
        )
        manifest = Manifest(self.plan, tuple(entries), masks)
        with self._published(MANIFEST) as file:
            file.write(manifest.to_bytes())
        return self._finished()

    def _masks(self, split: int, mask_epoch: int) -> str:
        checksums: list[int] = []
        for block in range(min(FINGERPRINTED_SAMPLES, self.plan.splits[split].blocks)):
            shard = self.plan.shard_of(split, mask_epoch, block)
            checksums.append(self._open(shard).record(block - shard.first_block).checksum)
        return masks_fingerprint(checksums)

    def _open(self, shard: Shard) -> ShardFile:
        return ShardFile(self.directory, self.plan, self._fingerprint, shard)

    def _is_complete(self, shard: Shard) -> bool:
        try:
            self._open(shard)
        except DamageError:  # missing, or damaged since: written again
            return False
        return True

    def _keep_plan(self) -> None:
        path = self.directory / PLAN
        content = {"format": FORMAT, "version": VERSION, "plan": self.plan.to_dict()}
        while True:  # again where another process's clean-up took the file
            try:
                found = read_json(path)
                break
            except FileNotFoundError:
                with self._published(PLAN, replace=False) as file:
                    file.write(pretty(content))
            except DamageError as error:
                raise DamageError(
                    f"{error}; capture into another directory, or delete this one"
                ) from error
        check_version(path, found)
        differing = differences(found.get("plan"), self.plan.to_dict())
        if differing:
            raise MismatchError(
                f"{path}: a capture with other settings was begun here (expected: those of the "
                "directory, found: yours):\n  "
                + "\n  ".join(differing)
                + "\nresume with its settings, or capture into another directory"
            )

    def _refuse_finished(self) -> None:
        if (self.directory / MANIFEST).exists():
            self._finished()
            raise FinishedError(
                f"{self.directory}: expected a new or unfinished store, found a finished one of "
                "these settings: nothing is left to do"
            )

    def _finished(self) -> Manifest:
        """The manifest of the store, finished with this plan, after clearing what is left over."""
        manifest = Manifest.load(self.directory)
        self._remove_temporaries(lambda name: True)
        (self.directory / PLAN).unlink(missing_ok=True)
        differing = differences(manifest.plan.to_dict(), self.plan.to_dict())
        if differing:
            raise FinishedError(
                f"{self.directory}: a finished store with other settings is here (expected: those "
                "of the directory, found: yours):\n  "
                + "\n  ".join(differing)
                + "\ncapture into another directory"
            )
        return manifest

    def _remove_temporaries(self, belongs: Callable[[str], bool]) -> None:
        for path in self.directory.glob(f".*{_TEMPORARY}"):
            if belongs(path.name[1:].rsplit(".", 2)[0]):
                path.unlink(missing_ok=True)

    @contextmanager
    def _published(self, name: str, replace: bool = True) -> Iterator[BinaryIO]:
        """A file written under a temporary name, brought to the disk, and renamed to its own.

        replace: a file that has the name already gives way to this one; otherwise it stays.

        Raises WriteError where the disk is full.

        The temporary name is unique: two processes on one shard cannot mix their bytes. What killed
        processes left of the same file is removed only now that the file itself is there: a living
        process whose part is taken away then finds what it would have written.
        """
        path = self.directory / f".{name}.{secrets.token_hex(8)}{_TEMPORARY}"
        try:
            with open(path, "xb") as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            with suppress(FileNotFoundError):  # removed by a process that published before this one
                (os.rename if replace else _claim)(path, self.directory / name)
        except OSError as error:
            if error.errno not in _FULL:
                raise
            free = shutil.disk_usage(self.directory).free
            raise WriteError(
                f"{self.directory / name}: expected room for this file, found none: "
                f"{error.strerror} ({free / 2**30:.2f} GiB free in {self.directory}); make room, "
                "then give the same command again: shards that are whole are not written anew"
            ) from error
        finally:
            path.unlink(missing_ok=True)
        descriptor = os.open(self.directory, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        self._remove_temporaries(name.__eq__)


def _claim(temporary: Path, path: Path) -> None:
    """Give a whole file its name unless another process has been faster.

    Unlike a rename, a link never replaces: of captures that begin at once, one has the directory.
    """
    try:
        os.link(temporary, path)
    except FileExistsError:
        pass  # whoever reads it sees whose it is
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
        os.rename(temporary, path)  # a file system without links cannot tell who was first
