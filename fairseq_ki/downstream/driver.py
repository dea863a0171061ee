"""Fine-tune or probe one checkpoint on many tasks: what is done is not done again.

OUT/downstream.json                     results; grows by a task at a time
OUT/<task>/data/                        the task as fairseq reads it
OUT/<task>/lr1e-05-batch16-seed1/       one training: train.log, done.json, predictions.jsonl
OUT/<task>/probe-mean-C0.1/             one linear model: done.json, predictions.jsonl
"""

import shlex
import sys
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

from fairseq_ki.downstream.preparing import Prepared, planned, prepare
from fairseq_ki.downstream.pretrained import Pretrained
from fairseq_ki.downstream.probing import check_probed
from fairseq_ki.downstream.reading import TaskData, read_task
from fairseq_ki.downstream.request import Request
from fairseq_ki.downstream.runs import TrainingRun, changed, probed, trained
from fairseq_ki.evaluation import results_file
from fairseq_ki.evaluation.downstream import (
    FILE,
    UNSEEN,
    Downstream,
    NotRun,
    SettingScores,
    TaskScores,
    choose,
    counted,
    summary,
    tenths,
)
from fairseq_ki.evaluation.metrics import TITLES
from fairseq_ki.experiments.measure import machine, versions

NOT_FINISHED = "not finished"


def print_commands(request: Request, pretrained: Pretrained) -> None:
    """Every fairseq-train command, ready for a shell; the data is prepared, nothing is trained."""
    read = _read(request)
    for task, _ in request.tasks:
        if task.name not in read:
            print(f"# {task.title}: not run: {request.why_not(task)}")
            continue
        if request.probe:
            print(f"# {task.title}: a linear probe, in this process; no command is run")
            continue
        prepared = prepare(_planned(request, pretrained, read[task.name]), pretrained)
        for setting, seed in request.runs(task):
            run = TrainingRun(request, pretrained, prepared, setting, seed)
            print(f"# {task.title}, {setting.name}, seed {seed}")
            print(shlex.join(run.command))


def run(request: Request, pretrained: Pretrained) -> Downstream:
    """Do what is missing and write downstream.json after every task.

    Raises:
        ValueError: for data that cannot be used, or earlier runs that were made otherwise.
        RunError: if a training fails.
    """
    # all data is read before anything is written or trained: a bad line is not found tomorrow
    plans = [_planned(request, pretrained, data) for data in _read(request).values()]
    earlier = _earlier(request, pretrained)
    repeated = {plan.data.task.name for plan in plans if changed(request, pretrained, plan)}
    found = _begun(request, pretrained, earlier, repeated)
    ready = [prepare(plan, pretrained) for plan in plans]
    for prepared in ready:
        _tell(prepared)
    request.out.mkdir(parents=True, exist_ok=True)
    results_file.save(found, request.out / FILE)
    for prepared in ready:
        task = prepared.data.task
        if request.probe:
            grid = probed(request, pretrained, prepared, request.probe)
        else:
            grid = trained(request, pretrained, prepared)
        scores = _task_scores(request, prepared, grid)
        found.tasks = [t for t in found.tasks if (t.task, t.method) != (task.name, request.method)]
        found.tasks.append(scores)
        found.not_run = [entry for entry in found.not_run if entry.task != task.name]
        found.summary = summary(found.tasks)
        results_file.save(found, request.out / FILE)
    return found


def _earlier(request: Request, pretrained: Pretrained) -> Downstream | None:
    """downstream.json of this checkpoint, if there is one."""
    file = request.out / FILE
    if not file.is_file():
        return None
    earlier = results_file.load_downstream(file)
    if earlier.checkpoint["sha256"] == pretrained.sha256:
        return earlier
    if request.redo_changed:
        return None
    raise ValueError(
        f"{request.out}: expected results of {pretrained.path}, found those of another "
        f"checkpoint ({earlier.checkpoint['path']}, or its earlier state). Repeat them "
        "with --redo-changed, or choose another --out"
    )


