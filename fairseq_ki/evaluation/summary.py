"""The tables and sentences that an experiment ends with, from its results."""

import math
from statistics import median
from textwrap import wrap

from fairseq_ki.evaluation.claims import judged, own_tables
from fairseq_ki.evaluation.comparisons import Compared, compare, gaps, savings_table, verdicts
from fairseq_ki.evaluation.downstream_table import downstream_tables
from fairseq_ki.evaluation.results import Results, Run
from fairseq_ki.evaluation.savings import Spread, spread
from fairseq_ki.evaluation.tables import (
    UNKNOWN,
    Table,
    count,
    flops,
    markdown,
    minutes,
    percent,
    ppl,
    with_range,
)

WIDTH = 100  # of a terminal


def ppl_table(results: Results) -> Table:
    """Validation PPL of every arm at several update counts, with the paper's beside."""
    validated = [a for a in results.arms if any(r.curve for r in results.arm(a))]
    columns = [u for u in results.report_updates if _reached(results, validated, u)]
    paper = any(r.paper for r in results.runs)
    table = Table(
        "Validation perplexity",
        ["run", *(count(u) for u in columns), "end", *(["the paper"] if paper else [])],
        note="By updates; over several seeds the mean [lowest..highest]. Self-learning loss on "
        f"the same validation masks for all. {_validated_on(results)}".strip(),
    )
    for arm in validated:
        runs = results.arm(arm)
        cells = [with_range(spread([r.ppl(u) for r in runs]), ppl) for u in columns]
        end = min(r.validated for r in runs if r.curve)  # as far as all seeds came
        last = with_range(spread([r.ppl(end) for r in runs]), ppl)
        row = [results.label(arm), *cells, f"{last} at {count(end)}"]
        if paper:
            row.append(_paper_ppl(runs[0]))
        table.rows.append(row)
    return table


def _validated_on(results: Results) -> str:
    """A sentence where rows of the table are PPLs of different text; empty otherwise."""
    texts = {str(c.get("description", {}).get("valid", c["sha256"])) for c in results.corpus}
    if len(texts) < 2 and not any("--ki-mixture" in r.command for r in results.runs):
        return ""
    return (
        "Each run is validated on the text of its own data, of a mixture on all of its domains: "
        "rows of different data do not compare."
    )


def _reached(results: Results, arms: list[str], updates: int) -> bool:
    return any(not math.isnan(r.ppl(updates)) for a in arms for r in results.arm(a))


def _paper_ppl(run: Run) -> str:
    if not run.paper:
        return UNKNOWN
    points = ", ".join(f"{ppl(v)} at {count(float(u))}" for u, v in run.paper.valid_ppl.items())
    return f"{run.paper.name or run.name}: {points}"


def cost_table(results: Results) -> Table:
    """What the runs cost on this machine."""
    table = Table(
        "Cost",
        [
            "run",
            "updates",
            "FLOPs an update",
            "teacher's FLOPs an update",
            "FLOPs in all",
            "seconds an update",
            "wall time",
            "teacher's share of it",
        ],
        note="FLOPs are counted from sizes (forward and backward of the run, forward of its "
        "teachers while they are consulted, in a capture or live); wall time is fairseq's, "
        "validation and checkpoints included, and over seeds the median, which no single run that "
        f"was held up can move. {uneven_load(results)}".strip(),
    )
    for arm in results.arms:
        runs = results.arm(arm)
        ends = spread([r.updates for r in runs])
        per_update = spread([r.flops.per_update if r.flops else math.nan for r in runs])
        taught = spread([sum(t.forward_flops for t in r.teachers) for r in runs if r.teachers])
        table.rows.append(
            [
                results.label(arm),
                with_range(ends, count),
                flops(per_update.middle) if per_update else UNKNOWN,
                flops(taught.middle) if taught else UNKNOWN,
                with_range(spread([r.cost(r.updates) for r in runs]), flops),
                with_range(_median([_pace(r) for r in runs]), lambda s: f"{s:.3g}"),
                with_range(_median([r.wall_seconds for r in runs]), minutes),
                with_range(spread([_teacher_share(r) for r in runs]), percent),
            ]
        )
    return table


def _median(seconds: list[float]) -> Spread | None:
    return spread(seconds, middle=median)


UNEVEN = 1.5  # of the fastest to the slowest run, in FLOPs a second


