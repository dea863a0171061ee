"""RESULTS.md: every finished experiment with its tables and findings, and what is not run yet."""

import shlex
from dataclasses import dataclass

from fairseq_ki.evaluation.claims import HOLDS, judged
from fairseq_ki.evaluation.comparisons import compare
from fairseq_ki.evaluation.results import Results
from fairseq_ki.evaluation.summary import provenance, sentences, tables, warning
from fairseq_ki.evaluation.tables import Table, markdown, minutes

_INTRODUCTION = """\
Every table of the paper as it was measured here, with the paper's row under it where it prints one,
and for every claim whether it holds at the size that was run. Nothing on this page is written by
hand: tables, verdicts and this page come out of

    fairseq-ki report results/*.json --join --results RESULTS.md

where results/ has the results.json that each example wrote, whole, and several where seeds were run
apart. A claim *holds* if its rule (in the example's `recipe.yaml`) is true in every seed, *does not
hold* if it is true in none, and is *undecided* else. The models are of a few million parameters and
see a few million tokens, where the paper's MEDIUM is of 74 million and sees 131 billion: a claim
that does not hold here may hold there, and the other way round. Learning rates were chosen for the
models alone and nothing by what inheriting gives."""


@dataclass(frozen=True)
class Example:
    """One that can be run: its folder's name, what it shows, and the command."""

    name: str
    title: str
    command: str


def results_page(found: list[Results], examples: list[Example]) -> str:
    """The page as Markdown; ``examples`` are all that there are, run or not."""
    parts = ["# Results", _INTRODUCTION]
    parts.append(_overview(found).markdown().replace("### ", "## ", 1))
    run = {results.name for results in found if results.scale in ("", "full")}
    parts.append(_not_run([example for example in examples if example.name not in run]))
    parts += [_section(results) for results in found]
    return "\n\n".join(part.strip("\n") for part in parts if part) + "\n"


def _overview(found: list[Results]) -> Table:
    table = Table(
        "Overview",
        ["experiment", "seeds", "claims that hold", "training time"],
        note="Runs that several examples share are in the time of each.",
    )
    for results in found:
        verdicts = [judgement.verdict for judgement in judged(results)]
        holding = f"{verdicts.count(HOLDS)} of {len(verdicts)}" if verdicts else "–"
        seconds = sum(run.wall_seconds for run in results.runs)
        name = f"[{results.name}](#{_anchor(results)})"
        table.rows.append([name, str(len(results.seeds)), holding, minutes(seconds)])
    return table


def _anchor(results: Results) -> str:
    kept = [c for c in _heading(results).lower() if c.isalnum() or c in " -_"]
    return "".join(kept).replace(" ", "-")


def _heading(results: Results) -> str:
    return results.title or results.name


def _not_run(missing: list[Example]) -> str:
    if not missing:
        return ""
    lines = ["## Not run yet", ""]
    lines += [f"- {markdown(example.title)}: `{example.command}`" for example in missing]
    return "\n".join(lines)


def _section(results: Results) -> str:
    compared = compare(results)
    parts = [f"## {markdown(_heading(results))}", markdown(results.about)]
    if warning(results):
        parts.append(f"**{warning(results)}**")
    parts.append("\n".join(f"- {markdown(sentence)}" for sentence in sentences(results, compared)))
    parts += [table.markdown() for table in tables(results, compared)]
    known = [(name, value) for name, value in provenance(results) if _short(name)]
    facts = ", ".join(markdown(f"{name} {value}") for name, value in known)
    parts.append(f"Measured with: {facts}.")
    if results.command:
        parts.append(f"    {shlex.join(results.command)}")
    return "\n\n".join(part.strip("\n") for part in parts if part)


def _short(name: str) -> bool:
    """Not what corpus.json says, which the report of the experiment has."""
    return not name.startswith("corpus ") or "/" in name
