"""Report on finished experiments and training logs: one HTML page, or Markdown with PNGs."""

import math
import shlex
from dataclasses import replace
from pathlib import Path

from fairseq_ki.evaluation import results_file
from fairseq_ki.evaluation.claims import check_claims
from fairseq_ki.evaluation.comparisons import compare
from fairseq_ki.evaluation.downstream import FILE as DOWNSTREAM
from fairseq_ki.evaluation.downstream import Downstream
from fairseq_ki.evaluation.downstream_table import downstream_facts
from fairseq_ki.evaluation.figures import pictures
from fairseq_ki.evaluation.joining import joined
from fairseq_ki.evaluation.logs import read_log
from fairseq_ki.evaluation.page import page, run_title
from fairseq_ki.evaluation.picture import require_matplotlib
from fairseq_ki.evaluation.results import Comparison, Results, Run, run_curves
from fairseq_ki.evaluation.results_page import Example, results_page
from fairseq_ki.evaluation.summary import (
    cost_table,
    markdown_sentences,
    provenance,
    tables,
    warning,
)
from fairseq_ki.evaluation.tables import markdown
from fairseq_ki.evaluation.whole_files import write_bytes

RESULTS = "results.json"


def gather(
    paths: list[Path],
    compare_arms: list[tuple[str, str]] | None = None,
    join: bool = False,
) -> list[Results]:
    """What to report on: results.json files (or their folders), fine-tuning, and training logs.

    All logs together make one section, each a run named after its file, or after its folder
    where files share a name; without sizes they have no FLOPs. All downstream.json files
    together make another.

    Args:
        paths: folders with a results.json or downstream.json, these files, or training logs.
        compare_arms: (inheriting, alone) names to compare, beside those of the recipes.
        join: make results.json files of one experiment, with other seeds each, one of all seeds.

    Raises:
        ValueError: for a path that is none of these or is damaged, an unknown name in
            ``compare_arms``, or files of one experiment that do not belong together.
    """
    files: list[tuple[str, Results]] = []
    logs: list[Path] = []
    tuned: list[Downstream] = []
    for path in paths:
        file = _file_in(path)
        if file.name not in (RESULTS, DOWNSTREAM) and not results_file.is_one(file):
            logs.append(file)
            continue
        read = results_file.load(file)
        if isinstance(read, Downstream):
            tuned.append(read)
            continue
        try:
            check_claims(read)
        except ValueError as e:
            raise ValueError(f"{file}: {e}") from None
        files.append((str(file), read))
    found = joined(files) if join else [read for _, read in files]
    if logs:
        found.append(from_logs(logs))
    if tuned:
        found.append(from_downstream(tuned))
    for inherited, alone in compare_arms or []:
        matching = [r for r in found if {inherited, alone} <= set(r.arms)]
        if not matching or inherited == alone:
            names = sorted({arm for r in found for arm in r.arms})
            raise ValueError(
                f"--compare: expected two runs of one experiment among {names}, found "
                f"{inherited} {alone}"
            )
        for each in matching:
            pair = (inherited, alone)
            if pair not in [(c.inherited, c.alone) for c in each.comparisons]:
                each.comparisons.append(Comparison(*pair))
    return found


def _file_in(path: Path) -> Path:
    if path.is_file():
        return path
    for name in (RESULTS, DOWNSTREAM):
        if (path / name).is_file():
            return path / name
    if path.is_dir():
        raise ValueError(f"{path}: expected a folder with {RESULTS}, found none in it")
    raise ValueError(
        f"{path}: expected a folder, results.json or training log, found nothing there; look for "
        "a mistake in the path"
    )


def from_logs(paths: list[Path]) -> Results:
    """One experiment out of bare training logs."""
    stems = [p.stem for p in paths]
    runs = []
    for path in paths:
        log = read_log(path)
        valid, train = run_curves(log)
        name = path.stem if stems.count(path.stem) == 1 else path.resolve().parent.name
        inherits = any(rate > 0 for rate in train.get("ki_rate", []))
        runs.append(
            Run(
                name=name,
                label=name,
                role="inherited" if inherits else "",
                seed=0,
                kind="train",
                command=[],
                folder=str(path.parent),
                wall_seconds=log.wall_at(log.updates),
                valid=valid,
                train=train,
            )
        )
    names = [r.name for r in runs]
    if len(set(names)) < len(names):
        raise ValueError(f"expected logs with different names or folders, found {names}")
    longest = max(runs, key=lambda r: r.updates)
    points = evenly(longest.valid.get("updates", []))
    return replace(_no_recipe("training logs"), report_updates=points, runs=runs)


