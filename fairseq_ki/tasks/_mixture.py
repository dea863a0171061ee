"""The part of a task that has several domains, each with its own teachers: ``--ki-mixture``."""

import os
from collections.abc import Iterator
from contextlib import contextmanager

from fairseq.data.fairseq_dataset import FairseqDataset

from fairseq_ki.data.blocks import Blocks
from fairseq_ki.data.domains import AllSamples, DomainSamples, DrawnSamples
from fairseq_ki.data.replay import ReplayedEpochs
from fairseq_ki.store import MismatchError, StoreError
from fairseq_ki.tasks._mixture_file import Domain, TeacherEntry, read_mixture
from fairseq_ki.tasks._mixture_record import check_resumed, mixture_record
from fairseq_ki.teachers.live import LiveTeacher
from fairseq_ki.teachers.router import Router, Voice
from fairseq_ki.teachers.stored import StoredTeacher

ALONE = ("ki_teacher", "ki_store", "ki_teacher_dict")


class MixtureMixin:
    """Reads the mixture, routes its teachers, and puts its domains into one dataset.

    Mixed into a task by ``KITaskMixin``, beside ``StoreMixin``. Each domain is loaded as the
    whole data of a plain run would be: its blocks, masks and stored rows are those of such a
    run, below the renumbering of the samples.
    """

    mixture: tuple[Domain, ...] = ()
    _domain_stores: dict[TeacherEntry, StoredTeacher]

    def __init__(self, *args, **kwargs) -> None:
        super().__init__(*args, **kwargs)
        self._domain_stores = {}

    @property
    def domains(self) -> dict[str, bool]:
        """By name, in the order of their indices: whether they have teachers.

        Empty without a mixture, and outside of training, where the file is not read.
        """
        return {domain.name: bool(domain.teachers) for domain in self.mixture}

    def plain_samples(self, split: str, epoch: int, combine: bool) -> tuple[FairseqDataset, Blocks]:
        """A split as fairseq's samples and as stores know it, in the order of the blocks."""
        raise NotImplementedError

    def _read_mixture(self) -> None:
        config = self.config
        for name in ALONE:
            if getattr(config, name) is not None:
                raise ValueError(
                    f"--{name.replace('_', '-')}: expected teachers in the file of --ki-mixture "
                    f"alone, found {getattr(config, name)}; drop one of the two options"
                )
        if os.pathsep in config.data:
            raise ValueError(
                "--ki-mixture: expected one directory as DATA, which gives the dictionary alone, "
                f"found several: {config.data!r}"
            )
        self.mixture = read_mixture(config.ki_mixture, self._dictionary_file)
        if config.ki_tail:
            self._check_tails()

    @property
    def _mixture_teachers(self) -> list[TeacherEntry]:
        return [teacher for domain in self.mixture for teacher in domain.teachers]

    def _check_tails(self) -> None:
        if not any(teacher.store for teacher in self._mixture_teachers):
            raise ValueError("--ki-tail: expected a store in the mixture, found none; drop it")
        for domain in self.mixture:
            if len(domain.teachers) > 1 and any(teacher.store for teacher in domain.teachers):
                raise ValueError(
                    f"{domain.where}: expected one teacher for --ki-tail, found "
                    f"{len(domain.teachers)}: the tail of one may hold ids that another lists"
                )

    def _check_mixture_serves(self, criterion) -> None:
        if self._opened is not None and self.inheritance is not None:
            self._opened.check_temperature(self.inheritance.temperature)
        live = any(teacher.checkpoint for teacher in self._mixture_teachers)
        if getattr(criterion, "skip_bad_rows", False) and not live:
            raise ValueError(
                "--ki-skip-bad-rows: expected a live teacher in the mixture, found stores alone, "
                "whose rows are numbers or refused; drop it"
            )
        if getattr(criterion, "valid_teacher", False):
            for teacher in self._mixture_teachers:
                if teacher.store is not None:
                    raise ValueError(
                        "--ki-valid-teacher: expected live teachers alone, found a store, which "
                        f"holds split {self.config.train_subset!r} alone, in {teacher.where}"
                    )

    # -- state of a run that may be resumed

    def mixture_state(self) -> dict:
        """For the checkpoints."""
        return {"mixture": mixture_record(self.mixture)}

    def check_resumed_mixture(self, state: dict) -> None:
        """Refuse another mixture, unless the place in the data is not restored either."""
        if "mixture" in state and not self.config.reset_dataloader:
            check_resumed(state["mixture"], self.mixture, self.config.save_dir)

    # -- teachers

    def _open_router(self) -> Router:
        """Load and check every teacher, each checkpoint once, and open every store."""
        live: dict[tuple, LiveTeacher] = {}
        domains = {}
        for domain in self.mixture:
            voices = []
            for entry in domain.teachers:
                with _blamed_on(entry):
                    if entry.store is not None:
                        source = self._domain_store(domain, entry)
                    else:
                        key = (os.path.realpath(entry.checkpoint), entry.dictionary)
                        if key not in live:
                            live[key] = self.live_teacher(entry.checkpoint, entry.dictionary)
                        source = live[key]
                voices.append(Voice(source, entry.weight, entry.where))
            domains[domain.name] = voices
        return Router(domains)

    def _domain_store(self, domain: Domain, entry: TeacherEntry) -> StoredTeacher:
        if entry not in self._domain_stores:
            with self._reading(domain):
                self._domain_stores[entry] = self.open_stores([entry.store])
        return self._domain_stores[entry]

    @contextmanager
    def _reading(self, domain: Domain) -> Iterator[None]:
        """Inside, the run's data are the domain's."""
        kept, self.config.data = self.config.data, domain.data
        try:
            yield
        finally:
            self.config.data = kept

    # -- data

    def _mixed_dataset(self, split: str, epoch: int, combine: bool) -> FairseqDataset:
        """Samples of all domains: for training drawn by weight, else one domain after the other."""
        if split != self.config.train_subset:
            return AllSamples(
                [self._domain_dataset(i, split, epoch, combine) for i in range(len(self.mixture))]
            )
        drawn = [i for i, domain in enumerate(self.mixture) if domain.weight]
        return DrawnSamples(
            [self._domain_dataset(i, split, epoch, combine) for i in drawn],
            [self.mixture[i].weight for i in drawn],
            seed=self.config.seed,
            epoch=epoch,
        )

    def _domain_dataset(self, index: int, split: str, epoch: int, combine: bool) -> FairseqDataset:
        domain, stores = self.mixture[index], []
        with self._reading(domain):
            try:
                dataset, blocks = self.plain_samples(split, epoch, combine)
            except ValueError as e:
                raise ValueError(f"{domain.where}: {e}") from e
            if not len(dataset):
                raise ValueError(f"{domain.where}: expected samples in split {split!r}, found none")
            if split == self.config.train_subset and self.reading:
                stores = self._opened_stores(domain)
            rows = []
            for entry, stored in stores:
                with _blamed_on(entry):
                    rows.append(self.rows_of(stored, split, epoch, combine, blocks))
        dataset = DomainSamples(index, dataset, rows, self.inputs, self.reading)
        if stores:
            dataset = ReplayedEpochs(dataset, shards=1, mask_epochs=stores[0][1].mask_epochs)
        return dataset

    def _opened_stores(self, domain: Domain) -> list[tuple[TeacherEntry, StoredTeacher]]:
        entries = [entry for entry in domain.teachers if entry.store is not None]
        stores = []
        for entry in entries:
            try:
                with _blamed_on(entry):
                    stores.append((entry, self._domain_store(domain, entry)))
            except StoreError:
                if self._restores():
                    return []  # perhaps past the teachers' end; if not, the first update will tell
                raise
        epochs = {stored.mask_epochs for _, stored in stores}
        if len(epochs) > 1:
            raise MismatchError(
                f"{domain.where}: expected stores with as many mask epochs as one another, found "
                f"{', '.join(map(str, sorted(epochs)))}"
            )
        return stores


@contextmanager
def _blamed_on(entry: TeacherEntry) -> Iterator[None]:
    """Name the line of the mixture in what is refused inside."""
    try:
        yield
    except StoreError as refusal:
        raise type(refusal)(f"{entry.where}: {refusal}") from refusal
    except ValueError as refusal:
        raise ValueError(f"{entry.where}: {refusal}") from refusal
