"""Labelled texts from files: JSON lines, or the TSV files of GLUE's distribution.

A folder of tasks has one folder for each. JSON lines have the fields ``text``, ``label`` and,
for pairs, ``text2``, in ``train.jsonl``, ``dev.jsonl`` and, if there is one, ``test.jsonl``.
"""

import codecs
import hashlib
import json
import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NoReturn

from fairseq_ki.downstream.tasks import TASKS, Task, canonical
from fairseq_ki.evaluation.metrics import REGRESSION

TRAIN, DEV = "train", "dev"
SPLITS = (TRAIN, DEV, "dev_mismatched", "test")
_MATCHED = "dev_matched"  # MNLI's dev set is called so, too
_JSONL, _TSV = "train.jsonl", "train.tsv"
_OTHERS_OF_GLUE = ("wnli",)  # is distributed with it, and not among the paper's tasks
_LARGEST_LABEL = 1e6  # of regression; sums of squares of far larger ones are no numbers
_MOST_DIGITS = 18


@dataclass(frozen=True)
class Row:
    """One labelled text or pair; ``line`` is where it stands in its file, from 1."""

    line: int
    text: str
    text2: str | None
    label: str | float

    @property
    def key(self) -> tuple[str, ...]:
        """The text as far as it is told apart: white space aside."""
        return tuple(" ".join(text.split()) for text in (self.text, self.text2 or ""))


@dataclass(frozen=True)
class TaskData:
    """A task's rows by split; ``task.regression`` is settled, ``labels`` those of train, in order.

    ``left_out`` counts lines that lacked columns, by split.
    """

    task: Task
    files: dict[str, Path]
    hashes: dict[str, str]
    rows: dict[str, list[Row]]
    labels: list[str]
    left_out: dict[str, int]

    def in_train(self, split: str) -> list[bool]:
        """For each row of a split, whether train has the same text (whatever its label)."""
        known = {row.key for row in self.rows[TRAIN]}
        return [row.key in known for row in self.rows[split]]


def find_tasks(data: Path) -> dict[str, Path]:
    """Folders that hold a training file, by the tasks' names, sorted.

    Raises:
        ValueError: if ``data`` is no folder, or two of its folders are the same task.
    """
    if not data.is_dir():
        raise ValueError(f"--data {data}: expected a folder with one folder a task, found none")
    found: dict[str, Path] = {}
    for folder in sorted(p for p in data.iterdir() if p.is_dir()):
        name = canonical(folder.name)
        if _train_file(name, folder) is None:
            continue
        if name in found:
            raise ValueError(
                f"--data {data}: expected one folder for {name}, found {found[name].name} and "
                f"{folder.name}; move one away"
            )
        found[name] = folder
    if not found and any((data / name).is_file() for name in (_JSONL, _TSV)):
        raise ValueError(
            f"--data {data}: expected a folder with one folder a task, found the files of one "
            f"task; give the folder above it, and --tasks {data.name}"
        )
    return found


def unread(data: Path, read: Iterable[str]) -> dict[str, str]:
    """Tasks beside those that are read whose folders have files of splits, and why they are not."""
    found = {}
    for folder in sorted(p for p in data.iterdir() if p.is_dir()):
        name = canonical(folder.name)
        if name in read or folder.name.lower() in _OTHERS_OF_GLUE:
            continue
        if (folder / _TSV).is_file():
            found[name] = "TSV is read for GLUE's tasks only; use JSON lines"
        elif any(_jsonl_splits(folder)) or (folder / "dev.tsv").is_file():
            found[name] = f"its folder has no {_JSONL}"
    return found


def _jsonl_splits(folder: Path) -> list[str]:
    names = (f"{split}.jsonl" for split in (*SPLITS, _MATCHED))
    return [name for name in names if (folder / name).is_file()]


def _train_file(name: str, folder: Path) -> Path | None:
    names = [_JSONL]
    if name in TASKS and TASKS[name].columns:
        names.append(TASKS[name].tsv[TRAIN])
    return next((folder / n for n in names if (folder / n).is_file()), None)


