"""What a recipe wants to be shown and judged, as results.json keeps it."""

from dataclasses import dataclass, field


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

    def __post_init__(self) -> None:
        for row in self.rows:
            if {len(row.cells), len(row.paper) or len(row.cells)} != {len(self.columns) - 1}:
                raise ValueError(
                    f"table {self.title!r}: expected one cell for each of the columns "
                    f"{self.columns[1:]}, found {row.cells} and of the paper {row.paper}"
                )


@dataclass
class Finding:
    """A claim, and the rule by which it holds here (see claims.py).

    ``source`` says where the paper makes it (``Fig. 1a``); a claim of our own has none.
    """

    claim: str
    rule: str
    source: str = ""

    @property
    def text(self) -> str:
        """The claim, with whose it is."""
        return f"The paper ({self.source}): {self.claim}" if self.source else self.claim


@dataclass
class PaperSaving:
    """What the paper's own runs save in updates, as a share, and which runs these are."""

    saving: float
    setting: str = "the paper"


@dataclass
class PaperRun:
    """The paper's counterpart of a run: validation PPL by update, score times 100 by task."""

    name: str = ""
    valid_ppl: dict[str, float] = field(default_factory=dict)
    downstream: dict[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not all(updates.isdecimal() for updates in self.valid_ppl):
            raise ValueError(f"valid_ppl: expected PPL by update, found {self.valid_ppl}")
