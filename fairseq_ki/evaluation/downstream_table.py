"""Tables of downstream results: a row for each task, split and metric, a column for each model."""

import math
from statistics import fmean

from fairseq_ki.evaluation.downstream import (
    METHODS,
    UNSEEN,
    Downstream,
    TaskScores,
    counted,
    mean_and_std,
    tenths,
)
from fairseq_ki.evaluation.metrics import TITLES
from fairseq_ki.evaluation.tables import UNKNOWN, Table

_GLUE_TASKS = 8  # of the paper: all of GLUE but WNLI
_SPLITS = {"dev": "dev", "dev_mismatched": "dev, mismatched", "test": "test"}

# one row of a table: task, split, metric
_Row = tuple[str, str, str]


# the paper's numbers: name of a model -> task -> deciding metric on dev, times 100
Paper = dict[str, dict[str, float]]


def downstream_tables(
    found: list[Downstream], paper: Paper | None = None, asked: str | None = None
) -> list[Table]:
    """One for each method that was used; tasks that were not run are named in their place.

    Args:
        found: the models, one column for each label.
        paper: more columns, of models that the paper has.
        asked: a method that has a table although no task was run by it.
    """
    if not found:
        return []
    used = {task.method for each in found for task in each.tasks} | {asked}
    methods = [method for method in METHODS if method in used]
    return [_table(found, method, paper or {}) for method in methods or (None,)]


def downstream_facts(found: list[Downstream]) -> list[tuple[str, str]]:
    """What was fine-tuned on what: name and value."""
    facts = []
    for each in found:
        checkpoint = each.checkpoint
        name = f"{checkpoint['path']}, SHA-256 {checkpoint['sha256']}"
        facts.append((f"checkpoint of {each.label}", name))
    for each in found:
        for task in each.tasks:
            facts += [(f"{task.title}, {s}", f"SHA-256 {sha}") for s, sha in task.files.items()]
    for each in found:
        for task in each.tasks:
            best = ", ".join(f"{k.replace('_', ' ')} {v:g}" for k, v in task.best.settings.items())
            name = f"{each.label}, {task.title}, {METHODS.get(task.method, task.method)}"
            facts.append((name, f"{best} (best of {len(task.grid)})"))
    return list(dict.fromkeys(facts))


def _table(found: list[Downstream], method: str | None, paper: Paper) -> Table:
    """Of one method; of none where nothing was run, and so no file says by which."""
    labels = list(dict.fromkeys(each.label for each in found))
    pooled = {label: _of(found, label, method) for label in labels}
    columns = ["task", *labels, *(f"the paper: {name}" for name in paper)]
    title = "Downstream" if method is None else f"Downstream, {METHODS[method]}"
    table = Table(title, columns, note=_note(pooled))
    titles = _titles(found)
    for task, title in titles.items():
        rows = _rows([t for tasks in pooled.values() for t in tasks if t.task == task])
        for number, row in enumerate(rows or [(task, "", "")]):
            cells = [_cell(pooled[label], row) or _reason(found, label, task) for label in labels]
            known = [model.get(task) if number == 0 else None for model in paper.values()]
            cells += [UNKNOWN if value is None else f"{value:.1f}" for value in known]
            table.rows.append([_name(title, row), *cells])
    if any(task.glue for tasks in pooled.values() for task in tasks):
        cells = [_average(pooled[label]) for label in labels]
        whole = [len(model) == _GLUE_TASKS for model in paper.values()]
        means = [fmean(model.values()) for model in paper.values()]
        cells += [f"{m:.1f}" if all_of_it else UNKNOWN for m, all_of_it in zip(means, whole)]
        table.rows.append(["average of GLUE, dev", *cells])
        if any(whole):
            table.note += " The paper's averages are those of the tasks as it prints them."
    return table


def _of(found: list[Downstream], label: str, method: str | None) -> list[TaskScores]:
    """Several files of one label are its seeds; a file that is named twice is none more.

    Raises:
        ValueError: for results of one checkpoint that are no further seeds.
    """
    kept: dict[tuple[str, str], list[TaskScores]] = {}
    for each in found:
        for task in each.tasks if each.label == label else ():
            if task.method != method:
                continue
            of_checkpoint = kept.setdefault((each.checkpoint["sha256"], task.task), [])
            if _measured(task) not in map(_measured, of_checkpoint):
                for other in of_checkpoint:
                    _check_further_seeds(label, other, task)
                of_checkpoint.append(task)
    return [task for of_checkpoint in kept.values() for task in of_checkpoint]


def _measured(task: TaskScores) -> tuple:
    """What two calls of the same have in common, wherever they were made."""
    grid = [(s.settings, [(run.seed, run.scores) for run in s.runs]) for s in task.grid]
    return task.how, task.files, task.rows, grid


