"""Labelled texts as the folder that fairseq's sentence_prediction task reads.

    input0/{train,valid,...}.{bin,idx}  and dict.txt     the text
    input1/...                                           the second text of a pair
    label/...                                            classes, or numbers between 0 and 1
    prepared.json                                        what it was made of; written last

The task joins them to ``<s> text </s>``, and ``<s> text </s></s> text2 </s>`` for a pair.
Classes are written as their numbers in the order of ``labels``.
"""

import hashlib
import json
import os
import random
import shutil
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from fairseq.data import Dictionary
from fairseq.data.indexed_dataset import MMapIndexedDatasetBuilder, best_fitting_int_dtype

from fairseq_ki.downstream.pretrained import Pretrained
from fairseq_ki.downstream.reading import DEV, TRAIN, Row, TaskData
from fairseq_ki.evaluation.whole_files import read_note

SUBSET_SEED = 1  # one subset for all seeds of fine-tuning: they differ in the training alone
PREPARED = "prepared.json"
_AROUND_ONE, _AROUND_TWO = 2, 4  # special tokens around a text, and around and between two


@dataclass(frozen=True)
class Prepared:
    """A binarised task.

    Attributes:
        rows: by split, those that are in the data, in their order.
        in_train: for each row of a split, whether the whole train file has the same text.
        truncated: how many rows of a split were too long; empty before they are written.
        scale: (lowest, highest) label of train for regression, which 0 and 1 stand for.
        train_of: rows of the train file, of which ``rows["train"]`` may be a part.
        signature: of everything that decides the content.
    """

    data: TaskData
    folder: Path
    rows: dict[str, list[Row]]
    in_train: dict[str, list[bool]]
    truncated: dict[str, int]
    scale: tuple[float, float] | None
    train_of: int
    signature: str

    @property
    def classes(self) -> int:
        """Outputs of the model: classes, or one number."""
        return len(self.data.labels) or 1


def fairseq_split(split: str) -> str:
    """``dev`` is ``valid`` to fairseq."""
    return split.replace(DEV, "valid")


def planned(
    data: TaskData, pretrained: Pretrained, folder: Path, max_train: int | None
) -> Prepared:
    """A task as :func:`prepare` will binarise it into ``folder``; nothing is written.

    Args:
        max_train: train on so many rows, drawn with a fixed seed.
    """
    rows = dict(data.rows)
    if max_train is not None:
        rows[TRAIN] = subset(rows[TRAIN], max_train)
    part = len(rows[TRAIN]) < len(data.rows[TRAIN])
    parts = {
        "files": data.hashes,
        "spm": hashlib.sha256(pretrained.spm.serialized_model_proto()).hexdigest(),
        "dict": hashlib.sha256(pretrained.dict_path.read_bytes()).hexdigest(),
        "positions": pretrained.positions,
        "train_lines": [row.line for row in rows[TRAIN]] if part else "all",
        "regression": data.task.regression,
    }
    signature = hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()
    scale = None
    if data.task.regression:
        numbers = [float(row.label) for row in data.rows[TRAIN]]
        scale = (min(numbers), max(numbers))
    in_train = {split: data.in_train(split) for split in rows if split != TRAIN}
    return Prepared(data, folder, rows, in_train, {}, scale, len(data.rows[TRAIN]), signature)


def prepare(prepared: Prepared, pretrained: Pretrained) -> Prepared:
    """Binarise what is planned, unless that is done already."""
    data, folder, rows = prepared.data, prepared.folder, prepared.rows
    record = read_note(folder / PREPARED, {"signature": str, "truncated": dict})
    if record is None or record["signature"] != prepared.signature:
        record = {
            "signature": prepared.signature,
            "task": data.task.name,
            "labels": data.labels,
            "scale": prepared.scale,
            "files": {s: {"name": f.name, "sha256": data.hashes[s]} for s, f in data.files.items()},
            "rows": {split: len(its_rows) for split, its_rows in rows.items()},
            "train_rows_of": prepared.train_of,
            "subset_seed": SUBSET_SEED if len(rows[TRAIN]) < prepared.train_of else None,
            "left_out": data.left_out,
            "positions": pretrained.positions,
        }
        record["truncated"] = _write(folder, rows, data.labels, prepared.scale, pretrained, record)
    return replace(prepared, truncated=record["truncated"])


