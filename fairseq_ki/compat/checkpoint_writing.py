"""A checkpoint file is either the old one or the new one, whole, whenever the power goes.

fairseq writes its first file under a temporary name, but copies it onto ``checkpoint_last.pt``
and ``checkpoint_best.pt`` in place, so that a kill in that moment destroys the only file it
would resume from. On any error it also sleeps, and writes once more behind what it has already
written, three times.
"""

import errno
import os
import shutil
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import IO, Any

import torch
from fairseq import checkpoint_utils
from fairseq.file_io import PathManager

from fairseq_ki.compat.checkpoint_reading import CheckpointError
from fairseq_ki.compat.patching import replace
from fairseq_ki.compat.plain_values import without_numpy_scalars

TEMPORARY = ".tmp"  # fairseq's own; its search for checkpoints passes over such names

_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_OF_TRAINING = (
    "The checkpoints that are already there are whole. {}, then give the same command again: it "
    "goes on from the last checkpoint."
)
_OF_OTHERS = "{}, then give the same command again."
_FEWER = " (--no-epoch-checkpoints and --keep-interval-updates keep fewer)"


class CheckpointWriteError(CheckpointError):
    """A file could not be written; those written before are whole."""


def write_whole(path: str, write: Callable[[IO[bytes]], Any], training: bool = False) -> None:
    """Lets ``write`` fill a new file, which then takes the place of ``path`` at once.

    Raises :class:`CheckpointWriteError`; ``path`` is then what it was before. ``training``: who
    gives the command again goes on from a checkpoint.
    """
    temporary = path + TEMPORARY
    try:
        with open(temporary, "wb") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())  # or a power cut could leave the new name with no content
        os.replace(temporary, path)
    except (OSError, RuntimeError) as error:  # torch's writer raises the latter
        _remove(temporary)
        raise CheckpointWriteError(_why(path, error, training)) from error
    except BaseException:
        _remove(temporary)
        raise
    _sync_folder(path)


def write_together(files: Mapping[str, Callable[[IO[bytes]], Any]]) -> None:
    """As :func:`write_whole` for new files, by their paths: all of them are written or none."""
    written = []
    try:
        for path, write in files.items():
            write_whole(path, write)
            written.append(path)
    except BaseException:
        for path in written:
            _remove(path)
        raise


def _remove(path: str) -> None:
    with suppress(OSError):
        os.remove(path)


def _sync_folder(path: str) -> None:
    with suppress(OSError):  # not every file system lets a folder be opened
        folder = os.open(os.path.dirname(os.path.abspath(path)), os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


def _why(path: str, error: BaseException, training: bool) -> str:
    folder = os.path.dirname(os.path.abspath(path))
    free = shutil.disk_usage(folder).free
    cause: BaseException | None = error
    while cause is not None and not isinstance(cause, OSError):
        cause = cause.__cause__ or cause.__context__
    text = cause.strerror if cause is not None else str(error).strip().splitlines()[0]
    is_full = cause is not None and cause.errno in _FULL
    mend = "Free some space there" + (_FEWER if training else "") if is_full else "Mend that"
    words = _OF_TRAINING if training else _OF_OTHERS
    return (
        f"{path} could not be written: {text} ({free / 2**30:.2f} GiB free in {folder}). "
        + words.format(mend)
    )


def _save(original: Callable) -> Callable:
    def torch_persistent_save(obj, filename, async_write: bool = False):
        obj = without_numpy_scalars(obj)
        if (
            async_write
            or not isinstance(filename, str)
            or not PathManager.supports_rename(filename)
        ):
            return original(obj, filename, async_write)  # a remote store has its own ways
        write_whole(filename, lambda file: torch.save(obj, file), training=True)
        return None

    return torch_persistent_save


def _copy(original: Callable) -> Callable:
    def copy(src_path: str, dst_path: str, overwrite: bool = False):
        if any(map(PathManager.path_requires_pathmanager, (src_path, dst_path))):
            return original(src_path, dst_path, overwrite)
        if not overwrite and os.path.exists(dst_path):
            raise FileExistsError(f"{dst_path} exists")
        copy_whole(src_path, dst_path)
        return dst_path

    return copy


def copy_whole(source: str | Path, target: str | Path) -> None:
    """Copies a file of a training so that ``target`` is never half written."""
    with open(source, "rb") as file:
        write_whole(
            os.fspath(target), lambda new: shutil.copyfileobj(file, new, 16 * 2**20), training=True
        )


def write_checkpoints_whole() -> bool:
    """Replaces fairseq's writer and its copy."""
    saving = replace(checkpoint_utils, "torch_persistent_save", _save)
    return replace(PathManager, "copy", _copy) or saving
