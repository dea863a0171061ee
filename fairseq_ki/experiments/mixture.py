"""What a run's ``--ki-mixture`` file says of its data and its teachers' shares."""

from collections.abc import Iterator
from typing import Any


def texts(value: Any) -> Iterator[str]:
    """Every text in nested lists and mappings."""
    if isinstance(value, dict):
        for item in value.values():
            yield from texts(item)
    elif isinstance(value, list):
        for item in value:
            yield from texts(item)
    elif isinstance(value, str):
        yield value


def _domains(files: dict[str, Any]) -> list[dict[str, Any]]:
    mixtures = [content for content in files.values() if isinstance(content, dict)]
    return [domain for mixture in mixtures for domain in mixture.get("domains", {}).values()]


def corpora(files: dict[str, Any]) -> list[str]:
    """The data-bins of all domains."""
    return [domain["data"] for domain in _domains(files)]


def share_of_rows(files: dict[str, Any], run_folder: str) -> float:
    """Share of the rows that the teacher in ``run_folder`` is asked about; 1 without a mixture."""
    domains = _domains(files)
    if not domains:
        return 1.0
    weights = [float(domain.get("weight", 1.0)) for domain in domains]
    asked = [
        any(run_folder + "/" in text for text in texts(domain.get("teachers", [])))
        for domain in domains
    ]
    return sum(w for w, yes in zip(weights, asked) if yes) / sum(weights)
