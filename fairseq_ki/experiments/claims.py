"""The tables and findings of a recipe, checked; evaluation/cells.py has what a cell may be.

tables:
  - title: Label smoothing (Table 10)
    columns: [run, 16 %, 32 %]
    rows:
      - {label: smoothing 0.1, cells: ["smooth@16%", "smooth@32%"], paper: ["6.71", "5.74"]}
findings:
  - {claim: KI is better than label smoothing., rule: "ki@80% < smooth@80%", source: Table 10}
"""

from typing import Any

from fairseq_ki.evaluation.cells import Cell
from fairseq_ki.evaluation.claims import parse_cells, parse_rule
from fairseq_ki.experiments.recipe_file import RecipeFile

_TABLE = {"title": str, "note": str, "columns": list, "rows": list}
_ROW = {"label": str, "cells": list, "paper": list}
_FINDING = {"claim": str, "rule": str, "source": str}  # source: where the paper says so


def checked_tables(source: RecipeFile, tables: list, runs: set[str]) -> list[dict[str, Any]]:
    """The tables as results.json has them: every cell text, "" for none."""
    checked = []
    for i, table in enumerate(tables):
        where = ("tables", i)
        table = source.mapping(table, _TABLE, where, ("title", "columns", "rows"))
        columns = [str(c) for c in table["columns"]]
        rows = []
        for j, row in enumerate(table["rows"]):
            here = (*where, "rows", j)
            row = source.mapping(row, _ROW, here, ("label", "cells"))
            for part in ("cells", "paper"):
                if part in row and len(row[part]) != len(columns) - 1:
                    expected = f"{len(columns) - 1} of them, one per column"
                    source.refuse((*here, part), expected, str(len(row[part])))
            texts = ["" if cell is None else str(cell) for cell in row["cells"]]
            for k, text in enumerate(texts):
                if text:
                    _known(source, parse_cells, text, runs, (*here, "cells", k))
            paper = ["–" if cell is None else str(cell) for cell in row.get("paper", [])]
            rows.append({"label": row["label"], "cells": texts, "paper": paper})
        note = " ".join(table.get("note", "").split())
        checked.append({"title": table["title"], "note": note, "columns": columns, "rows": rows})
    return checked


def joined(findings: list, general: list, runs: set[str]) -> list:
    """A scale's findings, then those of the recipe that it does not replace.

    ``general`` ones stay at a scale that has their runs, and does not make their claim or judge by
    their rule itself.
    """
    said = {str(f.get(key)) for f in findings if isinstance(f, dict) for key in ("claim", "rule")}
    return [
        *findings,
        *(
            f
            for f in general
            if not (isinstance(f, dict) and said & {f.get("claim"), f.get("rule")})
            and not _arms(f) - runs
        ),
    ]


def _arms(finding: Any) -> set[str]:
    """What a rule names; nothing of one that is still to be refused."""
    try:
        return {arm for cell in _cells(finding["rule"]) for arm in cell.arms}
    except (ValueError, TypeError, KeyError, AttributeError):
        return set()


def _cells(rule: str) -> list[Cell]:
    return [term.cell for term in parse_rule(rule)[0] if term.cell]


def checked_findings(source: RecipeFile, findings: list, runs: set[str]) -> list[dict[str, Any]]:
    """The findings, their rules understood."""
    checked = []
    for i, finding in enumerate(findings):
        where = ("findings", i)
        finding = source.mapping(finding, _FINDING, where, ("claim", "rule"))
        _known(source, _cells, finding["rule"], runs, (*where, "rule"))
        checked.append({**finding, "claim": " ".join(finding["claim"].split())})
    return checked


def _known(source: RecipeFile, parse, text: str, runs: set[str], where: tuple) -> None:
    try:
        found = parse(text)
    except ValueError as e:
        source.refuse(where, str(e), repr(text))
    for cell in found:
        for arm in cell.arms - runs:
            source.refuse(where, f"a run among {sorted(runs)}", repr(arm))
