"""Files that are the old one or the new one, whole, for whoever reads them."""

import json
import os
from pathlib import Path
from typing import Any


def write_bytes(path: Path, content: bytes) -> None:
    """Write a file under another name, then put it in its place."""
    temporary = path.with_name(path.name + ".tmp")
    temporary.write_bytes(content)
    os.replace(temporary, path)


def write_json(path: Path, content: dict[str, Any]) -> None:
    """Numbers that are not finite are written as Python reads them."""
    write_bytes(path, (json.dumps(content, indent=1) + "\n").encode())
