"""Checkpoints are read without running anything that they say.

A fairseq checkpoint holds tensors, plain containers and ``argparse.Namespace``. torch's
restricted unpickler is kept on, whatever the environment says, and is told of that one class.
A Namespace cannot be made to run anything: it has no constructor arguments by position, no
``__setstate__`` and no ``__reduce__`` of its own, so all that a file can do is to fill its
attributes.
"""

import argparse
import errno
import os
import pickle
import re
from collections.abc import Callable
from typing import IO, Any

import torch
from fairseq import checkpoint_utils
from fairseq.distributed import utils as distributed_utils
from omegaconf import OmegaConf

from fairseq_ki.compat.checkpoint_archive import is_archive, what_is_wrong
from fairseq_ki.compat.checkpoint_contents import what_is_out_of_place
from fairseq_ki.compat.patching import CompatError, replace, show_module_with
from fairseq_ki.compat.plain_values import map_leaves

_CLASS = re.compile(r"GLOBAL ([\w.]+)")
_FORBIDDEN_CALL = re.compile(
    r"(Trying to call reduce for unrecognized function|Can only build|"
    r"Can only create new object)[^\n]*"
)


class CheckpointError(CompatError):
    """A checkpoint cannot be used; the message names the file."""


class UnsafeCheckpointError(CheckpointError):
    """A checkpoint would create objects that no fairseq checkpoint needs."""


class UnreadableCheckpointError(CheckpointError):
    """A file is empty, truncated, damaged or no checkpoint at all."""


def load_checkpoint(path: str | os.PathLike) -> dict[str, Any]:
    """What fairseq stored in the checkpoint at ``path``, on the CPU, as it was stored.

    Raises FileNotFoundError, :class:`UnsafeCheckpointError` or
    :class:`UnreadableCheckpointError`, each with the file's name. Use fairseq's
    ``load_model_ensemble_and_task`` to get a model; it reads through this too.
    """
    with open(path, "rb") as file:
        return _load_fairseq_checkpoint(file)


def load_structure(path: str | os.PathLike) -> dict[str, Any]:
    """As :func:`load_checkpoint`, but tensors stay in the file until they are looked at."""
    name = os.fspath(path)
    # torch maps files of the zip format alone; the older one has to be read
    if is_archive(name):
        return _checked(_load_safely(name, "cpu", name, mmap=True), name)
    return load_checkpoint(name)


def num_updates(path: str | os.PathLike) -> int:
    """How many updates the checkpoint at ``path`` has seen. Reads its structure, not its tensors.

    Raises as :func:`load_checkpoint`, so it also tells whether a checkpoint can be read.
    """
    state = load_structure(path)
    history = state.get("optimizer_history") or [{}]
    return int(history[-1].get("num_updates", 0))


def _load_fairseq_checkpoint(file: IO[bytes], map_location: Any = "cpu", **_: Any) -> dict:
    name = _name(file)
    return _checked(_load_safely(file, map_location, name), name)


def _checked(state: Any, name: str) -> dict[str, Any]:
    if isinstance(state, dict) and "model" in state:
        wrong = what_is_out_of_place(state)
        if wrong is not None:
            raise _unreadable(name, wrong)
        return state
    if isinstance(state, dict):
        found = f"a dictionary with the keys {sorted(map(str, state))[:8]}"
    else:
        found = f"a {type(state).__name__}"
    raise UnreadableCheckpointError(
        f"{name} is not a fairseq checkpoint: expected a dictionary with the key 'model', "
        f"found {found}. If these are the weights of another library, convert them first."
    )


def _load_broadcast_object(file: IO[bytes], map_location: Any = "cpu", **_: Any) -> Any:
    # stands for a tensor in what rank 0 sends to the others
    with torch.serialization.safe_globals([distributed_utils._TensorPlaceholder]):
        return _load_safely(file, map_location, "what rank 0 sent")


