"""Several teachers, each on the samples of its own domains.

Shapes: B samples, T length, N rows of the batch, n rows of one domain.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from fairseq_ki.objective.mixing import mix
from fairseq_ki.objective.positions import Positions
from fairseq_ki.objective.signals import HeadSignal, Signal
from fairseq_ki.store import MismatchError
from fairseq_ki.teachers.live import LiveTeacher
from fairseq_ki.teachers.stored import STORED, StoredTeacher

DOMAIN = "ki_domain"  # the batch's key: (B,) int64, the index of each sample's domain


class Voice(NamedTuple):
    """One teacher's part in a domain.

    Args:
        weight: among the domain's teachers, above 0.
        where: file and line of it, for messages.
    """

    source: LiveTeacher | StoredTeacher
    weight: float
    where: str = ""


class _Pupils(NamedTuple):
    """What of a batch one live teacher is asked about."""

    samples: Tensor  # (b,) int64, with rows
    rows: Positions  # theirs
    places: tuple[Tensor, ...]  # by domain, (n,) of its rows among them


class Router:
    """A :class:`SignalSource` that asks every teacher about the rows of its own domains alone.

    A live teacher that several domains name is run once, on all of their samples together. A
    domain's rows are told the weighted mixture of its teachers' probabilities; those of a domain
    without teachers are told nothing.

    Args:
        domains: the teachers of each, in the order of the indices under the batch's ``DOMAIN``.
            Rows of stores are looked for under ``STORED``: by domain, then by the place of the
            store among the domain's stores.
    """

    def __init__(self, domains: Mapping[str, Sequence[Voice]]) -> None:
        self.domains = dict(domains)
        self.voices = list(self.domains.values())
        sources = [voice.source for voices in self.voices for voice in voices]
        live = {id(source): source for source in sources if isinstance(source, LiveTeacher)}
        self.live = list(live.values())

    def signal(
        self, sample: dict, rows: Positions, temperature: float
    ) -> tuple[Signal | None, ...]:
        """By domain: the word of its teachers on its n rows, in row-major order.

        None where a domain has no teacher, or no row in this batch.
        """
        domain = sample[DOMAIN]
        places = rows_by_domain(domain, rows, len(self.voices))
        # who is asked what is settled first: a GPU that computes would have to be waited for
        asked = [self._pupils(teacher, domain, rows) for teacher in self.live]
        heard = {
            id(teacher): _said(teacher, sample, pupils, temperature)
            for teacher, pupils in zip(self.live, asked, strict=True)
        }
        mixtures: list[Signal | None] = []
        for index, (voices, own) in enumerate(zip(self.voices, places, strict=True)):
            if not voices or not len(own):
                mixtures.append(None)
                continue
            stored = iter(sample.get(STORED, {}).get(index, ()))
            signals = [
                heard[id(voice.source)][index]
                if isinstance(voice.source, LiveTeacher)
                else voice.source.signal({STORED: next(stored, {})}, rows.at(own), temperature)
                for voice in voices
            ]
            mixtures.append(mix(signals, [voice.weight for voice in voices]))
        return tuple(mixtures)

    def _pupils(self, teacher: LiveTeacher, domain: Tensor, rows: Positions) -> _Pupils | None:
        """Whom one teacher is asked about; None where no row of the batch is its own."""
        taught_domains = [
            index
            for index, voices in enumerate(self.voices)
            if any(voice.source is teacher for voice in voices)
        ]
        with_rows = torch.zeros_like(domain, dtype=torch.bool)
        with_rows[rows.sample] = True
        taught = torch.isin(domain, domain.new_tensor(taught_domains)) & with_rows
        samples = taught.nonzero().squeeze(1)
        if not len(samples):
            return None
        rows = rows.among(samples)
        return _Pupils(samples, rows, rows_by_domain(domain[samples], rows, len(self.voices)))

    def check_temperature(self, temperature: float) -> None:
        """MismatchError unless every teacher can speak at this temperature."""
        for name, voices in self.domains.items():
            for voice in voices:
                try:
                    voice.source.check_temperature(temperature)
                except MismatchError as e:
                    where = voice.where or f"domain {name}, {voice.source.describe()}"
                    raise MismatchError(f"{where}: {e}") from e

    def to(self, device: torch.device, dtype: torch.dtype) -> None:
        for teacher in self.live:
            teacher.to(device, dtype)

    def describe(self, only: Sequence[int] | None = None) -> str:
        """Who teaches in all domains, or in those with the indices ``only``."""
        parts = [
            f"in {name}: "
            + " and ".join(
                f"{voice.source.describe()}, weight {voice.weight:g}" for voice in voices
            )
            for index, (name, voices) in enumerate(self.domains.items())
            if voices and (only is None or index in only)
        ]
        return "; ".join(parts)


def _said(
    teacher: LiveTeacher, sample: dict, pupils: _Pupils | None, temperature: float
) -> dict[int, HeadSignal]:
    """By domain, where it has rows that the teacher is asked about."""
    if pupils is None:
        return {}
    signal = teacher.signal(_picked(sample, pupils.samples), pupils.rows, temperature)
    return {
        index: HeadSignal(signal.features[at], signal.weight, signal.bias)
        for index, at in enumerate(pupils.places)
        if len(at)
    }


def rows_by_domain(domain: Tensor, rows: Positions, domains: int) -> tuple[Tensor, ...]:
    """For each domain the places (n,) of its rows among the N.

    Args:
        domain: (B,) int64, below ``domains``.
    """
    of_row = domain[rows.sample]
    sizes = torch.bincount(of_row, minlength=domains)
    return of_row.argsort(stable=True).split(sizes.tolist())


def _picked(sample: dict, samples: Tensor) -> dict:
    """What a teacher reads of some samples of a batch."""
    whole = sample["net_input"]
    picked = {
        key: value[samples] if isinstance(value, Tensor) else value for key, value in whole.items()
    }
    return {"net_input": picked}
