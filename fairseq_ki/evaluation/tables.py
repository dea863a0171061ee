"""A table as data, and the same table as plain text, Markdown and HTML."""

import html
import math
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from textwrap import wrap

from fairseq_ki.evaluation.savings import Spread

UNKNOWN = "–"
PAPER_ROW = "the paper"  # the label of a row that was not measured here
MOST_IN_A_LINE = 24  # characters of a cell on the page
MOST_IN_A_HEADING = 20  # whose words stand below each other
_TAG = re.compile(r"<(?=[A-Za-z/!?])")
_RANGE = re.compile(r" \[[^\]]*\]")


@dataclass
class Table:
    """Cells are finished strings; the first column names the row. Empty without rows."""

    title: str
    columns: list[str]
    rows: list[list[str]] = field(default_factory=list)
    note: str = ""

    def text(self, width: int = 110) -> str:
        """Aligned for a terminal; turned on its side if too wide and that helps."""
        if not self.rows:
            return ""
        lines = [self.columns, *self.rows]
        aligned = _aligned(lines)
        if len(aligned[0]) > width:
            aligned = min(aligned, _aligned([list(line) for line in zip(*lines)]), key=_width)
        rule = "-" * max(len(line.rstrip()) for line in aligned)
        body = [line.rstrip() for line in aligned]
        return "\n".join([self.title, rule, body[0], rule, *body[1:], *wrap(self.note, width)])

    def markdown(self) -> str:
        """A pipe table under a heading."""
        if not self.rows:
            return ""
        head = "| " + " | ".join(map(_pipe, self.columns)) + " |"
        rule = "|---" + "|---:" * (len(self.columns) - 1) + "|"
        rows = ["| " + " | ".join(map(_pipe, row)) + " |" for row in self.rows]
        table = "\n".join([head, rule, *rows])
        note = f"\n{markdown(self.note)}\n" if self.note else ""
        return f"### {markdown(self.title)}\n\n{table}\n{note}"

    def html(self) -> str:
        """In a box of its own that scrolls sideways where the screen is narrow."""
        if not self.rows:
            return ""
        head = "".join(
            f'<th scope="col"{_words(c, MOST_IN_A_HEADING)}>{html.escape(c)}</th>'
            for c in self.columns
        )
        rows = "".join(
            f'<tr{_class(row)}><th scope="row">{html.escape(row[0])}</th>'
            + "".join(map(_cell, row[1:]))
            + "</tr>\n"
            for row in self.rows
        )
        note = f'<p class="note">{html.escape(self.note)}</p>' if self.note else ""
        title = html.escape(self.title)
        return (
            f"<h3>{title}</h3>\n"
            f'<div class="scroll" tabindex="0" role="region" aria-label="{title}">'
            f"<table><thead><tr>{head}</tr></thead>\n<tbody>\n{rows}</tbody></table></div>\n{note}\n"
        )


def _class(row: list[str]) -> str:
    return ' class="paper"' if row[0] == PAPER_ROW else ""


def _cell(cell: str) -> str:
    return f"<td{_words(cell, MOST_IN_A_LINE)}>{_two_lines(cell)}</td>"


def _words(cell: str, most: int) -> str:
    """The class of one with so many words that it is broken into lines."""
    return ' class="text"' if len(_RANGE.sub("", cell)) > most else ""


def _two_lines(cell: str) -> str:
    """As HTML, a range over seeds below its mean, which keeps the columns narrow."""
    ranges = _RANGE.findall(cell)
    if not ranges:
        return html.escape(cell)
    means = _RANGE.sub("", cell)
    return (
        f"{html.escape(means)}<small>{html.escape(' / '.join(r.strip() for r in ranges))}</small>"
    )


def _aligned(lines: list[list[str]]) -> list[str]:
    widths = [max(len(line[i]) for line in lines) for i in range(len(lines[0]))]
    return ["  ".join([x[0].ljust(widths[0]), *map(str.rjust, x[1:], widths[1:])]) for x in lines]


def _width(aligned: list[str]) -> int:
    return len(aligned[0])


def _pipe(cell: str) -> str:
    return markdown(cell).replace("|", "\\|")


def markdown(text: str) -> str:
    """Text on one line in which no HTML begins."""
    return _TAG.sub("&lt;", " ".join(text.split()))


def ppl(value: float) -> str:
    """Two decimals where perplexities are near those of the paper, none in the hundreds."""
    if math.isnan(value):
        return UNKNOWN
    if math.isinf(value):
        return "infinite"
    return f"{value:,.{2 if value < 20 else 1 if value < 200 else 0}f}"


def count(value: float) -> str:
    """A whole number with thousands separated."""
    return UNKNOWN if math.isnan(value) else f"{value:,.0f}"


def percent(value: float) -> str:
    """A share as the paper prints it: 27.3 %."""
    return UNKNOWN if math.isnan(value) else f"{100 * value:.1f} %"


def flops_unit(value: float) -> tuple[float, str]:
    """The unit of FLOPs that leaves one to three digits before the point: (size, name)."""
    units = ((1e18, "EFLOP"), (1e15, "PFLOP"), (1e12, "TFLOP"), (1e9, "GFLOP"))
    return next((unit for unit in units if value >= unit[0]), (1e6, "MFLOP"))


def flops(value: float) -> str:
    """FLOPs with a unit."""
    if math.isnan(value):
        return UNKNOWN
    size, unit = flops_unit(value)
    return f"{value / size:.3g} {unit}"


def minutes(seconds: float) -> str:
    """Wall time in the unit that reads best."""
    if math.isnan(seconds):
        return UNKNOWN
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.1f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


def with_range(value: Spread | None, number: Callable[[float], str]) -> str:
    """``middle [lowest..highest]`` over seeds, one number where they agree.

    ``>`` and ``<`` for bounds, ``~`` for some of both; how many seeds, where some have no number.
    """
    if value is None:
        return UNKNOWN
    mark = value.bound if len(value.bound) < 2 else "~"
    missing = "" if value.count == value.total else f" ({value.count} of {value.total} seeds)"
    middle, low, high = map(number, (value.middle, value.low, value.high))
    if low == high:
        return mark + middle + missing
    unit = next((u for u in (" %", " s", " min", " h") if low.endswith(u)), "")
    if unit and middle.endswith(unit) and high.endswith(unit):  # named once
        middle, low, high = (n.removesuffix(unit) for n in (middle, low, high))
        return f"{mark}{middle} [{low}..{high}]{unit}{missing}"
    return f"{mark}{middle} [{low}..{high}]{missing}"
