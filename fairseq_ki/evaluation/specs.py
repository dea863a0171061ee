"""What a recipe wants to be shown and judged, as results.json keeps it."""

from dataclasses import dataclass


@dataclass
class TableRow:
    """One row of a table: its cells (see cells.py; "" for none), and the paper's numbers."""

    label: str
    cells: list[str]
    paper: list[str]


@dataclass
class TableSpec:
    """A table that the recipe asks for; the first column holds the labels."""

    title: str
    note: str
    columns: list[str]
    rows: list[TableRow]


@dataclass
class Finding:
    """A claim of the paper, and the rule by which it holds here (see claims.py)."""

    claim: str
    rule: str
