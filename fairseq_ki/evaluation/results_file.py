"""results.json and downstream.json: written whole, and read with every field checked.

Numbers that are not finite are ``null`` in the file and nan in memory.
"""

import contextlib
import dataclasses
import json
import math
import types
import typing
from itertools import chain
from pathlib import Path
from typing import Any

from fairseq_ki.evaluation import downstream, results
from fairseq_ki.evaluation.downstream import Downstream
from fairseq_ki.evaluation.results import Results
from fairseq_ki.evaluation.whole_files import write_bytes

_LARGEST = 10**15  # no count is larger, and sums of larger ones are no numbers
_FORMATS: dict[str, type] = {results.FORMAT: Results, downstream.FORMAT: Downstream}


def save(found: Results | Downstream, path: Path) -> None:
    """Write results.json, or downstream.json, at once or not at all."""
    text = json.dumps(_finite(dataclasses.asdict(found)), indent=1, allow_nan=False)
    write_bytes(path, (text + "\n").encode())


def load(path: Path) -> Results | Downstream:
    """Read and check whichever of the two a file is, whatever its name.

    Raises:
        ValueError: naming the file and the field, what was expected and what was found.
    """
    return _load(path, _FORMATS)


def load_downstream(path: Path) -> Downstream:
    """Read and check downstream.json; raises as :func:`load`."""
    return _load(path, {downstream.FORMAT: Downstream})


def is_one(path: Path) -> bool:
    """Whether a file is meant to be one of the two, damaged or not.

    By its mark, or because it begins, or does not even begin, as :func:`save` writes; a log of
    fairseq has its first record on its first line.
    """
    with open(path, "rb") as lines:
        first = lines.readline()
        if path.suffix == ".json" and first.strip() in (b"", b"{"):
            return True
        return any(name.encode() in line for line in chain([first], lines) for name in _FORMATS)


def _load(path: Path, formats: dict[str, type]) -> Any:
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as e:  # not UTF-8, not JSON, or nested without end
        raise ValueError(
            f"{path}: expected the JSON of fairseq-ki experiment or finetune, found {e}; a file "
            "that was cut off has to be copied or written again"
        ) from None
    found = data.get("format") if isinstance(data, dict) else type(data).__name__
    if not isinstance(found, str) or found not in formats:
        expected = " or ".join(map(repr, formats))
        raise ValueError(f"{path}: expected format {expected}, found {found!r}")
    return _build(formats[found], data, str(path))


def _finite(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {str(k): _finite(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(v) for v in value]
    return value


def _without_default(kind: type) -> set[str]:
    """Fields that every file has; those with a default came later."""
    return {
        f.name
        for f in dataclasses.fields(kind)
        if f.default is dataclasses.MISSING and f.default_factory is dataclasses.MISSING
    }


def _build(kind: Any, value: Any, where: str) -> Any:
    """``value`` from JSON as the annotated type, refused where it is of another one."""
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if kind is Any:
        return value
    if origin in (types.UnionType, typing.Union):
        return None if value is None else _build(arguments[0], value, where)
    if kind is float:
        if value is None:
            return math.nan
        if isinstance(value, (int, float)) and not isinstance(value, bool):
            with contextlib.suppress(OverflowError):  # a whole number beyond all floats
                return float(value)
    elif origin is list and isinstance(value, list):
        return [_build(arguments[0], v, f"{where}[{i}]") for i, v in enumerate(value)]
    elif origin is dict and isinstance(value, dict):
        return {k: _build(arguments[1], v, f"{where}.{k}") for k, v in value.items()}
    elif isinstance(kind, type) and dataclasses.is_dataclass(kind) and isinstance(value, dict):
        fields = typing.get_type_hints(kind)
        missing = _without_default(kind) - set(value)
        if missing or set(value) - set(fields):
            raise ValueError(
                f"{where}: expected the fields {sorted(fields)}; "
                f"missing {sorted(missing)}, unknown {sorted(set(value) - set(fields))}"
            )
        built = {k: _build(fields[k], v, f"{where}.{k}") for k, v in value.items()}
        try:
            return kind(**built)
        except ValueError as e:  # what these classes say of themselves
            raise ValueError(f"{where}: {e}") from None
    elif (
        isinstance(kind, type)
        and isinstance(value, kind)
        and (kind is bool) == (isinstance(value, bool))
        and not (isinstance(value, int) and abs(value) > _LARGEST)
    ):
        return value
    raise ValueError(f"{where}: expected {kind}, found {value!r}")
