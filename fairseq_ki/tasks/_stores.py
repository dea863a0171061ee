"""The part of a task that reads stored teacher logits: ``--ki-store``."""

import os

from fairseq import utils
from fairseq.data.fairseq_dataset import FairseqDataset

from fairseq_ki.data.blocks import Blocks
from fairseq_ki.data.replay import ReplayedEpochs, mask_epoch
from fairseq_ki.data.splits import combined_fingerprint
from fairseq_ki.data.stored_rows import ReadingSwitch, SplitRows, WithStoredRows
from fairseq_ki.store import StoreError, file_sha256
from fairseq_ki.teachers.stored import StoredTeacher


class StoreMixin:
    """Opens the stores, checks that they are of this run's data, and attaches their rows.

    Mixed into a task by ``KITaskMixin``, which gives ``config``, ``causal``, ``inheritance``,
    ``_trains`` and ``_restores``.
    """

    inputs: str  # the key of what the model is fed, in a sample of fairseq's
    reading: ReadingSwitch
    _stored: StoredTeacher | None = None
    _mask_epochs: int | None = None  # of the stores, once they were open

    def __init__(self, *args, **kwargs) -> None:
        super().__init__(*args, **kwargs)
        self.reading = ReadingSwitch()
        self._fingerprints: dict[str, str] = {}

    def store_settings(self) -> dict:
        """What fixes blocks and masks, by fairseq's names: a store has to agree in all of it."""
        raise NotImplementedError

    def dictionary_sha256(self) -> str:
        """Of the file that the dictionary was read from."""
        return file_sha256(self._dictionary_file)

    @property
    def _store_directories(self) -> list[str]:
        return utils.split_paths(self.config.ki_store)

    @property
    def _dictionary_file(self) -> str:
        return os.path.join(utils.split_paths(self.config.data)[0], "dict.txt")

    def _check_store_serves(self, criterion) -> None:
        if getattr(criterion, "valid_teacher", False):
            raise ValueError(
                "--ki-valid-teacher: expected a live teacher (--ki-teacher), found --ki-store, "
                f"which holds split {self.config.train_subset!r} alone; drop one of them"
            )
        if getattr(criterion, "skip_bad_rows", False):
            raise ValueError(
                "--ki-skip-bad-rows: expected a live teacher (--ki-teacher), found --ki-store, "
                "whose rows are numbers or refused; drop it"
            )
        if self._stored is not None and self.inheritance is not None:
            self._stored.check_temperature(self.inheritance.temperature)

    def open_stores(self, directories: list[str]) -> StoredTeacher:
        """Open stores and check that they are of this run's data."""
        expected = {
            "task": "lm" if self.causal else "mlm",
            "vocabulary": len(self.source_dictionary),
            "dictionary_sha256": self.dictionary_sha256(),
            "data": self.store_settings(),
        }
        return StoredTeacher(directories, expected, self.config.ki_tail)

    def blocks(self, split: str, epoch: int, combine: bool) -> Blocks:
        """A split by the index of its blocks, as a teacher's rows are captured and stored."""
        raise NotImplementedError

    def with_stored_rows(
        self, dataset: FairseqDataset, blocks: Blocks, split: str, epoch: int, combine: bool
    ) -> FairseqDataset:
        """A split with its rows, in the epochs of the store to the end of the run; or as it is.

        Args:
            dataset: fairseq's samples.
            blocks: the same as stores know them.
            split, epoch, combine: as fairseq's load_dataset gets them.
        """
        if self.config.ki_store is None or not self._trains or split != self.config.train_subset:
            return dataset
        if self.reading:
            self._open_own_stores()
        if self._stored is not None:
            rows = self.rows_of(self._stored, split, epoch, combine, blocks)
            dataset = WithStoredRows(dataset, [rows], self.inputs, self.reading)
        if self._mask_epochs is None:
            return dataset
        return ReplayedEpochs(dataset, len(utils.split_paths(self.config.data)), self._mask_epochs)

    def _open_own_stores(self) -> None:
        try:
            self._stored = self._stored or self.open_stores(self._store_directories)
        except StoreError:
            if not self._restores():
                raise
            return  # perhaps past the teacher's end; if not, the first update will tell
        self._mask_epochs = self._stored.mask_epochs

    def rows_of(
        self, stored: StoredTeacher, split: str, epoch: int, combine: bool, blocks: Blocks
    ) -> SplitRows:
        """The rows of a split, after a look whether they are of these samples."""
        paths = utils.split_paths(self.config.data)
        prefix = os.path.join(paths[(epoch - 1) % len(paths)], split)
        if prefix not in self._fingerprints:  # shards of the data come again and again
            self._fingerprints[prefix] = combined_fingerprint(prefix, combine)
        reader, index = stored.find_split(self._fingerprints[prefix], len(blocks))
        rows = SplitRows(reader, index, self.pad)
        rows.check_first(blocks, mask_epoch(epoch, len(paths), stored.mask_epochs))
        return rows

    @property
    def pad(self) -> int:
        return self.source_dictionary.pad()