def uneven_load(results: Results) -> str:
    """A sentence where the wall times of the students do not compare; empty otherwise."""
    paces = [
        run.cost(run.updates) / run.wall_seconds
        for run in results.runs
        if run.flops and run.role != "teacher" and run.wall_seconds > 0
    ]
    paces = [pace for pace in paces if pace > 0]
    if not paces or max(paces) <= UNEVEN * min(paces):
        return ""
    return (
        f"Wall times compare badly: these runs did between {flops(min(paces))} and "
        f"{flops(max(paces))} a second; they differ in size, or the machine had other work."
    )


def _pace(run: Run) -> float:
    return run.wall_seconds / run.updates if run.updates else math.nan


def _teacher_share(run: Run) -> float:
    logged = zip(run.train.get("ki_teacher_share", []), run.train.get("ki_rate", []))
    known = [share for share, rate in logged if rate > 0 and not math.isnan(share)]
    return sum(known) / len(known) if known else math.nan


def provenance(results: Results) -> list[tuple[str, str]]:
    """What was run, on what, with what: name and value (downstream_facts has that of the tasks)."""
    facts = [("experiment", results.name), ("measured", results.created)]
    facts.append(("seeds", _seeds(results)))
    if results.scale:
        facts.append(("scale", results.scale))
    for corpus in results.corpus:
        facts.append((f"corpus {corpus['path']}", f"SHA-256 {corpus['sha256']}"))
        facts += [(f"corpus {k}", str(v)) for k, v in corpus.get("description", {}).items()]
    facts += list(results.versions.items())
    facts += [(name, str(value)) for name, value in results.machine.items()]
    return facts


def _seeds(results: Results) -> str:
    return ", ".join(map(str, results.seeds)) or UNKNOWN


def warning(results: Results) -> str:
    """A sentence for what must not be mistaken for a result; empty otherwise."""
    if results.shortened == 1:
        return ""
    return (
        f"Shortened {results.shortened:g} times to try the commands: these numbers say nothing "
        "about the method."
    )


def remarks(results: Results, compared: list[Compared]) -> list[str]:
    """Sentences beside the findings: what inheriting saved, and what could not be said.

    Where findings say what matters, several comparisons stand in their table alone.
    """
    several = results.findings and len(results.comparisons) > 1
    saved = [] if several else verdicts(results, compared)
    return saved + gaps(compared) + _cut_short(results)


def markdown_sentences(results: Results, compared: list[Compared]) -> list[str]:
    """The findings of the recipe, judged, and the remarks, each as a line of Markdown."""
    found = [f"**{each.said}.** {markdown(each.reason)}" for each in judged(results)]
    return [*found, *map(markdown, remarks(results, compared))]


def _cut_short(results: Results) -> list[str]:
    """Arms whose seeds did not come equally far."""
    ends = {arm: [r.validated for r in results.arm(arm) if r.curve] for arm in results.arms}
    return [
        f"Not all seeds came equally far: {results.label(arm)}, validated last at "
        f"{', '.join(map(count, of_seeds))} updates. The PPL table ends "
        "where all of them were; elsewhere each has its own end."
        for arm, of_seeds in ends.items()
        if len(set(of_seeds)) > 1
    ]


def tables(results: Results, compared: list[Compared]) -> list[Table]:
    """The recipe's own tables, then those of every report, without the costs."""
    found = [*own_tables(results), ppl_table(results)]
    if compared:
        found.append(savings_table(results, compared))
    return found + downstream_tables(results.downstream, _paper_downstream(results))


def _paper_downstream(results: Results) -> dict[str, dict[str, float]]:
    """The paper's models that the recipe puts beside those that were fine-tuned here."""
    known = [run.paper for run in results.runs if run.paper and run.paper.downstream]
    return {paper.name: paper.downstream for paper in known}


def as_text(results: Results) -> str:
    """The whole summary for a terminal."""
    compared = compare(results)
    parts = [warning(results), *(table.text(WIDTH) for table in tables(results, compared))]
    found = [f"{judgement.said}. {judgement.reason}" for judgement in judged(results)]
    parts += ["\n".join(wrap(s, WIDTH)) for s in [*found, *remarks(results, compared)]]
    parts.append(cost_table(results).text(WIDTH))
    parts.append("\n".join(f"corpus {c['path']}: SHA-256 {c['sha256']}" for c in results.corpus))
    return "\n\n".join(part for part in parts if part)
