"""Carry a recipe out: run what is not done, resume what was interrupted, write results.json."""

import functools
import os
import shlex
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NoReturn

import yaml

from fairseq_ki.evaluation import results_file
from fairseq_ki.evaluation.command_difference import difference
from fairseq_ki.evaluation.downstream import FILE as DOWNSTREAM
from fairseq_ki.evaluation.logs import ended, read_log
from fairseq_ki.evaluation.report import RESULTS, write_html, write_markdown
from fairseq_ki.evaluation.results import Results
from fairseq_ki.evaluation.specs import Finding, TableRow, TableSpec
from fairseq_ki.evaluation.summary import as_text
from fairseq_ki.evaluation.whole_files import read_note, write_json
from fairseq_ki.experiments import corpus
from fairseq_ki.experiments.measure import (
    check_measurable,
    from_here,
    machine,
    measured,
    report_updates,
    versions,
)
from fairseq_ki.experiments.plan import Job, plan
from fairseq_ki.experiments.process import delete_run, run_logged, wait_until_free
from fairseq_ki.experiments.progress import Progress
from fairseq_ki.experiments.recipe import Recipe
from fairseq_ki.experiments.run_specs import SHARED, TRAIN

STARTED, DONE = "started.json", "done.json"


def print_commands(recipe: Recipe, out: Path, seeds: list[int], shared: Path | None = None) -> None:
    """Every command of the experiment, ready for a shell; nothing is run, no data is needed."""
    for job in plan(recipe, out, seeds, shared):
        print(f"# {job.name}")
        for name, content in job.files.items():
            print(f"mkdir -p {shlex.quote(str(job.folder))}")
            print(f"cat >{shlex.quote(str(job.folder / name))} <<'END'\n{_yaml(content)}END")
        print(shlex.join(job.command))


def run_experiment(
    recipe: Recipe,
    out: Path,
    seeds: list[int],
    redo_changed: bool = False,
    shared: Path | None = None,
) -> Results:
    """Run what is missing, in order; results.json grows with every finished run.

    Args:
        recipe: what to run.
        out: folder of the experiment; each run has ``<run>/seed<N>`` in it.
        seeds: one run of every arm for each.
        redo_changed: delete and repeat runs that were made by another command, on other data
            or with other teachers, instead of refusing.
        shared: see :func:`plan`.

    Raises:
        ValueError: for data that is not there, or runs in ``out`` that do not fit the recipe.
        RunError: if a command fails.
    """
    jobs = plan(recipe, out, seeds, shared)
    fingerprint = functools.cache(corpus.fingerprint)

    def corpus_hash(data: str) -> str:
        return fingerprint(data)["sha256"]

    for data in dict.fromkeys(data for job in jobs for data in job.corpora):
        if not _made_by(jobs, data):  # what is missing is said before hours go into other runs
            fingerprint(data)
    print(f"{recipe.name}: {len(jobs)} runs, seeds {', '.join(map(str, seeds))}, in {out}")
    if not redo_changed:  # before anything is run or written
        for job in jobs:
            started = _started(job)
            if started and started["signature"] != job.signature(corpus_hash):
                _refuse(job, started)
    results = _empty(recipe, seeds)
    for number, job in enumerate(jobs, 1):
        title = f"[{number}/{len(jobs)}] {job.name}"
        seconds = _do(job, title, job.signature(corpus_hash), redo_changed)
        out.mkdir(parents=True, exist_ok=True)
        identity = job.signature(corpus_hash, of_any_seed=True)
        results.runs.append(measured(job, results.runs, seconds, out, identity))
        if (job.folder / DOWNSTREAM).is_file():
            results.downstream.append(results_file.load_downstream(job.folder / DOWNSTREAM))
        results.corpus = _corpora(jobs[:number], fingerprint)
        results.report_updates = list(recipe.report_updates) or report_updates(results)
        for run in results.runs:
            run.ppl_at = {
                str(u): round(run.ppl(u), 3) for u in results.report_updates if u <= run.updates
            }
        results_file.save(results, out / RESULTS)
    print("\n" + as_text(results) + "\n")
    try:
        write_html([results], out / "report.html")
        write_markdown([results], out / "report.md")
        print(f"report: {out / 'report.html'} (the same as Markdown: {out / 'report.md'})")
    except ImportError as e:
        print(f"no report was written: {e}", file=sys.stderr)
    return results


