"""What ``lineage.json`` holds: a model, and all the models that it comes from.

    {"format": "fairseq-ki lineage", "version": 1, "model": ID,
     "models": {ID: {"how": "trained", "name": ..., "flops": ..., "parents": [...]}, ...}}

Models stand side by side and name their parents by id, so that an ancestor that two of them share
is there once, and its cost counted once. A file is made to be copied along with checkpoints, and so
may come from anybody: whatever is not exactly this is refused.
"""

import secrets
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any

FORMAT = "fairseq-ki lineage"
VERSION = 1
MOST_MODELS = 1000
_LONGEST_TEXT = 4096
_LARGEST_NUMBER = 1e60

HOW = ("trained", "grown", "checkpoint", "store", "earlier")
ROLES = ("teacher", "start", "origin")


class LineageError(ValueError):
    """A lineage that is not one; the message says what was expected and found."""


@dataclass(frozen=True)
class Parent:
    """A model that another one comes from.

    Args:
        model: its id.
        role: ``teacher``; ``start``: training began with its weights; ``origin``: grown from it.
        file: the checkpoint or store, as it was named.
        sha256: of the checkpoint (for a store, of its teacher's).
        updates: that the checkpoint had seen.
        flops: of the teacher's passes in the training of the child; None where not known.
    """

    model: str
    role: str
    file: str
    sha256: str | None = None
    updates: int | None = None
    flops: float | None = 0.0


@dataclass(frozen=True)
class Model:
    """One training run, or one model that was made without training.

    Args:
        how: ``trained``; ``grown``; ``checkpoint``: all that is known is what its checkpoint
            says; ``store``: nothing but a hash is known; ``earlier``: a model of this lineage as
            it was when another one learned from it, whose costs and parents are that model's.
        name: of its directory.
        arch: its ``--arch``.
        sizes: as ``evaluation.flops.Sizes`` has them.
        updates, tokens: that it was trained on; None where not known.
        flops: of its own training, forward and backward; None where not known.
        data: {path: SHA-256} of the splits that it was trained on.
        dictionary: SHA-256 of its dict.txt.
        versions: of what trained it.
        written: when, in ISO 8601.
        parents: teachers and start.
    """

    how: str
    name: str
    arch: str | None = None
    sizes: dict[str, int] = field(default_factory=dict)
    updates: int | None = None
    tokens: float | None = None
    flops: float | None = None
    data: dict[str, str] = field(default_factory=dict)
    dictionary: str | None = None
    versions: dict[str, str] = field(default_factory=dict)
    written: str | None = None
    parents: tuple[Parent, ...] = ()


@dataclass(frozen=True)
class Lineage:
    """A model and its ancestors. Checked when made.

    Raises:
        LineageError: for parents that are not there, for a model that is its own ancestor, and
            for more than ``MOST_MODELS`` models.
    """

    model: str
    models: dict[str, Model]

    def __post_init__(self) -> None:
        if len(self.models) > MOST_MODELS:
            raise LineageError(f"expected at most {MOST_MODELS} models, found {len(self.models)}")
        named = {p.model for m in self.models.values() for p in m.parents} | {self.model}
        if missing := sorted(named - self.models.keys()):
            raise LineageError(
                f"expected every model that is named, found none with id {missing[0]}"
            )
        if circle := self._in_circles():
            raise LineageError(
                f"expected ancestors, found a model that is its own ancestor: {circle}"
            )

    @property
    def own(self) -> Model:
        return self.models[self.model]

    def ancestors(self) -> Iterator[str]:
        """Ids of the model and all that it comes from, each once."""
        seen, todo = {self.model}, [self.model]
        while todo:
            current = todo.pop()
            yield current
            new = {parent.model for parent in self.models[current].parents} - seen
            seen |= new
            todo += sorted(new)

    def _in_circles(self) -> str | None:
        """An id that is left when all are taken away whose parents are all gone."""
        waiting = {i: {p.model for p in m.parents} for i, m in self.models.items()}
        children: dict[str, list[str]] = {i: [] for i in self.models}
        for model, parents in waiting.items():
            for parent in parents:
                children[parent].append(model)
        free = [model for model, parents in waiting.items() if not parents]
        while free:
            gone = free.pop()
            del waiting[gone]
            for child in children[gone]:
                waiting[child].discard(gone)
                if not waiting[child]:
                    free.append(child)
        return min(waiting, default=None)

    def to_dict(self) -> dict[str, Any]:
        """As the file has it."""
        models = {i: asdict(self.models[i]) for i in sorted(self.ancestors())}
        for model in models.values():
            model["parents"] = list(model["parents"])
        return {"format": FORMAT, "version": VERSION, "model": self.model, "models": models}

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> "Lineage":
        """Check the content of a file. Raises LineageError."""
        if not isinstance(content, dict):
            raise LineageError(f"expected an object, found {_shown(content)}")
        if content.get("format") != FORMAT or content.get("version") != VERSION:
            raise LineageError(
                f"expected format {FORMAT!r}, version {VERSION}, found "
                f"{_shown(content.get('format'))}, {_shown(content.get('version'))}"
            )
        models = content.get("models")
        if not isinstance(models, dict) or len(models) > MOST_MODELS:
            raise LineageError(f"models: expected an object of at most {MOST_MODELS}")
        return cls(
            model=_text(content.get("model"), "model"),
            models={_text(i, "id"): _model(m, f"model {_shown(i)}") for i, m in models.items()},
        )