def _check_further_seeds(label: str, first: TaskScores, other: TaskScores) -> None:
    seeds = [{run.seed for run in task.best.runs} for task in (first, other)]
    keys = first.how | other.how
    differing = [key for key in sorted(keys) if first.how.get(key) != other.how.get(key)]
    if differing:
        options = (
            ", ".join(f"{k} {task.how.get(k)}" for k in differing) for task in (first, other)
        )
        found = "; and ".join(options)
    elif first.files != other.files:
        found = "of other data"
    elif both := seeds[0] & seeds[1]:
        found = f"seeds {', '.join(map(str, sorted(both)))} again"
    else:
        return
    raise ValueError(
        f"{label}: expected further seeds in a second result of the same checkpoint for "
        f"{first.title}, found another one ({found}). Give one of the two another "
        "name with `fairseq-ki finetune --label`, or leave it out"
    )


def _titles(found: list[Downstream]) -> dict[str, str]:
    """Every task that was run or asked for, in the order of the files."""
    titles: dict[str, str] = {}
    for each in found:
        titles |= {task.task: task.title for task in each.tasks}
        titles |= {entry.task: entry.title for entry in each.not_run}
    return titles


def _rows(tasks: list[TaskScores]) -> list[_Row]:
    """The deciding metric of every split, then the others; rows not in train below all rows."""
    rows: list[_Row] = []
    for task in tasks:
        splits = task.best.runs[0].scores
        plain = [split for split in splits if not split.endswith(UNSEEN)]
        for split in plain:
            for name in (split, split + UNSEEN):
                if name in splits:
                    rows += [(task.task, name, metric) for metric in task.metrics]
    return list(dict.fromkeys(rows))


def _name(title: str, row: _Row) -> str:
    _, split, metric = row
    if not split:
        return title
    plain = split.removesuffix(UNSEEN)
    where = _SPLITS.get(plain, plain) + (" without texts of train" if split != plain else "")
    return f"{title}, {where}, {TITLES.get(metric, metric)}"


def _cell(tasks: list[TaskScores], row: _Row) -> str:
    """Mean and deviation; empty for a task that was not run."""
    task, split, metric = row
    of_task = [t for t in tasks if t.task == task]
    if not of_task:
        return ""
    values = [v for t in of_task for v in t.best.values(split, metric)]
    if not values:
        return UNKNOWN
    mean, std = mean_and_std(values)
    return tenths(100 * mean) + ("" if math.isnan(std) else f" ± {tenths(100 * std)}")


def _reason(found: list[Downstream], label: str, task: str) -> str:
    for each in found:
        for entry in each.not_run:
            if each.label == label and entry.task == task:
                return f"not run: {entry.reason}"
    return "not run"


def _average(tasks: list[TaskScores]) -> str:
    """Over the GLUE tasks that were run, with their number where some are missing."""
    by_task: dict[str, list[float]] = {}
    for task in tasks:
        if task.glue:
            by_task.setdefault(task.task, []).extend(task.best.values("dev", task.metrics[0]))
    if not by_task:
        return UNKNOWN
    mean = fmean(fmean(values) for values in by_task.values())
    count = len(by_task)
    missing = "" if count == _GLUE_TASKS else f" ({count} of {_GLUE_TASKS} tasks)"
    return f"{tenths(100 * mean)}{missing}"


def _note(pooled: dict[str, list[TaskScores]]) -> str:
    tasks = [task for its_tasks in pooled.values() for task in its_tasks]
    notes = ["Times 100; mean ± standard deviation over seeds"]
    counts = {len(values) for values in _seed_counts(pooled)}
    if counts:
        notes[0] += f" ({' to '.join(map(str, sorted({min(counts), max(counts)})))})"
    notes[0] += ", of the setting that is best on dev."
    for title, line in _by_title(tasks).items():
        notes.append(f"{title}: {line}.")
    return " ".join(notes)


def _seed_counts(pooled: dict[str, list[TaskScores]]) -> list[list[float]]:
    found = []
    for tasks in pooled.values():
        for name in dict.fromkeys(task.task for task in tasks):
            of_task = [task for task in tasks if task.task == name]
            found.append([v for t in of_task for v in t.best.values("dev", t.metrics[0])])
    return found


def _by_title(tasks: list[TaskScores]) -> dict[str, str]:
    """What a reader must know of a task's data: a subset, rows of train in other splits, cuts."""
    lines: dict[str, dict[str, None]] = {}  # of models that differ, each line once
    for task in tasks:
        parts = []
        if task.rows["train"] < task.train_of:
            of = counted(task.train_of, "row")
            parts.append(f"trained on {task.rows['train']:,} of {of}")
        for split, rows in task.rows.items():
            unseen = task.rows.get(split + UNSEEN)
            if unseen is not None:
                parts.append(f"{rows - unseen:,} of {rows:,} {split} texts are in train")
        if any(task.truncated.values()):
            cut = sum(task.truncated.values())
            were = "was" if cut == 1 else "were"
            parts.append(f"{counted(cut, 'text')} {were} cut to the model's length")
        if parts:
            lines.setdefault(task.title, {})[", ".join(parts)] = None
    return {title: "; or ".join(of_models) for title, of_models in lines.items()}