def _made_by(jobs: list[Job], data: str) -> bool:
    """Whether a run makes this data, so that it need not be there before."""
    shards = map(Path, data.split(os.pathsep))
    return any(shard.is_relative_to(job.folder) for shard in shards for job in jobs)


def _started(job: Job) -> dict[str, Any] | None:
    return read_note(job.folder / STARTED, {"signature": str, "words": list})


def _refuse(job: Job, started: dict[str, Any]) -> NoReturn:
    raise ValueError(
        f"{job.folder}: expected the run of this recipe, found one made otherwise "
        f"({_difference(started['words'], job.words)}). Repeat it with --redo-changed, which "
        "deletes it first, or choose another --out"
    )


def _do(job: Job, title: str, signature: str, redo_changed: bool) -> float:
    """See to it that a job is done; its seconds as far as the driver knows them."""
    if job.spec.folder == SHARED:
        wait_until_free(job.folder, title)
    started = _started(job)
    done = read_note(job.folder / DONE, {"seconds": (int, float)})
    progress = Progress(title, job.updates)
    if started and started["signature"] != signature:
        if not redo_changed:
            _refuse(job, started)
        changed = _difference(started["words"], job.words)
        print(f"{title}: deleting the earlier run ({changed})")
        delete_run(job.folder)
        started = done = None
    if done:
        progress.end("done before")
        return done["seconds"]
    if started is None and job.folder.is_dir() and any(job.folder.iterdir()):
        raise ValueError(
            f"{job.folder}: expected an empty folder or a run of this driver, found "
            f"{sorted(p.name for p in job.folder.iterdir())[:5]}; move it away or choose "
            "another --out"
        )
    job.folder.mkdir(parents=True, exist_ok=True)
    started = started or {"signature": signature, "words": job.words}
    write_json(job.folder / STARTED, {**started, "command": job.command})
    for name, content in job.files.items():
        (job.folder / name).write_text(_yaml(content), encoding="utf-8")
    # perhaps only the driver was gone before it could note that the run is done
    if not (job.spec.kind == TRAIN and _trained_to_its_end(job)):
        seconds = run_logged(job.command, job.log, progress)
    else:
        seconds = 0.0
    if job.spec.kind == TRAIN:
        log = read_log(job.log)
        seconds = log.wall_at(log.updates)
    check_measurable(job)  # what left nothing to measure is not done
    write_json(job.folder / DONE, {"signature": signature, "seconds": seconds})
    progress.end(" · ".join(part for part in ("done", progress.standing()) if part))
    return seconds


def _trained_to_its_end(job: Job) -> bool:
    trained = (job.folder / "checkpoint_last.pt").is_file()
    return trained and job.updates is not None and ended(job.log, job.updates)


def _difference(old: list[str], new: list[str]) -> str:
    """What changed between two commands, or that it is not the command."""
    same = "same command, but its data or a run that it builds on changed"
    return difference(old, new) or same


def _empty(recipe: Recipe, seeds: list[int]) -> Results:
    return Results(
        name=recipe.name,
        title=recipe.title,
        about=recipe.about,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        command=from_here(["fairseq-ki", *sys.argv[1:]]),
        scale=recipe.scale,
        shortened=recipe.shortened,
        seeds=seeds,
        corpus=[],
        versions=versions(),
        machine=machine(),
        report_updates=[],
        comparisons=list(recipe.compare),
        curves=list(recipe.curves),
        tables=[
            TableSpec(**{**t, "rows": [TableRow(**row) for row in t["rows"]]})
            for t in recipe.tables
        ],
        findings=[Finding(**f) for f in recipe.findings],
    )


def _corpora(jobs: list[Job], fingerprint) -> list[dict]:
    return [fingerprint(d) for d in dict.fromkeys(d for j in jobs for d in j.corpora)]


def _yaml(content: object) -> str:
    return content if isinstance(content, str) else yaml.safe_dump(content, sort_keys=False)
