"""The one interface behind which every teacher stands: live, stored, or several of them."""

from typing import Protocol

import torch

from fairseq_ki.objective.positions import Positions
from fairseq_ki.objective.signals import Signal


class SignalSource(Protocol):
    """A live teacher, a store, or several of them: all look alike to the criterion."""

    def signal(
        self, sample: dict, rows: Positions, temperature: float
    ) -> Signal | tuple[Signal | None, ...]:
        """The teacher's word on the N rows of a batch.

        Or, from a :class:`~fairseq_ki.teachers.router.Router`, the word on each domain's rows.
        """
        ...

    def check_temperature(self, temperature: float) -> None:
        """Raise ValueError unless the source can speak at this temperature."""
        ...

    def to(self, device: torch.device, dtype: torch.dtype) -> None:
        """Follow the student to its device and type."""
        ...

    def describe(self) -> str:
        """One line for the log: who teaches."""
        ...
