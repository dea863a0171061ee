"""Options of fairseq-train as a recipe gives them: merged, checked, shortened, put in words."""

import math
from typing import Any

from fairseq_ki.experiments.recipe_file import RecipeFile

# what the driver sets itself, in every run
RESERVED = ("save-dir", "seed", "user-dir", "log-format", "log-file")

# what counts updates, and so gets shorter with the run
LENGTHS = (
    "max-update",
    "total-num-update",
    "warmup-updates",
    "ki-steps",
    "ki-surpassed-window",
    "validate-interval-updates",
    "validate-after-updates",
    "save-interval-updates",
    "log-interval",
)


def check(source: RecipeFile, options: dict[str, Any], places: list[tuple]) -> None:
    """Refuse options that cannot be passed on; ``places`` are where each may stand."""
    for option, value in options.items():
        candidates = [(*place, option) for place in places]
        where = next((c for c in candidates if c in source.lines), candidates[0])
        if not isinstance(option, str) or option.startswith("-") or "_" in option:
            source.refuse(where, "an option as fairseq-train has it, without --", repr(option))
        if option in RESERVED:
            source.refuse(where, "only options that the driver does not set itself", option)
        if isinstance(value, dict):
            source.refuse(where, "text, a number, true, false, null or a list", repr(value))
        if option in LENGTHS and value is not None and not _is_count(value):
            source.refuse(where, "a number of updates", repr(value))


def shortened(options: dict[str, Any], factor: float) -> dict[str, Any]:
    """The options that remain (not false, not null), lengths divided by ``factor``."""
    return {
        option: shorter(int(value), factor) if option in LENGTHS else value
        for option, value in options.items()
        if value is not None and value is not False
    }


def shorter(updates: int, factor: float) -> int:
    """A number of updates divided by ``factor`` and rounded up, so that none becomes 0."""
    return math.ceil(updates / factor)


def words(options: dict[str, Any]) -> list[str]:
    """Command-line words: true is a bare flag, a list gives several values."""
    result = []
    for option, value in options.items():
        values = value if isinstance(value, list) else [] if value is True else [value]
        result += [f"--{option}", *map(str, values)]
    return result


def _is_count(value: object) -> bool:
    return isinstance(value, (int, str)) and not isinstance(value, bool) and str(value).isdigit()