def read_task(task: Task, folder: Path) -> TaskData:
    """All splits of a task, checked.

    Raises:
        ValueError: naming the file and the line, what was expected and what was found.
    """
    files = _files(task, folder)
    rows: dict[str, list[Row]] = {}
    left_out: dict[str, int] = {}
    for split, file in files.items():
        if file.suffix == ".tsv":
            rows[split], left_out[split] = _read_tsv(file, task)
        else:
            rows[split], left_out[split] = list(_read_jsonl(file, task)), 0
        if not rows[split]:
            raise ValueError(f"{file}: expected labelled rows, found none; is the file whole?")
        _check_pairs(rows[split], file, rows[TRAIN][0].text2 is not None)
    task = _settled(task, rows[TRAIN])
    if task.regression:
        rows = {split: _numbers(rows[split], files[split]) for split in rows}
        for split in (TRAIN, DEV):  # with one label nothing correlates
            if len({row.label for row in rows[split]}) < 2:
                found = "the same in every row"
                _refuse(files[split], None, "different numbers as labels", found)
        labels = []
    else:
        rows = {split: _classes(rows[split], files[split]) for split in rows}
        labels = _ordered({str(row.label) for row in rows[TRAIN]})
        _check_labels(task, labels, rows, files)
    hashes = {split: hashlib.sha256(file.read_bytes()).hexdigest() for split, file in files.items()}
    return TaskData(task, files, hashes, rows, labels, left_out)


def _files(task: Task, folder: Path) -> dict[str, Path]:
    names = {split: f"{split}.jsonl" for split in SPLITS}
    if not (folder / names[TRAIN]).is_file():
        names = task.tsv
        if others := _jsonl_splits(folder):
            raise ValueError(
                f"{folder}: expected all splits in one form, found {', '.join(others)} beside "
                f"{names[TRAIN]}; write train.jsonl too, or move the others away"
            )
    elif not (folder / names[DEV]).is_file() and (folder / f"{_MATCHED}.jsonl").is_file():
        names[DEV] = f"{_MATCHED}.jsonl"
    files = {s: folder / name for s, name in names.items() if (folder / name).is_file()}
    if DEV not in files:
        raise ValueError(
            f"{folder}: expected {names[DEV]} beside {names[TRAIN]}, found none; settings are "
            "chosen on the dev set"
        )
    return files


def _read_jsonl(file: Path, task: Task) -> Iterator[Row]:
    firsts: dict[type, int] = {}  # lines with the first label that is text, or has a point
    for number, line in _lines(file):
        if not line.strip():
            continue
        try:
            value = json.loads(line)
        except (ValueError, RecursionError) as e:
            _refuse(file, number, "a JSON object", f"{line.strip()[:60]!r} ({e})")
        if not isinstance(value, dict):
            _refuse(file, number, "a JSON object", repr(value)[:60])
        for name in ("text", "text2"):
            if not isinstance(value.get(name), str) and not (name == "text2" and name not in value):
                _refuse(file, number, f"a string as {name!r}", repr(value.get(name))[:60])
        label = value.get("label")
        if isinstance(label, bool) or not isinstance(label, (str, int, float)):
            _refuse(file, number, "a string or number as 'label'", repr(label)[:60])
        firsts.setdefault(type(label), number)
        if task.regression is None and {str, float} <= set(firsts):
            other = firsts[float if isinstance(label, str) else str]
            expected = "labels of one kind, strings for classes or numbers for regression"
            _refuse(file, number, expected, f"{shown(label)}, unlike line {other}")
        try:  # JSON can name halves of characters
            "".join(v for v in value.values() if isinstance(v, str)).encode()
        except UnicodeEncodeError as e:
            _refuse(file, number, "text", f"half a surrogate pair ({e.object[e.start]!a})")
        yield Row(
            number,
            value["text"],
            value.get("text2"),
            float(label) if isinstance(label, float) else str(label),
        )


def _read_tsv(file: Path, task: Task) -> tuple[list[Row], int]:
    """Rows, and how many lines were left out for want of columns."""
    columns = task.columns
    assert columns is not None  # find_tasks has seen to it
    lines = _lines(file)
    wanted = [columns.text, columns.label] + ([columns.text2] if columns.text2 else [])
    places = [w for w in wanted if isinstance(w, int)]
    headless = bool(places)  # CoLA
    if not headless:
        _, first = next(lines, (1, ""))
        header = first.rstrip("\r\n").split("\t")
        if not set(wanted) <= set(header):
            _refuse(file, 1, f"a header with the columns {wanted}", repr(header)[:120])
        places = [header.index(str(w)) for w in wanted]
    rows, left_out = [], 0
    for number, line in lines:
        if not line.strip():
            continue
        cells = line.rstrip("\r\n").split("\t")
        if len(cells) <= max(places):
            if not task.skip_short_lines:
                found = f"{len(cells)}: {line.strip()[:60]!r}"
                _refuse(file, number, f"at least {max(places) + 1} columns", found)
            left_out += 1
            continue
        if headless and len(cells) > max(places) + 1:
            _refuse(file, number, f"{max(places) + 1} columns", f"{len(cells)}: a tab in the text?")
        text, label, *text2 = (cells[place] for place in places)
        if headless and not label.isdecimal():
            expected = f"no header, and a whole number as label in column {places[1] + 1}"
            _refuse(file, number, expected, shown(label))
        if task.classes and label not in task.classes:
            expected = f"{' or '.join(task.classes)} as label"
            _refuse(file, number, expected, f"{shown(label)}; is there a tab in a text?")
        rows.append(Row(number, text, text2[0] if text2 else None, label))
    return rows, left_out


