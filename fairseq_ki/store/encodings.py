"""The encodings by name: how the rows of one sample become bytes and rows again.

`Encoding` is their interface; FORMAT.md, "Bodies", has the bytes of each.
"""

from __future__ import annotations

from dataclasses import fields
from typing import Any

from .dense import Dense
from .encoding import Encoding
from .errors import StoreError
from .ranked import TopK, TopP
from .sampled import Sampled

ENCODINGS: dict[str, type[Encoding]] = {kind.name: kind for kind in (TopK, TopP, Sampled, Dense)}


def make_encoding(name: str, vocabulary: int, parameters: dict[str, Any]) -> Encoding:
    """The encoding called `name`. Raises StoreError on an unknown name or parameter."""
    if not isinstance(name, str) or name not in ENCODINGS:
        raise StoreError(f"encoding: expected one of {sorted(ENCODINGS)}, found {name!r}")
    try:
        return ENCODINGS[name](vocabulary, **parameters)
    except TypeError as error:
        known = [field.name for field in fields(ENCODINGS[name]) if field.name != "vocabulary"]
        raise StoreError(
            f"encoding {name}: expected parameters among {known} with numbers, found {parameters}"
        ) from error
