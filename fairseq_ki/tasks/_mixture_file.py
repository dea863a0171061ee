"""The file of ``--ki-mixture``: the domains of a run, their data, weights and teachers."""

import os
import re
from dataclasses import dataclass
from pathlib import Path

from fairseq.data import Dictionary

from fairseq_ki.checked_yaml import CheckedYaml, shown

_DOMAIN = {"data": str, "weight": float, "teachers": list}
_TEACHER = {"checkpoint": str, "store": str, "weight": float, "dict": str}

# only proportions count; beyond these, sums of them or shares of samples are no longer numbers
_LEAST_WEIGHT, _MOST_WEIGHT = 1e-6, 1e6

# "NAME_loss" and the like must not be the names of other things in the logs
_TAKEN = ("best", "ki", "train", "valid")


@dataclass(frozen=True)
class TeacherEntry:
    """One teacher of a domain, live or stored.

    Args:
        checkpoint: as ``--ki-teacher`` has it; or None.
        store: as ``--ki-store`` has it, one directory; or None.
        weight: of its probabilities among the domain's teachers, above 0.
        dictionary: as ``--ki-teacher-dict`` has it, or None.
        where: file, line and key, for messages.
    """

    checkpoint: str | None
    store: str | None
    weight: float
    dictionary: str | None
    where: str


@dataclass(frozen=True)
class Domain:
    """One domain of a run.

    Args:
        name: an identifier.
        data: one data-bin.
        weight: its share of the training samples; 0: it is validated alone.
        teachers: none for self-learning.
        where: file, line and key, for messages.
    """

    name: str
    data: str
    weight: float
    teachers: tuple[TeacherEntry, ...]
    where: str


def read_mixture(path: str, dictionary: str) -> tuple[Domain, ...]:
    """The domains in the order of the file.

    Args:
        path: of the YAML. The paths in it are relative to the working directory, as all of
            fairseq's are.
        dictionary: the run's dict.txt, which every domain's has to equal.

    Raises:
        YamlFileError: naming file, line, what was expected and found.
    """
    file = CheckedYaml(Path(path))
    top = file.mapping(file.data, {"domains": dict}, (), required=("domains",))
    if not top["domains"]:
        file.refuse(("domains",), "at least one domain", "none")
    symbols = _symbols(dictionary)
    domains = tuple(_domain(file, name, value, symbols) for name, value in top["domains"].items())
    if not any(domain.weight for domain in domains):
        file.refuse(("domains",), "a domain with a weight above 0", "weights that are all 0")
    return domains


def _domain(file: CheckedYaml, name: object, value: object, symbols: list[str]) -> Domain:
    where = ("domains", name)
    if not isinstance(name, str) or not re.fullmatch("[A-Za-z][A-Za-z0-9_]*", name):
        file.refuse(where, "a name of letters, digits and _ that begins with a letter", repr(name))
    if name in _TAKEN or name.startswith("ki_") or name.endswith("_teacher"):
        taken = f"{', '.join(_TAKEN)}, ki_... and ..._teacher"
        file.refuse(where, f"another name than {taken}, taken in logs", name)
    options = file.mapping(value, _DOMAIN, where, required=("data",))
    _check_data(file, options["data"], (*where, "data"), symbols)
    weight = _weight(file, options, where)
    given = options.get("teachers", [])
    teachers = [_teacher(file, item, (*where, "teachers", i)) for i, item in enumerate(given)]
    if teachers and not any(teacher.weight for teacher in teachers):
        file.refuse((*where, "teachers"), "a teacher with a weight above 0", "weights all 0")
    if teachers and not weight:
        file.refuse((*where, "weight"), "a weight above 0 where there are teachers", weight)
    return Domain(
        name, options["data"], weight, tuple(t for t in teachers if t.weight), _at(file, where)
    )


def _teacher(file: CheckedYaml, value: object, where: tuple) -> TeacherEntry:
    options = file.mapping(value, _TEACHER, where)
    kinds = [kind for kind in ("checkpoint", "store") if kind in options]
    if len(kinds) != 1:
        found = " and ".join(kinds) or f"only {', '.join(options) or 'an empty mapping'}"
        file.refuse(where, "either a checkpoint or a store", found)
    if "store" in options and os.pathsep in options["store"]:
        file.refuse((*where, "store"), "one directory", repr(options["store"]))
    if "store" in options and "dict" in options:
        file.refuse(
            (*where, "dict"), "a dict with a checkpoint alone", "a store, which has its own"
        )
    return TeacherEntry(
        options.get("checkpoint"),
        options.get("store"),
        _weight(file, options, where),
        options.get("dict"),
        _at(file, where),
    )


def _weight(file: CheckedYaml, options: dict, where: tuple) -> float:
    weight = options.get("weight", 1.0)
    if weight != 0 and not _LEAST_WEIGHT <= weight <= _MOST_WEIGHT:
        expected = f"0 or a number from {_LEAST_WEIGHT:g} to {_MOST_WEIGHT:g}"
        file.refuse((*where, "weight"), expected, shown(weight))
    return float(weight)


def _check_data(file: CheckedYaml, data: str, where: tuple, symbols: list[str]) -> None:
    if os.pathsep in data:
        file.refuse(
            where,
            "one data-bin (train, train1, ... in one directory are read together)",
            f"several, separated by {os.pathsep!r}: {data!r}",
        )
    own = os.path.join(data, "dict.txt")
    if not os.path.isfile(own):
        file.refuse(where, "a data-bin with its dict.txt", f"no file at {own}")
    try:
        found = _symbols(own)
    except Exception as e:  # fairseq raises that very class for a file that is not text
        file.refuse(where, "a data-bin with a dict.txt of fairseq-preprocess", f"{own}: {e}")
    if found != symbols:
        differing = sum(a != b for a, b in zip(found, symbols)) + abs(len(found) - len(symbols))
        file.refuse(
            where,
            f"the dictionary of the run ({len(symbols)} symbols)",
            f"{own} with {len(found)} symbols, of which {differing} differ at the same id; "
            "binarise all domains with one --srcdict",
        )


def _symbols(path: str) -> list[str]:
    return Dictionary.load(path).symbols


def _at(file: CheckedYaml, where: tuple) -> str:
    while where not in file.lines:  # merged in by <<, and so written elsewhere
        where = where[:-1]
    return f"{file.path}, line {file.lines[where]}: {'.'.join(map(str, where))}"