def _lines(file: Path) -> Iterator[tuple[int, str]]:
    # line feeds alone end a line: texts may hold what else counts as a line break
    with open(file, "rb") as lines:
        for number, line in enumerate(lines, 1):
            if number == 1:  # Windows programs mark UTF-8 by it
                line = line.removeprefix(codecs.BOM_UTF8)
            try:
                yield number, line.decode()
            except UnicodeDecodeError as e:
                _refuse(file, number, "UTF-8", f"{e.reason} at byte {e.start} of the line")


def _check_pairs(rows: list[Row], file: Path, pairs: bool) -> None:
    for row in rows:
        if (row.text2 is not None) != pairs:
            found = "one without it" if pairs else "one with it"
            expected = f"rows {'with' if pairs else 'without'} 'text2', as the first of train has"
            _refuse(file, row.line, expected + ("" if pairs else " none"), found)


def _settled(task: Task, train: list[Row]) -> Task:
    """Whether it is regression, and metrics that fit."""
    regression = task.regression
    if regression is None:
        regression = any(isinstance(row.label, float) for row in train)
        if not task.metrics:
            task = replace(task, metrics=REGRESSION if regression else ("accuracy",))
    unfit = [m for m in task.metrics if (m in REGRESSION) != regression]
    if unfit:
        kind = "numbers as labels" if regression else "classes as labels"
        raise ValueError(f"{task.name}: expected a metric for {kind}, found {unfit[0]}")
    return replace(task, regression=regression)


def _numbers(rows: list[Row], file: Path) -> list[Row]:
    numbers = []
    for row in rows:
        try:
            number = float(row.label)
        except ValueError:
            number = math.nan
        if not abs(number) <= _LARGEST_LABEL:  # nor nan
            expected = f"a number from -{_LARGEST_LABEL:g} to {_LARGEST_LABEL:g} as label"
            _refuse(file, row.line, expected, shown(row.label))
        numbers.append(replace(row, label=number))
    return numbers


def _classes(rows: list[Row], file: Path) -> list[Row]:
    for row in rows:
        if isinstance(row.label, float):
            _refuse(file, row.line, "a class as label, a string or a whole number", str(row.label))
    return rows


def _ordered(labels: set[str]) -> list[str]:
    """By number where all are numbers, else by spelling."""
    numbers = all(
        label.removeprefix("-").isdecimal() and len(label) <= _MOST_DIGITS for label in labels
    )
    return sorted(labels, key=lambda label: (int(label) if numbers else 0, label))


def _check_labels(
    task: Task, labels: list[str], rows: dict[str, list[Row]], files: dict[str, Path]
) -> None:
    if len(labels) < 2:
        _refuse(files[TRAIN], None, "at least two classes", f"one: {', '.join(map(shown, labels))}")
    if "f1" in task.metrics and labels != ["0", "1"]:
        _refuse(files[TRAIN], None, "the classes 0 and 1, of which F1 counts 1", str(labels[:8]))
    for split, its_rows in rows.items():
        for row in its_rows:
            if row.label not in labels:
                first = ", ".join(label[:60] for label in labels[:12])
                expected = f"a label that {files[TRAIN].name} has ({first}"
                more = ", ...)" if len(labels) > 12 else ")"
                _refuse(files[split], row.line, expected + more, shown(row.label))


def shown(label: str | float) -> str:
    """A label as messages have it."""
    text = repr(label)
    return text if len(text) <= 60 else f"{text[:60]}..."


def _refuse(file: Path, line: int | None, expected: str, found: str) -> NoReturn:
    where = f"{file}, line {line}" if line is not None else str(file)
    raise ValueError(f"{where}: expected {expected}, found {found}")
