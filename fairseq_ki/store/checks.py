"""What must hold of rows that a teacher gave. Each function raises StoreError where it does not."""

from __future__ import annotations

import numpy as np

from .errors import StoreError

# Float16 log-probabilities of a whole vocabulary sum to 1 within this.
_MASS_TOLERANCE = 0.02


def check_ids(what: str, ids: np.ndarray, shape: tuple[int, ...], vocabulary: int) -> None:
    """Integer ids of this shape, in [0, vocabulary)."""
    if ids.shape != shape or not np.issubdtype(ids.dtype, np.integer):
        raise StoreError(f"{what}: expected integers {shape}, found {ids.dtype} {ids.shape}")
    if ids.size and not (ids.min() >= 0 and ids.max() < vocabulary):
        raise StoreError(
            f"{what}: expected 0 to {vocabulary - 1}, found {ids.min()} to {ids.max()}"
        )


def check_distinct(ids: np.ndarray, used: np.ndarray) -> None:
    """No id twice among the used entries of a row."""
    columns = np.arange(ids.shape[1])
    ordered = np.sort(np.where(used, ids, -1 - columns), axis=1)
    if (np.diff(ordered, axis=1) == 0).any():
        raise StoreError("ids: expected every id of a row once, found one twice")


def check_logprobs(what: str, values: np.ndarray, shape: tuple[int, ...]) -> None:
    """Finite float16 values of this shape, at most 0."""
    if values.shape != shape or values.dtype != np.float16:
        raise StoreError(f"{what}: expected float16 {shape}, found {values.dtype} {values.shape}")
    # Written so that NaN fails, too.
    if values.size and not (values.max() <= 0 and values.min() > -np.inf):
        raise StoreError(
            f"{what}: expected finite values, at most 0, found {values.min()} to {values.max()}"
        )


def check_mass(values: np.ndarray, at_least: float) -> None:
    """Probabilities of a row sum to at least `at_least` and at most 1, but for rounding."""
    mass = np.exp(values, dtype=np.float32).sum(axis=1)
    if mass.size and not (at_least - _MASS_TOLERANCE <= mass.min()):
        raise StoreError(f"probabilities of a row: expected a sum of 1, found {mass.min():.4g}")
    if mass.size and mass.max() > 1 + _MASS_TOLERANCE:
        raise StoreError(
            f"probabilities of a row: expected a sum of at most 1, found {mass.max():.4g}; "
            "are these log-probabilities over the whole vocabulary?"
        )


def check_descending(values: np.ndarray) -> None:
    """No entry of a row is larger than the one before it."""
    if (values[:, 1:] > values[:, :-1]).any():
        raise StoreError("log-probabilities: expected the most probable id of a row first")


def check_int(what: str, value: object, low: int, high: int) -> None:
    """An int (no bool) in [low, high]."""
    if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
        raise StoreError(f"{what}: expected an integer from {low} to {high}, found {value!r}")


def check_bool(what: str, value: object) -> None:
    """True or False."""
    if not isinstance(value, bool):
        raise StoreError(f"{what}: expected true or false, found {value!r}")


def check_positive(what: str, value: object, high: float) -> None:
    """A number in (0, high]."""
    if not isinstance(value, (int, float)) or isinstance(value, bool) or not 0 < value <= high:
        raise StoreError(f"{what}: expected a number above 0, at most {high}, found {value!r}")


def check_within(what: str, value: object, low: float, high: float) -> None:
    """A number in [low, high]."""
    if not isinstance(value, (int, float)) or isinstance(value, bool) or not low <= value <= high:
        raise StoreError(f"{what}: expected a number from {low} to {high}, found {value!r}")


def check_text(what: str, value: object, longest: int = 4096) -> None:
    """A string of at most `longest` characters, all of which a terminal shows as they are."""
    if not isinstance(value, str) or len(value) > longest:
        shown = value if not isinstance(value, str) else f"{len(value)} characters"
        raise StoreError(f"{what}: expected text of at most {longest} characters, found {shown!r}")
    if not value.isprintable():
        raise StoreError(f"{what}: expected printable text, found {ascii(value)[:80]}")


def check_sha256(what: str, value: object) -> None:
    """64 lower-case hexadecimal digits."""
    if not isinstance(value, str) or len(value) != 64 or not set(value) <= set("0123456789abcdef"):
        raise StoreError(f"{what}: expected 64 hexadecimal digits, found {value!r}")
