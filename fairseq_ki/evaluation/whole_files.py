"""Files that are the old one or the new one, whole, for whoever reads them."""

import contextlib
import json
import os
from pathlib import Path
from typing import Any


def write_bytes(path: Path, content: bytes) -> None:
    """Write a file under another name, then put it in its place."""
    temporary = path.with_name(path.name + ".tmp")
    try:
        temporary.write_bytes(content)
        os.replace(temporary, path)
    except OSError as e:  # a full disk: leave nothing half-written, and say of which file
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise OSError(e.errno, e.strerror, str(path)) from e


def write_json(path: Path, content: dict[str, Any]) -> None:
    """Numbers that are not finite are written as Python reads them."""
    write_bytes(path, (json.dumps(content, indent=1) + "\n").encode())


def read_note(path: Path, kinds: dict[str, type | tuple[type, ...]]) -> dict[str, Any] | None:
    """What an earlier call noted of its work, its values of these kinds; None where it did not.

    Raises:
        ValueError: for a file that is damaged, or not from here.
    """
    if not path.is_file():
        return None
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(content, dict):
            raise ValueError(repr(content)[:100])
        for key, kind in kinds.items():
            value = content.get(key)
            texts = all(isinstance(v, str) for v in value) if isinstance(value, list) else True
            if not isinstance(value, kind) or isinstance(value, bool) or not texts:
                raise ValueError(repr({key: value})[:100])
    except (ValueError, RecursionError) as e:
        raise ValueError(
            f"{path}: expected what an earlier call wrote, with {' and '.join(kinds)}, found {e}; "
            f"move {path.parent} away to repeat it"
        ) from None
    return content
