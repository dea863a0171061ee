"""``lineage.json`` on the disk, and what a checkpoint tells of itself."""

import hashlib
import json
import math
import os
import platform
from argparse import Namespace
from collections.abc import Mapping
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import fairseq
import torch

from fairseq_ki import __version__
from fairseq_ki.compat import load_structure, write_whole
from fairseq_ki.evaluation.flops import Sizes, batch_of, sizes_of, training_flops
from fairseq_ki.lineage.records import Lineage, LineageError, Model, printable
from fairseq_ki.models._teacher_files import HUGGING_FACE
from fairseq_ki.store import Manifest, file_sha256
from fairseq_ki.store.strict_json import read_json

LINEAGE = "lineage.json"
STATE = "lineage"  # under it a checkpoint has its id and counts, in the state of its task
TREE = "tree"  # under it, there, its lineage as lineage.json has it
_LARGEST_FILE = 8 << 20
_MOST_TOKENS = 1e30
_HUGGING_FACE_FILES = (".json", ".model", ".safetensors", ".txt")


def read_lineage(path: str) -> Lineage:
    """Read and check a file that anybody may have written.

    Raises:
        LineageError, or a store's DamageError: ValueErrors that name the file and what is wrong.
        OSError: if it cannot be read.
    """
    size = os.path.getsize(path)
    if size > _LARGEST_FILE:
        raise LineageError(f"{path}: expected at most {_LARGEST_FILE:,} bytes, found {size:,}")
    content = read_json(Path(path))
    try:
        return Lineage.from_dict(content)
    except LineageError as error:
        raise LineageError(f"{path}: {error}") from None


def write_lineage(lineage: Lineage, folder: str) -> None:
    """Write ``folder``/lineage.json, whole or not at all."""
    content = json.dumps(lineage.to_dict(), indent=1, allow_nan=False) + "\n"
    write_whole(os.path.join(folder, LINEAGE), lambda file: file.write(content.encode()))


def of_checkpoint(path: str) -> tuple[Lineage, int | None]:
    """The lineage of a checkpoint, or a directory after ``hf:``, and the updates it has seen.

    As it holds it, or, of plain fairseq's, what can be told from it.

    Raises:
        ValueError, OSError: for a checkpoint or a lineage.json that cannot be read.
    """
    if path.startswith(HUGGING_FACE):
        model = f"sha256-{teacher_sha256(path)}"
        return Lineage(model, {model: Model("checkpoint", printable(path))}), None
    state = load_structure(path)
    recorded = recorded_state(state)
    updates = _updates(state)
    if recorded is not None:
        found = recorded_lineage(recorded, path)
        if found is not None:
            return found, updates
    model = recorded["id"] if recorded else f"sha256-{file_sha256(path)}"
    return Lineage(model, {model: _from_checkpoint(path, state, recorded, updates)}), updates


def recorded_state(state: Mapping[str, Any]) -> dict[str, Any] | None:
    """What the recorder left in a checkpoint, checked; None where there is nothing."""
    extra = state.get("extra_state")
    for part in extra.values() if isinstance(extra, dict) else ():
        found = part.get(STATE) if isinstance(part, dict) else None
        if isinstance(found, dict):
            identity, updates, tokens = (found.get(k) for k in ("id", "updates", "tokens"))
            if (
                isinstance(identity, str)
                and identity.isalnum()
                and len(identity) <= 64
                and isinstance(updates, int)
                and isinstance(tokens, (int, float))
                and 0 <= tokens < _MOST_TOKENS
            ):
                return found
    return None


def recorded_lineage(recorded: Mapping[str, Any], checkpoint: str) -> Lineage | None:
    """The lineage of what the recorder left in a checkpoint; None if it is not known.

    Checkpoints used to have none, so that the file beside them was needed; it counts if it is of
    the same run, and not of before.

    Raises:
        ValueError, OSError: for a lineage that is none, or a file that cannot be read.
    """
    beside = os.path.join(os.path.dirname(os.path.abspath(checkpoint)), LINEAGE)
    if TREE in recorded:
        try:
            held = Lineage.from_dict(recorded[TREE])
            if held.model != recorded["id"]:
                raise LineageError(f"expected that of {recorded['id']}, found that of {held.model}")
        except LineageError as error:
            raise LineageError(f"{checkpoint}: its lineage: {error}") from None
        return held
    if not os.path.isfile(beside):
        return None
    found = read_lineage(beside)
    is_its_own = found.model == recorded["id"] and (found.own.updates or 0) >= recorded["updates"]
    return found if is_its_own else None


