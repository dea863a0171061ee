"""Which pictures a report has, and how each is drawn from the results."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from statistics import fmean, median
from typing import TYPE_CHECKING

from fairseq_ki.evaluation.comparisons import Compared
from fairseq_ki.evaluation.picture import SERIES, Colours, Picture
from fairseq_ki.evaluation.results import Results, Run
from fairseq_ki.evaluation.savings import Saving
from fairseq_ki.evaluation.summary import uneven_load
from fairseq_ki.evaluation.tables import flops_unit

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MARKERS = "osD^vPX*"
LONGEST_NAME = 50  # characters in a picture


def pictures(results: Results, compared: list[Compared]) -> list[Picture]:
    """Every picture that the results have data for."""
    if not any(run.curve for run in results.runs):
        return []
    uneven = uneven_load(results)
    found = [
        Picture(
            "updates",
            "Validation PPL against updates",
            "Mean over seeds; the band is from the lowest to the highest seed. "
            "A dotted line marks the end of teacher guidance.",
            lambda ax, c: _draw_curves(ax, c, results, lambda r, u: u, "updates"),
        )
    ]
    if any(r.flops for r in results.runs):
        found.append(
            Picture(
                "flops",
                "Validation PPL against FLOPs, the teacher's included",
                "Solid: the run and the teacher's forward passes. Dashed: the teacher's own "
                "training as well.",
                lambda ax, c: _draw_costs(ax, c, results),
            )
        )
    if any(not math.isnan(r.seconds(r.updates)) for r in results.runs if r.curve):
        found.append(
            Picture(
                "wall",
                "Validation PPL against wall time",
                "As fairseq's clock ran on this machine, validation included; the median of the "
                f"seeds. {uneven}".strip(),
                lambda ax, c: _draw_curves(
                    ax, c, results, lambda r, u: r.seconds(u) / 60, "minutes"
                ),
            )
        )
    drawn = [r for _, runs, _ in _arms(results) for r in runs]
    if any(rate > 0 for r in drawn for rate in r.train.get("ki_rate", [])):
        found.append(
            Picture(
                "rate",
                "Inheritance rate",
                "The weight of the teacher in the objective (alpha), as logged.",
                lambda ax, c: _draw_rate(ax, c, results),
            )
        )
    if any(row.reached for row in compared):
        bars, axis = _bars(results, compared)
        found.append(
            Picture(
                "savings",
                "Saved at equal validation PPL",
                "One mark per seed, a bar at the mean; an arrow is a bound: self-learning "
                "did not reach that PPL in its run, or had it at its first validation. Left out is "
                "what it reached with no seed.",
                lambda ax, c: _draw_savings(ax, c, results, bars, axis),
                height=1.1 + 0.4 * max(6, len(bars)),
            )
        )
    return found


def _arms(results: Results) -> list[tuple[str, list[Run], int]]:
    """(name, runs, colour) of what is drawn as a curve: what the recipe names, or all trained.

    What only taught is left out, if others learn.
    """
    chosen = results.curves or results.arms
    arms = [(a, results.arm(a)) for a in chosen if any(r.curve for r in results.arm(a))]
    learners = [(a, runs) for a, runs in arms if runs[0].role != "teacher"] or arms
    return [(a, runs, i % len(SERIES)) for i, (a, runs) in enumerate(learners)]


def _draw_curves(
    ax: "Axes",
    colours: Colours,
    results: Results,
    x_of: Callable[[Run, float], float],
    x_name: str,
    training_of: Callable[[Run], float] | None = None,
) -> None:
    drawn = _arms(results)
    lowest, highest = math.inf, 0.0
    for arm, runs, i in drawn:
        colour = colours.series[i]
        runs = [r for r in runs if r.curve]
        updates = sorted(set.intersection(*(set(r.valid["updates"]) for r in runs)))
        points = [(u, [r.ppl(u) for r in runs]) for u in updates]
        points = [(u, values) for u, values in points if all(map(math.isfinite, values))]
        xs = [[x_of(r, u) for r in runs] for u, _ in points]
        if not points or any(math.isnan(x) for of_seeds in xs for x in of_seeds):
            continue
        x = [median(of_seeds) for of_seeds in xs]  # they differ in nothing but time
        means = [fmean(values) for _, values in points]
        lows, highs = [min(v) for _, v in points], [max(v) for _, v in points]
        # the first tenth falls from the size of the vocabulary: it would flatten all the rest
        settled = [high for u, high in zip((u for u, _ in points), highs) if u > 0.1 * updates[-1]]
        lowest, highest = min([lowest, *lows]), max([highest, *settled])
        every = max(1, len(x) // 8)
        name = _entry(results.label(arm))
        line = ax.plot(x, means, MARKERS[i] + "-", color=colour, linewidth=1.8, label=name)[0]
        line.set(markersize=4, markevery=every)
        if len(runs) > 1:
            ax.fill_between(x, lows, highs, color=colour, alpha=0.18, linewidth=0)
        training = fmean([training_of(r) for r in runs]) if training_of else 0.0
        if training > 0:
            ax.plot([v + training for v in x], means, color=colour, linewidth=1.2, linestyle="--")
        guidance = max(r.guidance for r in runs)
        if x_name == "updates" and 0 < guidance < max(r.updates for r in runs):
            ax.axvline(guidance, color=colour, linewidth=1, linestyle=":")
    for arm in results.curves or results.arms:
        runs = [r for r in results.arm(arm) if r.curve]
        if arm not in [a for a, _, _ in drawn] and runs:
            end = fmean([r.ppl(r.validated) for r in runs])
            if math.isfinite(end):
                lowest, highest = min(lowest, end), max(highest, end)
                name = _entry(f"{results.label(arm)}, at its end")
                ax.axhline(end, color=colours.ink, linewidth=1, linestyle="-.", label=name)
    _ppl_axis(ax, lowest, highest)
    _plain_x(ax, x_name)
    _legend(ax)


def _draw_costs(ax: "Axes", colours: Colours, results: Results) -> None:
    """Against FLOPs, in the unit that fits the dearest run."""
    dearest = max(r.cost(r.updates) for r in results.runs if r.flops)
    size, unit = flops_unit(dearest)
    _draw_curves(
        ax,
        colours,
        results,
        lambda r, u: r.cost(u) / size,
        unit,
        lambda r: r.teacher_training / size,
    )


def _ppl_axis(ax: "Axes", lowest: float, highest: float) -> None:
    from matplotlib import ticker

    ax.set_yscale("log")
    ax.set_ylabel("validation PPL")
    if highest > 0:
        ax.set_ylim(lowest * 0.97, highest * 1.03)
    if highest > 3 * lowest:
        locator: ticker.Locator = ticker.LogLocator(subs=[1, 1.5, 2, 3, 5, 7], numticks=12)
    else:
        locator = ticker.MaxNLocator(nbins=6)
    ax.yaxis.set_major_locator(locator)
    ax.yaxis.set_minor_locator(ticker.NullLocator())
    ax.yaxis.set_major_formatter(ticker.FuncFormatter(lambda value, _: f"{value:,g}"))


def _plain_x(ax: "Axes", name: str) -> None:
    from matplotlib import ticker

    ax.set_xlabel(name)
    ax.xaxis.set_major_locator(ticker.MaxNLocator(nbins=6))
    ax.xaxis.set_major_formatter(ticker.FuncFormatter(lambda v, _: f"{v:,g}"))


def _entry(name: str) -> str:
    """A name for the legend: matplotlib leaves out those that begin with an underscore."""
    name = name if len(name) <= LONGEST_NAME else f"{name[: LONGEST_NAME - 1]}…"
    return f" {name}" if name.startswith("_") else name


def _legend(ax: "Axes") -> None:
    """Where a falling curve leaves room; below the axes if it is a long one."""
    entries = len(ax.get_legend_handles_labels()[0])
    if 0 < entries < 5:
        ax.legend(loc="upper right", fontsize=9)
    elif entries:
        ax.legend(loc="upper center", bbox_to_anchor=(0.45, -0.2), ncols=2, fontsize=8)


def _draw_rate(ax: "Axes", colours: Colours, results: Results) -> None:
    drawn: dict[tuple, tuple[int, list[float], list[str]]] = {}
    for arm, runs, i in _arms(results):
        rates = runs[0].train.get("ki_rate", [])  # a schedule is the same for all seeds
        if any(rate > 0 for rate in rates):
            about = tuple(round(rate, 2) for rate in rates)  # no two that look the same
            curve = (tuple(runs[0].train["updates"]), about)
            drawn.setdefault(curve, (i, rates, []))[2].append(results.label(arm))
    for (x, _), (i, rates, names) in drawn.items():
        others = f" and {len(names) - 1} more" if len(names) > 1 else ""
        ax.plot(x, rates, color=colours.series[i], linewidth=1.8, label=_entry(names[0] + others))
    ax.set_ylim(-0.03, 1.05)
    ax.set_ylabel("rate")
    _plain_x(ax, "updates")
    _legend(ax)


MEASURES: tuple[tuple[str, Callable[[Saving], float]], ...] = (
    ("updates", lambda s: s.updates),
    ("FLOPs, teacher's passes in", lambda s: s.flops),
    ("FLOPs, its training too", lambda s: s.flops_with_teacher_training),
)


MOST_BARS = 12  # before the paper's measure stands alone; the table has all


@dataclass(frozen=True)
class _Bar:
    """One line of the picture of savings: (share, mark of a bound) for every seed."""

    arm: str
    name: str
    shares: list[tuple[float, str]]


def _bars(results: Results, compared: list[Compared]) -> tuple[list[_Bar], str]:
    """The bars, and what they all have in common, for the axis below them."""
    compared = [row for row in compared if row.reached]
    several = len({row.comparison.inherited for row in compared}) > 1
    shown, measures = compared, MEASURES
    if len(compared) * len(MEASURES) > MOST_BARS:
        measures = MEASURES[:1]
        # at the end of guidance, or at the end where there was none
        shown = list({id(row.comparison): row for row in reversed(compared)}.values())[::-1]
    points = {row.point for row in shown}
    bars = []
    for row in shown:
        arm = row.comparison.inherited
        who = [results.label(arm)] if several else []
        where = [row.point] if len(points) > 1 or not several else []
        for measure, value in measures:
            what = [measure] if len(measures) > 1 else []
            shares = [(value(s), s.bound) for s in row.savings if not math.isnan(value(s))]
            if shares:
                bars.append(_Bar(arm, _in_two_lines([*who, *where, *what]), shares))
    common = "of updates " if len(measures) == 1 else ""
    at = f" at the {next(iter(points))}" if several and len(points) == 1 else ""
    return bars, f"per cent {common}saved{at}"


def _in_two_lines(parts: list[str]) -> str:
    """What a bar is called: the last part on a line of its own."""
    parts = [_entry(part) for part in parts]
    return ", ".join(parts[:-1]) + (",\n" if parts[:-1] else "") + parts[-1]


def _draw_savings(
    ax: "Axes", colours: Colours, results: Results, bars: list[_Bar], axis: str
) -> None:
    arms = {arm: i for arm, _, i in _arms(results)}
    for line, bar in enumerate(bars):
        colour = colours.series[arms[bar.arm]] if bar.arm in arms else colours.ink
        for share, bound in bar.shares:
            ax.plot([100 * share], [-line], bound or "o", color=colour, markersize=7, alpha=0.75)
        mean = 100 * fmean([share for share, _ in bar.shares])
        ax.plot([mean, mean], [-line - 0.3, -line + 0.3], color=colours.ink, linewidth=2)
    for saved in {c.paper.saving for c in results.comparisons if c.paper}:
        ax.axvline(100 * saved, color=colours.ink, linewidth=1, linestyle="--")
        text = f"the paper: {100 * saved:g} % of updates "
        ax.annotate(text, (100 * saved, 0.5), fontsize=9, ha="right", va="bottom")
    ax.axvline(0, color=colours.ink, linewidth=0.8)
    ax.set_yticks([-i for i in range(len(bars))], [bar.name for bar in bars], fontsize=9)
    ax.set_ylim(-len(bars) + 0.4, 1.0)
    low, high = ax.get_xlim()
    ax.set_xlim(min(low, -1), max(high, 1))  # where all is nought
    _plain_x(ax, axis)
