"""The paper's measure of what inheriting saves: cost at equal validation perplexity.

The paper (Section 3.1, Fig. 1a): at 40k updates, where the teacher's guidance ends, BASE->LARGE
has a validation PPL of 4.28, for which LARGE alone needs about 55k: 1 - 40/55 = 27.3 % saved.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import fmean

from fairseq_ki.evaluation.logs import interpolate

ABOVE, BELOW = ">", "<"  # a number that is a bound: the true one is at least, or at most, that


@dataclass(frozen=True)
class Curve:
    """A validation curve: updates in increasing order, and the loss in bits per row at each."""

    updates: tuple[int, ...]
    loss: tuple[float, ...]

    def __post_init__(self) -> None:
        if not self.updates or len(self.updates) != len(self.loss):
            raise ValueError(
                "expected a validation curve with as many losses as updates, at least one; "
                f"found {len(self.updates)} updates and {len(self.loss)} losses"
            )

    @property
    def end(self) -> int:
        """The last update that was validated."""
        return self.updates[-1]

    def loss_at(self, updates: float) -> float:
        """The loss at ``updates``, linear between two validations; nan beyond the curve."""
        if not self.updates[0] <= updates <= self.end:
            return math.nan
        return interpolate(list(zip(self.updates, self.loss)), updates)

    def updates_to(self, loss: float) -> float | None:
        """Where the curve first comes down to ``loss``, linear in between; None if never.

        The first crossing, though a noisy curve may rise again: that favours the run that is
        measured, which is self-learning.
        """
        before: tuple[int, float] | None = None
        for updates, here in zip(self.updates, self.loss):
            if here <= loss:
                if before is None or not math.isfinite(before[1]):
                    return float(updates)
                share = (before[1] - loss) / (before[1] - here)
                return before[0] + share * (updates - before[0])
            before = (updates, here)
        return None


Cost = Callable[[float], float]  # updates -> updates, FLOPs or seconds spent until then


@dataclass(frozen=True)
class Saving:
    """What one inheriting run saves against one self-learning run, at one update count.

    ``ppl`` is what the inheriting run has at update ``at``, ``alone_ppl`` what self-learning has
    at the same update (nan if its run is shorter). ``bound`` is ``>`` where self-learning never
    gets to ``ppl``: then ``needed`` is the length of its run, and it and each saving are at least
    that. It is ``<`` where self-learning is there at its first validation, and so perhaps was
    before: they are at most that. Empty where the crossing is known. ``caught_up`` is where the
    inheriting run has the loss with which self-learning ends (nan if never).
    """

    at: float
    ppl: float
    alone_ppl: float
    needed: float
    bound: str
    updates: float
    flops: float
    flops_with_teacher_training: float
    caught_up: float


def saving(
    inherited: Curve,
    alone: Curve,
    at: float,
    inherited_cost: Cost | None = None,
    alone_cost: Cost | None = None,
    teacher_training: float = 0.0,
    alone_teacher_training: float = 0.0,
) -> Saving:
    """1 - cost of the inheriting run at ``at`` / cost of self-learning to the same loss.

    Args:
        inherited, alone: validation curves on the same masks.
        at: updates of the inheriting run; within its curve.
        inherited_cost: FLOPs until an update, the teacher's forward passes included.
        alone_cost: the same for self-learning. Without both, savings in FLOPs are nan.
        teacher_training: FLOPs that training the teacher took.
        alone_teacher_training: the same for what it is compared with, should that inherit too.

    Raises:
        ValueError: if ``at`` lies outside the inheriting run's curve, the loss is not
            finite, or self-learning needs no update for it.
    """
    loss = inherited.loss_at(at)
    if not math.isfinite(loss):
        raise ValueError(
            f"no finite validation loss at update {at:g} of the inheriting run, validated from "
            f"{inherited.updates[0]} to {inherited.end}"
        )
    crossing = alone.updates_to(loss)
    bound = ABOVE if crossing is None else BELOW if crossing == alone.updates[0] else ""
    needed = alone.end if crossing is None else crossing
    if needed == 0:
        raise ValueError("the run to compare with has this loss before its first update")
    last = alone.loss[-1]
    caught_up = inherited.updates_to(last) if math.isfinite(last) else None
    flops = with_training = math.nan
    if inherited_cost and alone_cost:
        cost, all_of_it = inherited_cost(at), alone_cost(needed) or math.nan
        flops = 1 - cost / all_of_it
        with_training = 1 - (cost + teacher_training) / (all_of_it + alone_teacher_training)
    return Saving(
        at=at,
        ppl=perplexity(loss),
        alone_ppl=perplexity(alone.loss_at(at)),
        needed=needed,
        bound=bound,
        updates=1 - at / needed,
        flops=flops,
        flops_with_teacher_training=with_training,
        caught_up=math.nan if caught_up is None else caught_up,
    )


def perplexity(loss: float) -> float:
    """2 to the loss in bits; a loss that is not finite stays what it is."""
    return 2**loss if loss < 1000 else loss


@dataclass(frozen=True)
class Spread:
    """Middle and range of a value over seeds.

    ``count`` of the ``total`` seeds are known; ``bound`` has the marks of those that are bounds.
    """

    middle: float
    low: float
    high: float
    count: int
    total: int
    bound: str = ""


def spread(
    values: Sequence[float],
    bounds: Sequence[str] = (),
    middle: Callable[[Sequence[float]], float] = fmean,
) -> Spread | None:
    """Middle, smallest and largest of the values that are known (not nan); None without any."""
    known = [(v, b) for v, b in zip(values, bounds or [""] * len(values)) if not math.isnan(v)]
    if not known:
        return None
    numbers = [v for v, _ in known]
    bound = "".join(sorted({b for _, b in known}))
    return Spread(middle(numbers), min(numbers), max(numbers), len(numbers), len(values), bound)
