"""Opening files that somebody else may have made."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

from .errors import DamageError


def open_regular(path: Path) -> int:
    """A descriptor for reading a regular file, and never anything else.

    A link could lead out of the store, a FIFO would block, a device has no end; a store has none
    of them. Raises DamageError on those, FileNotFoundError and other OSErrors as they are.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError as error:
        if error.errno not in (errno.ELOOP, errno.ENXIO):
            raise
        raise DamageError(f"{path}: expected a regular file, found {error.strerror}") from error
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise DamageError(f"{path}: expected a regular file, found a directory or a device")
    return descriptor
