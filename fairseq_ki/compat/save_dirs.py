"""A command that is refused leaves no empty --save-dir behind.

fairseq makes that folder first, before it looks at anything else.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress


@contextmanager
def no_empty_folders(path: str) -> Iterator[None]:
    """If the block raises: removes ``path`` and what is above it, where new and empty."""
    new = _missing(path)
    try:
        yield
    except BaseException:
        for folder in new:
            with suppress(OSError):  # not empty, or never made
                os.rmdir(folder)
        raise


def _missing(path: str) -> list[str]:
    """The folders on the way to ``path`` that are not there, the deepest first."""
    found = []
    path = os.path.abspath(path)
    while not os.path.lexists(path):
        found.append(path)
        path = os.path.dirname(path)
    return found
