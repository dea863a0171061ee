"""The plan of a capture: every setting that a store pins, and the shards that follow from it."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from .checks import check_int, check_sha256, check_text
from .encodings import Encoding, make_encoding
from .errors import DamageError, MismatchError, StoreError
from .strict_json import canonical_sha256

TASKS = ("mlm", "lm")
Scalar = None | bool | int | float | str

_MAX_SPLITS = 4096
_MAX_BLOCKS = 1 << 40
_MAX_MASK_EPOCHS = 1 << 16
_MAX_SHARDS = 1 << 18
_MAX_SAMPLES_PER_SHARD = 1 << 20
_MAX_ROWS = 1 << 20
_MAX_SETTINGS = 1024
# Entries of one decoded sample: 1/4 GiB of float16, beyond any block that a model reads.
_MAX_ENTRIES = 1 << 27

_PLAIN_FIELDS = (
    "task",
    "dictionary_sha256",
    "teacher_sha256",
    "max_rows",
    "data",
    "mask_epochs",
    "samples_per_shard",
    "numpy",
)


@dataclass(frozen=True)
class Split:
    """One split of one data-bin, as fairseq finds it on disk (train, train1, ... are several)."""

    name: str  # of the files: "train", "train1"; for people
    fingerprint: str  # `split_fingerprint` of its .bin and .idx
    blocks: int  # token blocks (samples) in it

    def __post_init__(self) -> None:
        check_text("split name", self.name, 255)
        check_sha256("split fingerprint", self.fingerprint)
        check_int("blocks", self.blocks, 1, _MAX_BLOCKS)


@dataclass(frozen=True)
class Shard:
    """The samples that one file holds: consecutive blocks of one split in one mask epoch."""

    split: int  # index into the plan's splits
    mask_epoch: int  # from 1
    first_block: int
    samples: int

    @property
    def file(self) -> str:
        """Its name in the store's directory."""
        return f"split{self.split:04d}-epoch{self.mask_epoch:05d}-block{self.first_block:012d}.rows"

    @property
    def blocks(self) -> range:
        """The blocks it holds, in order."""
        return range(self.first_block, self.first_block + self.samples)


