"""One picture of a report: SVG for the page, PNG for Markdown, drawn with matplotlib.

The only module that loads matplotlib (extra ``report``), and only when something is drawn. An
SVG is drawn in stand-in colours that are then replaced by CSS variables, so that one picture
follows the light or dark page it stands in.
"""

import io
import logging
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# told apart with colour-blind eyes in this order; (light page, dark page)
SERIES = (
    ("#1f6fd1", "#6cb0ff"),
    ("#d95f02", "#ffa25c"),
    ("#12805c", "#4fd1a5"),
    ("#8a3ffc", "#c9a2ff"),
    ("#c2255c", "#ff8fb1"),
    ("#7a6400", "#e0c64a"),
    ("#0b7285", "#5fd3e6"),
    ("#5c6773", "#aab4bf"),
)
INK = {"ink": ("#1d2329", "#e8eaed"), "grid": ("#d9dee3", "#3a4048")}
SIZE = (5.4, 3.5)  # inches: 10-point text stays readable at the width of a phone


@dataclass
class Picture:
    """A drawing that was asked for; ``draw`` puts it on axes in the given colours."""

    name: str
    title: str
    caption: str
    draw: Callable[["Axes", "Colours"], None]
    height: float = SIZE[1]

    def svg(self, section: int = 0) -> str:
        """An ``<svg>`` element without size, in CSS variables --ink, --grid, --series-N.

        ``section`` keeps its ids apart from those of the same picture in other sections.
        """
        stand_ins = Colours([f"#f1{i:02x}5e" for i in range(len(SERIES))], "#f2005e", "#f2015e")
        text = self._render("svg", stand_ins).decode()
        text = text[text.index("<svg") :]
        for i, colour in enumerate(stand_ins.series):
            text = text.replace(colour, f"var(--series-{i})")
        text = text.replace(stand_ins.ink, "var(--ink)").replace(stand_ins.grid, "var(--grid)")
        # sized by the page; ids must differ between the pictures of one page
        text = re.sub(r'(<svg[^>]*?) height="[^"]*"', r"\1", text, count=1)
        text = re.sub(r'(<svg[^>]*?) width="[^"]*"', r"\1", text, count=1)
        text = re.sub(r'(id="|href="#|url\(#)', rf"\g<1>{self.name}-{section}-", text)
        text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
        return text.replace("<svg", f'<svg role="img" aria-label="{self.title}"', 1)

    def png(self) -> bytes:
        """In light colours on white."""
        light = Colours([c for c, _ in SERIES], INK["ink"][0], INK["grid"][0])
        return self._render("png", light)

    def _render(self, form: str, colours: "Colours") -> bytes:
        matplotlib = require_matplotlib()
        from matplotlib.figure import Figure

        ink = colours.ink
        style = {
            "svg.fonttype": "none",
            "svg.hashsalt": self.name,
            "font.family": "sans-serif",
            "font.sans-serif": ["DejaVu Sans"],
            "font.size": 10,
            "text.parse_math": False,  # labels are the user's, and may hold a $
            "axes.edgecolor": colours.grid,
            "axes.labelcolor": ink,
            "axes.spines.top": False,
            "axes.spines.right": False,
            "axes.grid": True,
            "grid.color": colours.grid,
            "grid.linewidth": 0.6,
            "text.color": ink,
            "xtick.color": ink,
            "ytick.color": ink,
            "legend.frameon": False,
        }
        buffer = io.BytesIO()
        with matplotlib.rc_context(style):
            figure = Figure(figsize=(SIZE[0], self.height), layout="constrained")
            self.draw(figure.add_subplot(), colours)
            figure.savefig(
                buffer,
                format=form,
                dpi=160,
                transparent=form == "svg",
                metadata={"Date": None} if form == "svg" else None,
            )
        return buffer.getvalue()


@dataclass
class Colours:
    """Colours as matplotlib takes them."""

    series: list[str]
    ink: str
    grid: str


def require_matplotlib():
    """matplotlib, or an ImportError that names the extra which installs it."""
    # fairseq's imports leave the root logger at DEBUG, and matplotlib tells of every font
    logging.getLogger("matplotlib").setLevel(logging.WARNING)
    try:
        import matplotlib
    except ImportError as e:
        raise ImportError(
            "the report draws with matplotlib, which is not installed here; "
            "pip install 'fairseq_ki[report]' brings it"
        ) from e
    return matplotlib
