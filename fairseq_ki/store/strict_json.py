"""JSON files with one possible content: canonical bytes out, nothing ambiguous in."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from .errors import DamageError
from .regular_file import open_regular

_LARGEST_FILE = 256 << 20
_DEEPEST = 32  # our files are 5 deep; whatever walks a value need not fear for its stack


def canonical(value: Any) -> bytes:
    """The bytes a SHA-256 is taken of: sorted keys, no spaces, ASCII, no NaN or Infinity."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False).encode()


def canonical_sha256(value: Any) -> str:
    """SHA-256 of `canonical`, in hexadecimal."""
    return hashlib.sha256(canonical(value)).hexdigest()


def pretty(value: Any) -> bytes:
    """The bytes of a file: the same content, one entry a line."""
    return (json.dumps(value, sort_keys=True, indent=1, allow_nan=False) + "\n").encode()


def read_json(path: Path) -> dict[str, Any]:
    """The object a file holds. Raises DamageError where it is not one, FileNotFoundError as is."""
    with os.fdopen(open_regular(path), "rb") as file:
        size = os.fstat(file.fileno()).st_size
        if size > _LARGEST_FILE:
            raise DamageError(f"{path}: expected at most {_LARGEST_FILE} bytes, found {size}")
        content = file.read(_LARGEST_FILE)
    try:
        value = json.loads(content.decode(), parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        raise DamageError(f"{path}: expected JSON, found {error}") from error
    if not isinstance(value, dict):
        raise DamageError(f"{path}: expected a JSON object, found {type(value).__name__}")
    _refuse_deep(path, value)
    return value


def _refuse_deep(path: Path, value: Any) -> None:
    level = [value]
    for _ in range(_DEEPEST):
        level = [item for part in level for item in _items(part)]
        if not level:
            return
    raise DamageError(f"{path}: expected JSON at most {_DEEPEST} deep, found deeper nesting")


def _items(value: Any) -> Iterable[Any]:
    if isinstance(value, dict):
        return value.values()
    return value if isinstance(value, list) else ()


def _refuse_constant(text: str) -> None:
    raise ValueError(f"the number {text}")
