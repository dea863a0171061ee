"""The teacher's side of a training run: how much it says, when it is let go, who it is."""

import logging
from collections.abc import Callable

from fairseq_ki.objective.schedules import Schedule
from fairseq_ki.objective.surpassed import SurpassedMonitor
from fairseq_ki.teachers.source import SignalSource

logger = logging.getLogger(__name__)


class Inheritance:
    """Holds the signal source for as long as the inheritance rate is above 0.

    Args:
        schedule: the inheritance rate as a function of the number of updates made.
        temperature: of the teacher's and the student's distributions in the KL term.
        monitor: lets the teacher go early, or None to follow the schedule alone.
    """

    def __init__(
        self, schedule: Schedule, temperature: float, monitor: SurpassedMonitor | None = None
    ) -> None:
        self.schedule = schedule
        self.temperature = temperature
        self.monitor = monitor
        self.source: SignalSource | None = None
        self.let_go_at: int | None = None  # update from which a surpassed teacher is silent
        self.rate = 0.0
        self.update = 0
        self.unasked = False  # in fairseq's dummy batch, which may have no rows of a store

    def over(self, update: int) -> bool:
        """True if the rate is 0 at this update and at every later one."""
        if self.let_go_at is not None and update >= self.let_go_at:
            return True
        zero_from = self.schedule.zero_from()
        return zero_from is not None and update >= zero_from

    def begin_update(self, update: int, open_source: Callable[[], SignalSource]) -> None:
        """Set the rate of this update; open the source when first needed, close it after.

        Args:
            update: number of updates made before this one (0 for the first).
            open_source: makes the source ready to be asked, called at most once.
        """
        self.update = update
        if self.over(update):
            self.rate = 0.0
            if self.source is not None:
                logger.info(f"inheritance is over at update {update}: teacher released")
                self.source = None
            return
        self.rate = self.schedule.alpha(update)
        if self.source is None:
            source = open_source()
            source.check_temperature(self.temperature)
            self.source = source
            logger.info(f"inheriting from {self.source.describe()}")

    def end_update(self, student_nll: float, teacher_nll: float) -> None:
        """Judge, from sums over all ranks and micro-batches, whether the teacher may go.

        Args:
            student_nll, teacher_nll: summed over the same rows of this update.
        """
        if self.monitor is None or self.let_go_at is not None or self.source is None:
            return
        if self.monitor.observe(student_nll, teacher_nll):
            self.let_go_at = self.update + 1
            logger.info(
                f"the student has surpassed its teacher for {self.monitor.window} updates: "
                f"teacher let go at update {self.let_go_at}"
            )

    def state_dict(self) -> dict:
        return {
            "let_go_at": self.let_go_at,
            "streak": self.monitor.streak if self.monitor else 0,
        }

    def load_state_dict(self, state: dict) -> None:
        self.let_go_at = state["let_go_at"]
        if self.monitor is not None:
            self.monitor.streak = state["streak"]