def versions() -> dict[str, str]:
    """Of what decides what is computed."""
    return {
        "python": platform.python_version(),
        "torch": str(torch.__version__),
        "fairseq": str(fairseq.__version__),
        "fairseq_ki": __version__,
    }


def teacher_sha256(path: str) -> str:
    """Of a checkpoint; of the one whose logits a store holds; or, after ``hf:``, of a directory's
    weights, configuration and tokenizer.

    Raises:
        ValueError, OSError: for what cannot be read.
    """
    if not path.startswith(HUGGING_FACE):
        if os.path.isdir(path):
            return Manifest.load(Path(path)).plan.teacher_sha256
        return file_sha256(path)
    directory = Path(path.removeprefix(HUGGING_FACE))
    files = sorted(path for path in directory.iterdir() if path.suffix in _HUGGING_FACE_FILES)
    lines = "".join(f"{file_sha256(path)}  {path.name}\n" for path in files)
    return hashlib.sha256(lines.encode()).hexdigest()


def now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def folder_name(path: str) -> str:
    """By which a person knows a run: runs/large/checkpoint_best.pt is ``large``."""
    name = os.path.basename(os.path.dirname(os.path.abspath(path)))
    return printable(name) or "/"


def _updates(state: Mapping[str, Any]) -> int | None:
    try:
        return int(state["optimizer_history"][-1]["num_updates"])
    except (KeyError, IndexError, TypeError, ValueError, OverflowError):
        return None


def _tokens_of_meters(state: Mapping[str, Any], updates: int | None) -> float | None:
    """Tokens of a run of plain fairseq, if its last epoch's updates were as large as all others."""
    try:
        meters = {key: meter for _, key, _, meter in state["extra_state"]["metrics"]["train"]}
        tokens = float(updates * meters["wpb"]["sum"] / meters["wpb"]["count"])
        return tokens if 0 <= tokens < _MOST_TOKENS else None
    except (KeyError, TypeError, ValueError, ZeroDivisionError, OverflowError):
        return None


def _from_checkpoint(
    path: str, state: Mapping[str, Any], recorded: dict[str, Any] | None, updates: int | None
) -> Model:
    try:
        sizes = sizes_of(state["model"])
    except (ValueError, KeyError, TypeError, AttributeError):
        sizes = None
    tokens = recorded["tokens"] if recorded else _tokens_of_meters(state, updates)
    model = _options(state, "model")
    arch = model.get("_name") or model.get("arch")
    return Model(
        how="checkpoint",
        name=folder_name(path),
        arch=arch if isinstance(arch, str) and arch.isprintable() else None,
        sizes=asdict(sizes) if sizes else {},
        updates=updates,
        tokens=tokens,
        flops=_flops(sizes, _options(state, "task"), tokens),
    )


def _flops(sizes: Sizes | None, task: Mapping[str, Any], tokens: float | None) -> float | None:
    """None as well where a checkpoint's options are no numbers: its weights may be whole."""
    if tokens is None or sizes is None:
        return None
    try:
        flops = training_flops(sizes, batch_of(dict(task), tokens))
        return flops if 0 <= flops < math.inf else None
    except (KeyError, TypeError, ValueError, OverflowError):
        return None


def _options(state: Mapping[str, Any], part: str) -> dict[str, Any]:
    """fairseq's options of model or task, in a new checkpoint or one of fairseq 0.9."""
    cfg = state.get("cfg")
    found = cfg.get(part) if isinstance(cfg, dict) else state.get("args")
    if isinstance(found, Namespace):
        return vars(found)
    return found if isinstance(found, dict) else {}