def _begun(
    request: Request, pretrained: Pretrained, earlier: Downstream | None, repeated: set[str]
) -> Downstream:
    """downstream.json to begin with: other tasks and methods of an earlier one are kept.

    Of ``repeated`` tasks what was measured by this method is not: their runs are to be deleted.
    """
    begun = Downstream(
        label=request.label,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        checkpoint={
            "path": str(pretrained.path),
            "sha256": pretrained.sha256,
            "arch": pretrained.arch,
            "updates": pretrained.updates,
        },
        versions=versions(),
        machine=machine(),
    )
    if earlier is not None:
        begun.not_run = earlier.not_run
        begun.tasks = [
            task
            for task in earlier.tasks
            if task.method != request.method or task.task not in repeated
        ]
    begun.summary = summary(begun.tasks)
    done = {task.task for task in begun.tasks}
    asked = {task.name for task, _ in request.tasks}
    begun.not_run = [entry for entry in begun.not_run if entry.task not in asked | done]
    for task, folder in request.tasks:
        if task.name not in done:
            reason = request.why_not(task) if folder is None else NOT_FINISHED
            begun.not_run.append(NotRun(task.name, task.title, task.glue, reason))
    return begun


def _read(request: Request) -> dict[str, TaskData]:
    """Every task that has data, by its name."""
    tasks = [(task, folder) for task, folder in request.tasks if folder is not None]
    read = {task.name: read_task(task, folder) for task, folder in tasks}
    if request.probe:
        for data in read.values():
            check_probed(data, request.max_train)
    return read


def _planned(request: Request, pretrained: Pretrained, data: TaskData) -> Prepared:
    folder = request.out / data.task.name / "data"
    return planned(data, pretrained, folder, request.max_train)


def _tell(prepared: Prepared) -> None:
    parts = []
    for split, rows in prepared.rows.items():
        facts = []
        if len(rows) < len(prepared.data.rows[split]):
            facts.append(f"of {len(prepared.data.rows[split]):,}")
        if prepared.truncated[split]:
            facts.append(f"{prepared.truncated[split]:,} truncated")
        if prepared.data.left_out[split]:
            facts.append(f"{counted(prepared.data.left_out[split], 'line')} left out")
        if any(prepared.in_train.get(split, [])):
            facts.append(f"{sum(prepared.in_train[split]):,} also in train")
        parts.append(f"{split} {len(rows):,}" + (f" ({', '.join(facts)})" if facts else ""))
    task = prepared.data.task
    kind = f"{len(prepared.data.labels)} classes" if prepared.data.labels else "regression"
    print(f"{task.title}: {kind}; rows: {', '.join(parts)}", flush=True)


def _task_scores(request: Request, prepared: Prepared, grid: list[SettingScores]) -> TaskScores:
    task = prepared.data.task
    rows = {split: len(its_rows) for split, its_rows in prepared.rows.items()}
    for split, flags in prepared.in_train.items():
        if any(flags):
            rows[split + UNSEEN] = len(flags) - sum(flags)
    how: dict[str, Any] = {"max_train": request.max_train}
    how |= asdict(request.how) if request.probe is None else {"pooling": request.probe}
    scores = TaskScores(
        task=task.name,
        title=task.title,
        method=request.method,
        glue=task.glue,
        metrics=list(task.metrics),
        rows=rows,
        train_of=prepared.train_of,
        truncated=prepared.truncated,
        left_out=prepared.data.left_out,
        labels=prepared.data.labels,
        files=prepared.data.hashes,
        how=how,
        command=["fairseq-ki", *sys.argv[1:]],
        grid=grid,
        chosen=choose(grid, task.metric),
    )
    best = ", ".join(f"{name} {value:g}" for name, value in scores.best.settings.items())
    values = summary([scores])[request.method][task.name]
    shown = [
        f"{split.replace(UNSEEN, ' without texts of train')} {TITLES[metric]} "
        f"{tenths(entry['mean'])}"
        for split, metrics in values.items()
        for metric, entry in metrics.items()
    ]
    seeds = len(scores.best.runs)
    best += f", {counted(seeds, 'seed')}"
    print(f"{task.title}: {'; '.join(shown)} ({best})", flush=True)
    return scores
