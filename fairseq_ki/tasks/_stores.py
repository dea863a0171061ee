"""The part of a task that reads stored teacher logits: ``--ki-store``."""

import os

from fairseq import utils
from fairseq.data.fairseq_dataset import FairseqDataset

from fairseq_ki.data.blocks import Blocks
from fairseq_ki.data.replay import ReplayedEpochs, mask_epoch
from fairseq_ki.data.splits import combined_fingerprint
from fairseq_ki.data.stored_rows import ReadingSwitch, SplitRows
from fairseq_ki.store import StoreError, file_sha256
from fairseq_ki.teachers.stored import StoredTeacher


class StoreMixin:
    """Opens the stores, checks that they are of this run's data, and attaches their rows.

    Mixed into a task by ``KITaskMixin``, which gives ``config``, ``causal``, ``inheritance``,
    ``_trains`` and ``_restores``.
    """

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

    def stored_rows(
        self, split: str, epoch: int, combine: bool, blocks: Blocks
    ) -> SplitRows | None:
        """The stored rows of a split that is being loaded; None where none are needed.

        Args:
            split, epoch, combine: as fairseq's load_dataset gets them.
            blocks: its samples.
        """
        if not self._reads_rows_of(split) or not self.reading:
            return None
        try:
            self._stored = self._stored or self.open_stores(self._store_directories)
        except StoreError:
            if self._restores():
                return None  # perhaps past the teacher's end; if not, the first update will tell
            raise
        self._mask_epochs = self._stored.mask_epochs
        return self.rows_of(self._stored, split, epoch, combine, blocks)

    def rows_of(
        self, stored: StoredTeacher, split: str, epoch: int, combine: bool, blocks: Blocks
    ) -> SplitRows:
        """The rows of a split, after a look whether they are of these samples."""
        paths = utils.split_paths(self.config.data)
        prefix = os.path.join(paths[(epoch - 1) % len(paths)], split)
        if prefix not in self._fingerprints:  # shards of the data come again and again
            self._fingerprints[prefix] = combined_fingerprint(prefix, combine)
        reader, index = stored.find_split(self._fingerprints[prefix], len(blocks))
        rows = SplitRows(reader, index)
        rows.check_first(blocks, mask_epoch(epoch, len(paths), stored.mask_epochs), self.pad)
        return rows

    def replayed(self, split: str, dataset: FairseqDataset) -> FairseqDataset:
        """The dataset in the epochs of the store, to the end of the run, or as it is."""
        if not self._reads_rows_of(split) or self._mask_epochs is None:
            return dataset
        return ReplayedEpochs(dataset, len(utils.split_paths(self.config.data)), self._mask_epochs)

    def _reads_rows_of(self, split: str) -> bool:
        stored = self.config.ki_store is not None
        return stored and self._trains and split == self.config.train_subset

    @property
    def pad(self) -> int:
        return self.source_dictionary.pad()