def _with_plain_configuration(original: Callable) -> Callable:
    def broadcast_object(obj, src_rank, group, dist_device=None):
        # rank 0 has made objects of the plain configuration that it read from the file
        obj = map_leaves(obj, lambda x: OmegaConf.to_container(x) if OmegaConf.is_config(x) else x)
        return original(obj, src_rank, group, dist_device)

    return broadcast_object


def _load_safely(file: Any, map_location: Any, name: str, mmap: bool = False) -> Any:
    wrong = what_is_wrong(file, contents=not mmap) if is_archive(file) else None
    if wrong is not None:
        raise _unreadable(name, wrong)
    if not isinstance(file, str):
        file.seek(0)
    try:
        # explicit, because TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD only overrides a default
        return torch.load(file, map_location=map_location, weights_only=True, mmap=mmap)
    except MemoryError:
        raise
    except Exception as error:  # a file can make the reader fail in any way
        if isinstance(error, OSError) and error.errno != errno.EINVAL:
            raise  # the disk or a network mount; EINVAL is a seek beyond a file cut short
        raise _explained(error, file, name) from None


def _name(file: IO[bytes]) -> str:
    return str(getattr(file, "name", "the checkpoint"))


def _explained(error: Exception, file: Any, name: str) -> CheckpointError:
    text = str(error)
    classes = _CLASS.findall(text)
    call = _FORBIDDEN_CALL.search(text)
    if isinstance(error, pickle.UnpicklingError) and (classes or call):
        what = ", ".join(_all_unsafe_classes(file) or classes) or str(call and call.group(0))
        return UnsafeCheckpointError(
            f"{name} was not loaded: it asks for {what}, and a fairseq checkpoint needs nothing "
            "but tensors, plain containers and argparse.Namespace. Loading it could run code of "
            "whoever wrote it. If you trust its author, make a plain copy once: "
            "python -m fairseq_ki.compat.plain_copy OLD.pt NEW.pt"
        )
    return _unreadable(name, _damage(file, text))


def _unreadable(name: str, damage: str) -> UnreadableCheckpointError:
    return UnreadableCheckpointError(
        f"{name} cannot be read as a checkpoint: {damage}. "
        "Use another checkpoint, or copy this one again from where it came."
    )


def _all_unsafe_classes(file: Any) -> list[str]:
    """Every class the file asks for beyond the allowed ones, where torch can list them."""
    try:
        if hasattr(file, "seek"):
            file.seek(0)
        return sorted(torch.serialization.get_unsafe_globals_in_checkpoint(file))
    except Exception:  # the older formats, or a file made to confuse: the first error is enough
        return []


def _damage(file: Any, text: str) -> str:
    size = file.seek(0, os.SEEK_END) if hasattr(file, "seek") else os.path.getsize(file)
    if size == 0:
        return "it is empty (0 bytes)"
    # torch goes on to advise against the check; a bare number is what it did not find in a table
    if text.startswith("Weights only load failed") or text.isdecimal():
        return f"{size} bytes that torch.save did not write"
    return f"{size} bytes, {text.strip().splitlines()[0] if text.strip() else 'no content'}"


def allow_namespaces() -> bool:
    """Lets ``torch.load`` with its check on accept what every fairseq checkpoint holds."""
    if argparse.Namespace in torch.serialization.get_safe_globals():
        return False
    torch.serialization.add_safe_globals([argparse.Namespace])
    return True


def read_checkpoints_safely() -> bool:
    """All of ``checkpoint_utils``: resuming, validating, evaluating, generating, EMA weights."""
    return show_module_with(checkpoint_utils, "torch", load=_load_fairseq_checkpoint)


def read_broadcasts_safely() -> bool:
    """Several ranks that resume: rank 0 sends the checkpoint to the others as bytes."""
    sending = replace(distributed_utils, "broadcast_object", _with_plain_configuration)
    return show_module_with(distributed_utils, "torch", load=_load_broadcast_object) or sending
