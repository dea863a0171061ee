"""What a checkpoint holds beside its weights, looked at before fairseq takes it for what it is not.

A part of another type fails somewhere in fairseq, in a traceback that names no file.
"""

import math
from argparse import Namespace
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import torch

_NOTHING = type(None)


class _Part(NamedTuple):
    """One part: the keys that lead to it, what it has to be in words, and whether it is that."""

    keys: tuple[str | int, ...]
    expected: str
    fits: Callable[[Any], bool]


def _is(*types: type) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, types)


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and value >= 0


def _is_number(value: Any) -> bool:
    if isinstance(value, torch.Tensor):  # with several ranks, their mean
        return value.numel() == 1 and not value.isnan().item()
    return isinstance(value, (int, float)) and not math.isnan(value)


def _are_entries(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(e, dict) for e in value)


_OPTIONS = ("options", _is(dict, Namespace, _NOTHING))
_COUNT = ("a whole number of 0 or more", _is_count)
_TABLE = ("a dictionary", _is(dict))
_TABLE_OR_NONE = ("a dictionary", _is(dict, _NOTHING))
_HISTORY, _EXTRA = "optimizer_history", "extra_state"
_ITERATOR = (_EXTRA, "train_iterator")

# in this order: what lies in another part is looked at once that one is known to be a dictionary
_PARTS = (
    _Part(("args",), "options", _is(Namespace, _NOTHING)),
    _Part(("cfg",), *_TABLE_OR_NONE),
    *(_Part(("cfg", name), *_OPTIONS) for name in ("model", "task", "criterion", "generation")),
    _Part((_HISTORY,), "a list of dictionaries", _are_entries),
    _Part((_HISTORY, -1, "num_updates"), *_COUNT),
    _Part((_HISTORY, -1, "lr_scheduler_state"), *_TABLE_OR_NONE),
    _Part(("last_optimizer_state",), *_TABLE_OR_NONE),
    _Part((_EXTRA,), *_TABLE),
    _Part(_ITERATOR, *_TABLE_OR_NONE),
    _Part((*_ITERATOR, "epoch"), *_COUNT),
    _Part((*_ITERATOR, "iterations_in_epoch"), *_COUNT),
    _Part((_EXTRA, "metrics"), *_TABLE),
    _Part((_EXTRA, "previous_training_time"), "a number", _is_number),
)


def what_is_out_of_place(state: Mapping[str, Any]) -> str | None:
    """The first part that is not of the type that fairseq writes, in words; None if there is none.

    A part that is missing is not out of place: not all versions of fairseq wrote all of them, and
    not all that reads a checkpoint needs them.
    """
    for part in _PARTS:
        value = _found(state, part.keys)
        if value is not _MISSING and not part.fits(value):
            where = ".".join(str(key) for key in part.keys if key != -1)
            return f"{where}: expected {part.expected}, found {_shown(value)}"
    return None


_MISSING = object()


def _found(value: Any, keys: tuple[str | int, ...]) -> Any:
    for key in keys:
        if (isinstance(key, int) and value) or (isinstance(value, dict) and key in value):
            value = value[key]
        else:
            return _MISSING
    return value


def _shown(value: Any) -> str:
    """A number as it is, of all else its type: it may be of any length."""
    if isinstance(value, bool) or (isinstance(value, (int, float)) and abs(value) < 1e15):
        return repr(value)
    return f"a {type(value).__name__}"
