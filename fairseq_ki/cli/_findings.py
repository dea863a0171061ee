"""What the checks of ``fairseq-ki doctor`` yield."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Finding:
    """One thing looked at. ``status`` is "ok", "warning" or "problem"; the last two say a mend."""

    name: str
    found: str
    status: str = "ok"
    mend: str = ""
