"""When has the student outgrown its teacher?

The paper chooses the moment to let the teacher go by hand for every pair (its Table 7). This
rule finds it while training: the teacher is let go once the student's own loss has been below
the teacher's, on the same rows, for a whole window of consecutive updates.
"""

from dataclasses import dataclass


@dataclass
class SurpassedMonitor:
    """Counts consecutive updates in which the student beat its teacher.

    Args:
        window: how many consecutive updates the student must be better, at least 1.
        streak: the current run of such updates (state, survives a resume).
    """

    window: int
    streak: int = 0

    def __post_init__(self) -> None:
        if self.window < 1:
            raise ValueError(f"the window must be at least 1 update, found {self.window}")

    def observe(self, student_nll: float, teacher_nll: float) -> bool:
        """Take one update's summed losses over the same rows, in any common unit.

        Returns True once the student has been strictly better for ``window`` updates running.
        A non-finite loss breaks the streak: nothing is concluded from a broken update.
        """
        # `nan < x` is False, so a non-finite student loss breaks the streak by itself.
        better = student_nll < teacher_nll < float("inf")
        self.streak = self.streak + 1 if better else 0
        return self.streak >= self.window
