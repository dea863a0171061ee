"""RESULTS.md: every finished experiment with its tables and findings, and what is not run yet."""

import shlex
from dataclasses import dataclass

from fairseq_ki.evaluation.claims import HOLDS, judged
from fairseq_ki.evaluation.comparisons import compare
from fairseq_ki.evaluation.results import Results
from fairseq_ki.evaluation.summary import markdown_sentences, provenance, tables, warning
from fairseq_ki.evaluation.tables import UNKNOWN, Table, markdown, minutes

_INTRODUCTION = """\
Every table of the paper as it was measured here, with the paper's row under it where it prints one,
and for every claim whether it holds at the size that was run. Nothing on this page is written by
hand: tables, verdicts and this page come out of

    fairseq-ki report results/*.json --join --results RESULTS.md

where results/ has the results.json that each example wrote, whole, and several where seeds were run
apart. A claim *holds* if its rule (in the example's `recipe.yaml`) is true in every seed, *does not
hold* if it is false in every seed, and is *undecided* otherwise; it was *not put to the test* if
the runs that it compares did the same. With three seeds that is weak evidence: a coin too is three
times heads once in eight times.

The size is not the paper's. The models have a few million parameters and see a few million tokens,
where the paper's MEDIUM has 74 million and sees 131 billion: a claim that does not hold here may
hold there, and the other way round. The teacher that most examples share was trained for twice as
many updates as its students and ends with a better PPL than nearly all of them; in the paper the
students go past their teachers. And what inheriting saves is, nearly everywhere here, less than
what a teacher costs that was trained for one student alone: the tables of savings say how much, in
their last column of FLOPs. Learning rates were tuned without a teacher, and no setting was chosen
by what inheriting gives."""


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
        ["experiment", "seeds", "the paper's claims: hold", "our own: hold", "training time"],
        note="Examples share runs, above all the student of 4 x 192 alone and with KI: their "
        "claims are not independent, and such runs are in the time of each. Times are those of a "
        "machine that had other work as well.",
    )
    for results, anchor in zip(found, _anchors(found)):
        judgements = judged(results)
        theirs = [j.verdict for j in judgements if j.finding.source]
        ours = [j.verdict for j in judgements if not j.finding.source]
        seconds = [run.wall_seconds for run in results.runs if run.kind == "train"]
        table.rows.append(
            [
                f"[{results.name}](#{anchor})",
                str(len(results.seeds)),
                *(f"{v.count(HOLDS)} of {len(v)}" if v else UNKNOWN for v in (theirs, ours)),
                minutes(sum(seconds)),
            ]
        )
    return table


def _anchors(found: list[Results]) -> list[str]:
    """As GitHub makes them of headings, numbered where a heading comes again."""
    seen: dict[str, int] = {}
    anchors = []
    for results in found:
        kept = [c for c in _heading(results).lower() if c.isalnum() or c in " -_"]
        anchor = "".join(kept).replace(" ", "-")
        seen[anchor] = seen.get(anchor, -1) + 1
        anchors.append(f"{anchor}-{seen[anchor]}" if seen[anchor] else anchor)
    return anchors


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
    parts.append("\n".join(f"- {line}" for line in markdown_sentences(results, compared)))
    parts += [table.markdown() for table in tables(results, compared)]
    described = {f"corpus {key}" for c in results.corpus for key in c.get("description", {})}
    known = [fact for fact in provenance(results) if fact[0] not in described]  # the report has it
    facts = ", ".join(markdown(f"{name} {value}") for name, value in known)
    parts.append(f"Measured with: {facts}.")
    if results.command:
        parts.append(f"    {shlex.join(results.command)}")
    return "\n\n".join(part.strip("\n") for part in parts if part)