def merged(model: str, own: Model, families: list[Lineage]) -> Lineage:
    """The lineage of a model from its parents'.

    Of two records of one model the one with more updates counts: it went on training.
    """
    models: dict[str, Model] = {}
    for family in families:
        for each in family.ancestors():
            found = family.models[each]
            if each not in models or _seen(found) > _seen(models[each]):
                models[each] = found
    return Lineage(model, {**models, model: own})


def apart_from(lineage: Lineage, model: str) -> Lineage:
    """A parent's lineage for a model that may itself be in it, having taught what teaches it now.

    There it is an ``earlier`` state under another id: nobody is their own ancestor, and costs
    count once.
    """
    if model not in lineage.models:
        return lineage
    was = lineage.models[model]
    earlier = f"{model}-{was.updates}"

    def renamed(each: str) -> str:
        return earlier if each == model else each

    models = {
        renamed(i): replace(m, parents=tuple(replace(p, model=renamed(p.model)) for p in m.parents))
        for i, m in lineage.models.items()
    }
    models[earlier] = replace(was, how="earlier", flops=0.0, parents=())
    return Lineage(renamed(lineage.model), models)


def new_id() -> str:
    """Of a run or a grown model."""
    return secrets.token_hex(16)


def printable(text: str) -> str:
    """A path or a name as a lineage may hold it."""
    return "".join(c if c.isprintable() else "?" for c in text)[:_LONGEST_TEXT]


def _seen(model: Model) -> tuple[bool, int]:
    return model.how in ("trained", "grown"), model.updates or 0


def _model(content: Any, where: str) -> Model:
    entries = _entries(content, Model, where)
    parents = entries.pop("parents", [])
    if not isinstance(parents, list) or len(parents) > MOST_MODELS:
        raise LineageError(f"{where}: parents: expected a list of at most {MOST_MODELS}")
    _one_of(entries.get("how"), HOW, f"{where}: how")
    _text(entries.get("name"), f"{where}: name")
    for name in ("arch", "dictionary", "written"):
        _optional(_text, entries, name, where)
    for name in ("updates", "tokens", "flops"):
        _optional(_number, entries, name, where)
    for name, check in (("sizes", _size), ("data", _text), ("versions", _text)):
        table = entries.get(name, {})
        if not isinstance(table, dict):
            raise LineageError(f"{where}: {name}: expected an object, found {_shown(table)}")
        entries[name] = {_text(k, where): check(v, f"{where}: {name}") for k, v in table.items()}
    return Model(**entries, parents=tuple(_parent(p, where) for p in parents))


def _parent(content: Any, where: str) -> Parent:
    where = f"{where}: parents"
    entries = _entries(content, Parent, where)
    _one_of(entries.get("role"), ROLES, f"{where}: role")
    for name in ("model", "file"):
        _text(entries.get(name), f"{where}: {name}")
    _optional(_text, entries, "sha256", where)
    for name in ("updates", "flops"):
        _optional(_number, entries, name, where)
    return Parent(**entries)


def _entries(content: Any, kind: type, where: str) -> dict[str, Any]:
    known = {f.name for f in fields(kind)}
    if not isinstance(content, dict) or not content.keys() <= known:
        raise LineageError(f"{where}: expected an object with entries among {sorted(known)}")
    return dict(content)


def _optional(check: Any, entries: dict[str, Any], name: str, where: str) -> None:
    if entries.get(name) is not None:
        check(entries[name], f"{where}: {name}")


def _text(value: Any, where: str) -> str:
    """Text that a terminal shows as it is."""
    if not isinstance(value, str) or len(value) > _LONGEST_TEXT or not value.isprintable():
        raise LineageError(f"{where}: expected printable text, found {_shown(value)}")
    return value


def _one_of(value: Any, known: tuple[str, ...], where: str) -> None:
    if value not in known:
        raise LineageError(f"{where}: expected one of {', '.join(known)}, found {_shown(value)}")


def _number(value: Any, where: str) -> float:
    whole = isinstance(value, (int, float)) and not isinstance(value, bool)
    if not whole or not 0 <= value <= _LARGEST_NUMBER:  # NaN is refused too
        raise LineageError(f"{where}: expected a number of at least 0, found {_shown(value)}")
    return value


def _size(value: Any, where: str) -> float:
    return value if isinstance(value, bool) else _number(value, where)


def _shown(value: Any) -> str:
    """For a message: short, and without what a terminal would obey."""
    return (
        ascii(value)[:80]
        if isinstance(value, (str, int, float, type(None)))
        else type(value).__name__
    )
