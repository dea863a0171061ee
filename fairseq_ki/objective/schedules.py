"""How far the student follows the teacher at each update: the inheritance rate alpha(t).

The paper (section 3 and figure 4) blends ``(1 - alpha) * self-learning + alpha * inheritance``.
Here t is the number of updates that were finished *before* the one in question, so the first
update has t = 0 and, under the paper's linear schedule, the full rate.
"""

import math
from dataclasses import dataclass

# Knots of the warm-up-stable-decay schedule as fractions of S. "Pre-training Distillation" (arXiv
# 2410.16215) finds that a rate which rises, holds and falls like the learning rate beats a linear
# or a constant one. It ties the knots to its learning rate schedule; these fit a learning rate
# with the paper's 10 % warm-up.
WSD_WARMUP = 0.1
WSD_DECAY_FROM = 0.7

SCHEDULES = ("linear", "constant", "heaviside", "cosine", "wsd")


def default_rate(name: str) -> float:
    """The paper's start value: 0.5 for "constant" (it blends 0.5 : 0.5), else 1."""
    return 0.5 if name == "constant" else 1.0


@dataclass(frozen=True)
class Schedule:
    """The inheritance rate as a function of the number of finished updates.

    ========= =======================================================================
    linear    ``rate * max(0, 1 - t / S)``: the paper's ``max(1 - alpha_T * t / T, 0)``
              with ``S = T / alpha_T``
    constant  ``rate`` throughout (the paper's "Constant", 0.5); takes no steps
    heaviside ``rate`` while t < S, then 0
    cosine    ``rate * (1 + cos(pi * t / S)) / 2`` while t < S, then 0
    wsd       warm-up-stable-decay: rises linearly over the first 10 % of S (the first
              update has a share already, never 0), holds ``rate`` until 70 % of S,
              falls linearly to 0 at S
    ========= =======================================================================

    Args:
        name: one of ``SCHEDULES``.
        rate: start value, or highest value for wsd; in (0, 1].
        steps: S, the updates of teacher-guided learning (Table 7 of the paper); a positive
            integer, and 0 for "constant".

    Raises:
        ValueError: for a value outside these ranges; the message says what to give.
    """

    name: str = "linear"
    rate: float = 1.0
    steps: int = 0

    def __post_init__(self) -> None:
        if self.name not in SCHEDULES:
            raise ValueError(f"schedule: expected one of {', '.join(SCHEDULES)}; got {self.name!r}")
        if not 0.0 < self.rate <= 1.0:  # also refuses NaN
            raise ValueError(
                f"inheritance rate: expected a number above 0 and at most 1; got {self.rate!r}. "
                "To train without a teacher, name none"
            )
        if not math.isfinite(self.steps) or int(self.steps) != self.steps:
            raise ValueError(f"schedule steps: expected a whole number; got {self.steps!r}")
        if self.name == "constant" and self.steps != 0:
            raise ValueError(
                f"schedule 'constant' keeps its rate throughout: expected steps 0 (unset), got "
                f"{self.steps!r}. Leave the steps out, or use 'heaviside' to stop after them"
            )
        if self.name != "constant" and self.steps <= 0:
            raise ValueError(
                f"schedule {self.name!r} needs the updates of teacher-guided learning: expected "
                f"steps > 0, got {self.steps!r}. The paper's values are in its Table 7, for "
                "example 40000 for BASE -> LARGE"
            )

    def alpha(self, t: int) -> float:
        """The inheritance rate of the update that follows ``t`` finished ones, in [0, rate].

        Raises:
            ValueError: if t is negative.
        """
        if t < 0:
            raise ValueError(f"number of finished updates: expected 0 or more, got {t!r}")
        if self.name == "constant":
            return self.rate
        if t >= self.steps:
            return 0.0
        if self.name == "heaviside":
            return self.rate
        done = t / self.steps
        if self.name == "linear":
            return self.rate * (1.0 - done)
        if self.name == "cosine":
            # (1 + cos x) / 2 = cos^2(x / 2), which does not cancel to 0 before the end
            return self.rate * math.cos(0.5 * math.pi * done) ** 2
        warmup = max(1.0, WSD_WARMUP * self.steps)
        rise = min(1.0, (t + 1) / warmup)
        fall = min(1.0, (1.0 - done) / (1.0 - WSD_DECAY_FROM))
        return self.rate * min(rise, fall)

    def zero_from(self) -> int | None:
        """The first t from which alpha is 0 for good; None if it never is."""
        return None if self.name == "constant" else int(self.steps)
