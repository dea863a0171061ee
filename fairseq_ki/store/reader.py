"""Reading a store: any sample, in any order, from any process."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from .errors import DamageError, MismatchError
from .manifest import Manifest
from .plan import Plan, Shard
from .rows import Rows
from .shard import ShardFile

_OPEN_SHARDS = 64  # file descriptors that one reader holds at most


class StoreReader:
    """A finished store, open for reading.

    Holds the manifest and at most 64 open files: memory does not grow with the store. It may be
    pickled, and used after a fork; every process opens the files it reads by itself.
    """

    def __init__(self, directory: str | Path) -> None:
        """Open a store and check its manifest and every shard's size and header.

        Raises UnfinishedError without a manifest, MismatchError on a newer format version and
        DamageError on whatever does not fit together.
        """
        self.directory = Path(directory)
        self.manifest = Manifest.load(self.directory)
        self._fingerprint = bytes.fromhex(self.plan.fingerprint())
        self._open: dict[Shard, ShardFile] = {}
        for shard in self.plan.shards():
            self._check_and_open(shard)

    @property
    def plan(self) -> Plan:
        """The settings it was captured with."""
        return self.manifest.plan

    def read(self, split: int, mask_epoch: int, block: int, *, checksum: int) -> Rows:
        """The rows of one sample, in order of position.

        split: its index in the plan (`Plan.find_split`); mask_epoch: from 1; block: its index
        inside the split; checksum: `sample_checksum` of the sample as the reader has it. Raises
        MismatchError where the store has no such sample or another one, DamageError where its
        bytes were altered.
        """
        shard = self.plan.shard_of(split, mask_epoch, block)
        file = self._open.pop(shard, None) or self._check_and_open(shard)
        self._open[shard] = file  # last in: the first of the dict is the least recently used
        while len(self._open) > _OPEN_SHARDS:
            self._open.pop(next(iter(self._open)), None)
        record = file.record(block - shard.first_block)
        if record.checksum != checksum:
            raise MismatchError(
                f"sample {block} of {self.plan.called(split)}, mask epoch "
                f"{mask_epoch}: expected checksum {record.checksum:#010x} (of the sample the "
                f"teacher saw), found {checksum:#010x}; the data, the masks or their epoch differ, "
                "so these rows are not this sample's"
            )
        return self.plan.encoding.decode(record.body, record.rows)

    def _check_and_open(self, shard: Shard) -> ShardFile:
        file = ShardFile(self.directory, self.plan, self._fingerprint, shard)
        entry = self.manifest.shards[self.plan.shard_number(shard)]
        if (file.bytes, file.rows) != (entry.bytes, entry.rows):
            raise DamageError(
                f"{file.path}: expected {entry.bytes} bytes and {entry.rows} rows, "
                f"found {file.bytes} and {file.rows}"
            )
        return file

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_open": {}}