def subset(rows: list[Row], size: int) -> list[Row]:
    """``size`` of the rows drawn uniformly, or all if they are fewer, in their order."""
    if size >= len(rows):
        return rows
    chosen = random.Random(SUBSET_SEED).sample(range(len(rows)), size)
    return [rows[i] for i in sorted(chosen)]


def fitted(first: int, second: int | None, positions: int) -> tuple[int, int | None]:
    """How many tokens of a text, or of two, fit beside the special tokens.

    The longer of two is cut first, down to the other one's length.
    """
    if second is None:
        return min(first, positions - _AROUND_ONE), None
    room = positions - _AROUND_TWO
    if first + second <= room:
        return first, second
    half = room // 2
    if second <= room - half:
        return room - second, second
    if first <= half:
        return first, room - first
    return half, room - half


def _write(
    folder: Path,
    rows: dict[str, list[Row]],
    labels: list[str],
    scale: tuple[float, float] | None,
    pretrained: Pretrained,
    record: dict,
) -> dict[str, int]:
    """The whole folder, in place at once; returns how many rows were cut, by split."""
    staging = folder.with_name(folder.name + ".tmp")
    shutil.rmtree(staging, ignore_errors=True)
    encode = _Encoder(pretrained)
    truncated = {}
    for split, its_rows in rows.items():
        name = fairseq_split(split)
        pairs = [encode(row) for row in its_rows]
        truncated[split] = sum(cut for _, _, cut in pairs)
        _write_input(staging / "input0", name, [first for first, _, _ in pairs], pretrained)
        if its_rows[0].text2 is not None:
            seconds = [second for _, second, _ in pairs if second is not None]
            _write_input(staging / "input1", name, seconds, pretrained)
        _write_labels(staging / "label", name, its_rows, labels, scale)
    text = json.dumps({**record, "truncated": truncated}, indent=1)
    (staging / PREPARED).write_text(text + "\n", encoding="utf-8")
    if folder.exists():
        shutil.rmtree(folder)
    os.replace(staging, folder)
    return truncated


class _Encoder:
    """Texts to fairseq's ids, with ``</s>`` behind each."""

    def __init__(self, pretrained: Pretrained) -> None:
        self.spm, self.positions = pretrained.spm, pretrained.positions
        dictionary = pretrained.dictionary
        pieces = (self.spm.id_to_piece(i) for i in range(self.spm.get_piece_size()))
        self.ids = np.array([dictionary.index(piece) for piece in pieces])
        self.end = dictionary.eos()

    def __call__(self, row: Row) -> tuple[np.ndarray, np.ndarray | None, bool]:
        """Ids of the text, of the second one, and whether anything was cut."""
        first = self._encode(row.text)
        second = None if row.text2 is None else self._encode(row.text2)
        lengths = (len(first), None if second is None else len(second))
        fit, fit2 = fitted(*lengths, self.positions)
        ends = np.append(first[:fit], self.end)
        ends2 = None if second is None else np.append(second[:fit2], self.end)
        return ends, ends2, (fit, fit2) != lengths

    def _encode(self, text: str) -> np.ndarray:
        return self.ids[self.spm.encode(" ".join(text.split()), out_type=int)]


def _write_input(folder: Path, name: str, texts: list[np.ndarray], pretrained: Pretrained) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(pretrained.dict_path, folder / "dict.txt")
    _write_indexed(folder / name, texts, len(pretrained.dictionary))


def _write_labels(
    folder: Path,
    name: str,
    rows: list[Row],
    labels: list[str],
    scale: tuple[float, float] | None,
) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    if scale is not None:
        low, high = scale
        lines = [f"{(float(row.label) - low) / (high - low)!r}\n" for row in rows]
        (folder / f"{name}.label").write_text("".join(lines), encoding="utf-8")
        return
    dictionary = Dictionary()
    for number in range(len(labels)):
        dictionary.add_symbol(str(number))
    with open(folder / "dict.txt", "w", encoding="utf-8") as file:
        dictionary.save(file)
    numbers = {label: dictionary.index(str(number)) for number, label in enumerate(labels)}
    targets = [np.array([numbers[str(row.label)], dictionary.eos()]) for row in rows]
    _write_indexed(folder / name, targets, len(dictionary))


def _write_indexed(prefix: Path, items: list[np.ndarray], symbols: int) -> None:
    builder = MMapIndexedDatasetBuilder(f"{prefix}.bin", dtype=best_fitting_int_dtype(symbols))
    for item in items:
        builder.add_item(torch.from_numpy(item))
    builder.finalize(f"{prefix}.idx")