def from_downstream(found: list[Downstream]) -> Results:
    """One experiment out of what fine-tuning left; its runs are the commands."""
    return replace(
        _no_recipe("downstream"),
        title="Downstream tasks",
        created=max(each.created for each in found),
        versions=found[0].versions,
        machine=found[0].machine,
        runs=[
            Run(each.label, each.label, "", 0, "command", list(command), "", math.nan)
            for each in found
            for command in dict.fromkeys(tuple(task.command) for task in each.tasks)
        ],
        downstream=found,
    )


def _no_recipe(name: str) -> Results:
    """What was not an experiment of a recipe, before anything is known of it."""
    return Results(
        name=name,
        title="",
        about="",
        created="",
        command=[],
        scale="",
        shortened=1,
        seeds=[],
        corpus=[],
        versions={},
        machine={},
        report_updates=[],
    )


def evenly(updates: list[float], most: int = 6) -> list[int]:
    """At most ``most`` of the validated updates, evenly spread, the last among them."""
    points = min(most, len(updates))
    return sorted(int(updates[-1 - i * len(updates) // points]) for i in range(points))


def write_html(results: list[Results], path: Path) -> None:
    """One self-contained page.

    Raises:
        ImportError: without matplotlib, naming the extra.
    """
    sections = []
    for each in results:
        compared = compare(each)
        sections.append((each, compared, pictures(each, compared)))
    _write(path, page(sections, _title(results)).encode())


def write_results(results: list[Results], examples: list[Example], path: Path) -> None:
    """RESULTS.md: see results_page.py."""
    _write(path, results_page(results, examples).encode())


def write_markdown(results: list[Results], path: Path) -> None:
    """The same as Markdown, its pictures as PNG in a folder ``<name>_files`` beside it.

    Raises:
        ImportError: without matplotlib, naming the extra.
    """
    require_matplotlib()
    parts = [f"# {markdown(_title(results))}"]
    for number, each in enumerate(results):
        compared = compare(each)
        if len(results) > 1 and (each.title or each.name):
            parts.append(f"## {markdown(each.title or each.name)}")
        parts += [text for text in (markdown(each.about), _bold(warning(each))) if text]
        parts += markdown_sentences(each, compared)
        for picture in pictures(each, compared):
            file = pictures_of(path) / f"{number}-{picture.name}.png"
            _write(file, picture.png())
            link = f"![{picture.title}]({file.parent.name}/{file.name})"
            parts.append(f"### {picture.title}\n\n{link}\n\n{markdown(picture.caption)}")
        parts += [table.markdown() for table in tables(each, compared)]
        parts.append(cost_table(each).markdown())
        parts.append("### Measured with\n")
        known = provenance(each) + downstream_facts(each.downstream)
        facts = [markdown(f"{name}: {value}") for name, value in known]
        parts.append("\n".join(f"- {fact}" for fact in facts))
        parts.append(_commands(each))
    _write(path, ("\n\n".join(part.strip("\n") for part in parts if part) + "\n").encode())


def pictures_of(path: Path) -> Path:
    """The folder in which the pictures of a Markdown report lie."""
    return path.parent / f"{path.stem}_files"


def _commands(results: Results) -> str:
    lines = []
    if results.command:
        lines.append(f"    {shlex.join(results.command)}")
    for run in results.runs:
        if run.command:
            lines += [f"{markdown(run_title(results, run))}:\n", f"    {shlex.join(run.command)}"]
    return "### Commands\n\n" + "\n\n".join(lines) if lines else ""


def _bold(text: str) -> str:
    return f"**{text}**" if text else ""


def _title(results: list[Results]) -> str:
    if len(results) == 1:
        return results[0].title or results[0].name
    return f"Knowledge Inheritance: {len(results)} experiments"


def _write(path: Path, data: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    write_bytes(path, data)