@dataclass(frozen=True)
class Plan:
    """The settings of a capture. Immutable, checked when made; two equal plans give equal bytes."""

    encoding: Encoding
    task: str  # "mlm" or "lm"
    splits: tuple[Split, ...]
    dictionary_sha256: str  # of dict.txt
    teacher_sha256: str  # of the teacher's weights
    max_rows: int  # most rows that a sample can have: tokens_per_sample
    # What fixes blocks and masks, under fairseq's option names: tokens_per_sample,
    # sample_break_mode, shorten_method, mask_prob, ..., seed. Compared by name.
    data: Mapping[str, Scalar] = field(default_factory=dict)
    mask_epochs: int = 1
    samples_per_shard: int = 4096
    numpy: str = np.__version__  # fairseq draws its masks with numpy
    # What the last digits of the teacher's numbers depend on: batch_size, device. A capture is
    # resumed with the same; a run that reads the store need not know them.
    capture: Mapping[str, Scalar] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.task not in TASKS:
            raise StoreError(f"task: expected one of {TASKS}, found {self.task!r}")
        object.__setattr__(self, "splits", tuple(self.splits))
        check_int("number of splits", len(self.splits), 1, _MAX_SPLITS)
        if len({split.fingerprint for split in self.splits}) < len(self.splits):
            raise StoreError("splits: expected each once, found two with one fingerprint")
        check_sha256("dictionary_sha256", self.dictionary_sha256)
        check_sha256("teacher_sha256", self.teacher_sha256)
        check_int("max_rows", self.max_rows, 1, _MAX_ROWS)
        check_int("mask_epochs", self.mask_epochs, 1, _MAX_MASK_EPOCHS if self.task == "mlm" else 1)
        check_int("samples_per_shard", self.samples_per_shard, 1, _MAX_SAMPLES_PER_SHARD)
        check_text("numpy", self.numpy, 64)
        for name in ("data", "capture"):
            settings = dict(getattr(self, name))
            object.__setattr__(self, name, settings)
            _check_settings(name, settings)
        entries = self.max_rows * self.encoding.width
        if entries > _MAX_ENTRIES:
            raise StoreError(
                f"a sample of {self.max_rows} rows with {self.encoding.width} entries each: "
                f"expected at most {_MAX_ENTRIES} entries, found {entries}; "
                "keep fewer entries per row or capture shorter blocks"
            )
        if self.shard_count > _MAX_SHARDS:
            raise StoreError(
                f"shards: expected at most {_MAX_SHARDS}, found {self.shard_count}; "
                f"raise samples_per_shard (now {self.samples_per_shard})"
            )

    def _shards_per_epoch(self, split: Split) -> int:
        return -(-split.blocks // self.samples_per_shard)

    @property
    def shard_count(self) -> int:
        """How many shards `shards` gives."""
        return sum(self._shards_per_epoch(split) for split in self.splits) * self.mask_epochs

    def shards(self) -> Iterator[Shard]:
        """All shards, in the order of the manifest: by split, mask epoch, first block."""
        for index, split in enumerate(self.splits):
            for mask_epoch in range(1, self.mask_epochs + 1):
                for first in range(0, split.blocks, self.samples_per_shard):
                    samples = min(self.samples_per_shard, split.blocks - first)
                    yield Shard(index, mask_epoch, first, samples)

    def shard_of(self, split: int, mask_epoch: int, block: int) -> Shard:
        """The shard that holds a sample. Raises MismatchError where the plan has no such sample."""
        self.check_key(split, mask_epoch, block)
        first = block - block % self.samples_per_shard
        samples = min(self.samples_per_shard, self.splits[split].blocks - first)
        return Shard(split, mask_epoch, first, samples)

    def shard_number(self, shard: Shard) -> int:
        """Where `shards` gives it."""
        before = sum(self._shards_per_epoch(split) for split in self.splits[: shard.split])
        of_epoch = (shard.mask_epoch - 1) * self._shards_per_epoch(self.splits[shard.split])
        in_epoch = shard.first_block // self.samples_per_shard
        return before * self.mask_epochs + of_epoch + in_epoch

    def check_key(self, split: int, mask_epoch: int, block: int) -> None:
        """Raise MismatchError unless the plan has this sample."""
        if not 0 <= split < len(self.splits):
            raise MismatchError(f"split: the store has 0 to {len(self.splits) - 1}, found {split}")
        if not 1 <= mask_epoch <= self.mask_epochs:
            raise MismatchError(
                f"mask epoch: the store has 1 to {self.mask_epochs}, found {mask_epoch}"
            )
        if not 0 <= block < self.splits[split].blocks:
            raise MismatchError(
                f"block: {self.called(split)} has 0 to "
                f"{self.splits[split].blocks - 1}, found {block}"
            )

    def called(self, split: int) -> str:
        """A split as messages have it: data-bins may well give two of them one name."""
        return f"split {split} ({self.splits[split].name})"

    def find_split(self, fingerprint: str, blocks: int) -> int:
        """The index of a data-bin split. Raises MismatchError unless the store has this one."""
        for index, split in enumerate(self.splits):
            if split.fingerprint == fingerprint:
                if split.blocks != blocks:
                    raise MismatchError(
                        f"{self.called(index)}: the store has {split.blocks} blocks, the run's "
                        f"data {blocks}; the options that cut blocks differ"
                    )
                return index
        known = ", ".join(f"{split.name} {split.fingerprint}" for split in self.splits)
        raise MismatchError(f"data-bin split: the store has {known}, found {fingerprint}")

    def uniforms(self, split: int, mask_epoch: int, block: int, rows: int) -> np.ndarray | None:
        """What `encoding.select` needs for one sample: `Encoding.uniforms` under its key."""
        self.check_key(split, mask_epoch, block)
        return self.encoding.uniforms(self.splits[split].fingerprint, mask_epoch, block, rows)

    def to_dict(self) -> dict[str, Any]:
        """As the manifest has it."""
        encoding = self.encoding
        recorded = {"capture": dict(self.capture)} if self.capture else {}
        return recorded | {
            "byte_order": "little",
            "data": dict(self.data),
            "dictionary_sha256": self.dictionary_sha256,
            "dtypes": {"id_bits": encoding.bits, "log_probability": "float16"},
            "encoding": {"name": encoding.name, **encoding.parameters()},
            "mask_epochs": self.mask_epochs,
            "max_rows": self.max_rows,
            "numpy": self.numpy,
            "samples_per_shard": self.samples_per_shard,
            "serves_tau": "any" if encoding.serves_tau is None else encoding.serves_tau,
            "splits": [
                {"blocks": split.blocks, "fingerprint": split.fingerprint, "name": split.name}
                for split in self.splits
            ],
            "task": self.task,
            "teacher_sha256": self.teacher_sha256,
            "vocabulary": encoding.vocabulary,
        }

    @classmethod
    def from_dict(cls, found: Any) -> Plan:
        """The inverse of `to_dict`. Raises DamageError on anything it cannot have given."""
        try:
            kind = dict(found["encoding"])
            name = kind.pop("name")
            vocabulary = found["vocabulary"]
            check_int("number of splits", len(found["splits"]), 1, _MAX_SPLITS)
            plan = cls(
                encoding=make_encoding(name, vocabulary, kind),
                splits=tuple(Split(**split) for split in found["splits"]),
                **{key: found[key] for key in _PLAIN_FIELDS},
                capture=found.get("capture", {}),
            )
            expected = plan.to_dict()
        except StoreError as error:
            raise DamageError(f"plan: {error}") from error
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise DamageError(f"plan: expected all its entries, found {error!r}") from error
        if expected != found:
            raise DamageError(f"plan: {'; '.join(differences(expected, found))}")
        return plan

    def fingerprint(self) -> str:
        """SHA-256 of the plan; every shard's header carries it."""
        return canonical_sha256(self.to_dict())

    def compare(self, expected: Mapping[str, Any]) -> None:
        """Raise MismatchError naming every entry of `expected` that differs from the plan's.

        expected: any of the entries of `to_dict`, by their names there. In a nested dict (`data`,
        `encoding`) the names must be the same, too.
        """
        mine = self.to_dict()
        unknown = sorted(set(expected) - set(mine))
        if unknown:
            raise StoreError(f"compare: expected names among {sorted(mine)}, found {unknown}")
        differing = differences(dict(expected), {key: mine[key] for key in expected})
        if differing:
            raise MismatchError(
                "the store was captured with other settings:\n  "
                + "\n  ".join(differing)
                + "\nuse the settings of the store, or capture another with those of the run"
            )


def differences(expected: Any, found: Any, name: str = "") -> list[str]:
    """One line for every entry in which two JSON values differ; true is not 1, but 1 is 1.0."""
    if isinstance(expected, Mapping) and isinstance(found, Mapping):
        lines = []
        for key in sorted({*expected, *found}):
            shown = str(key) if str(key).isprintable() else ascii(key)  # anybody may write a file
            part = f"{name}.{shown}" if name else shown
            if key not in found:
                lines.append(f"{part}: expected {expected[key]!r}, found nothing")
            elif key not in expected:
                lines.append(f"{part}: expected nothing, found {found[key]!r}")
            else:
                lines += differences(expected[key], found[key], part)
        return lines
    same = expected == found and isinstance(expected, bool) == isinstance(found, bool)
    return [] if same else [f"{name}: expected {expected!r}, found {found!r}"]


def _check_settings(kind: str, settings: Mapping[str, Scalar]) -> None:
    check_int(f"number of {kind} settings", len(settings), 0, _MAX_SETTINGS)
    for key, value in settings.items():
        check_text(f"name of a {kind} setting", key, 255)
        if isinstance(value, str):
            check_text(f"{kind} setting {key}", value)
        elif isinstance(value, float) and not math.isfinite(value):
            raise StoreError(f"{kind} setting {key}: expected a finite number, found {value}")
        elif value is not None and not isinstance(value, (bool, int, float)):
            raise StoreError(
                f"{kind} setting {key}: expected a scalar or null, found {type(value).__name__}"
            )
