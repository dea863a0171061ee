"""Recipes: the runs of an experiment in YAML, checked before anything is started.

    name: quickstart
    data: "{out}/data-bin"          # relative to the current directory
    seeds: [1]
    common:                         # options of fairseq-train, without the dashes
      task: ki_mlm
    runs:
      teacher: {role: teacher, options: {arch: ..., max-update: 1200}}
      self:    {role: alone, options: {arch: ..., max-update: 600}}
      ki:
        role: inherited
        extends: self               # starts from that run's options
        teachers: [teacher]         # whose cost counts
        options: {ki-teacher: "{runs.teacher}/checkpoint_best.pt"}
    compare: [{inherited: ki, alone: self}]
    scales:
      paper: {common: ...}          # merged over all of the above by --scale paper

A value of ``true`` is a bare flag, ``null`` or ``false`` takes an inherited option away, a list
gives several values. ``{out}``, ``{data}``, ``{seed}``, ``{folder}`` (the run's own) and
``{runs.NAME}`` (the folder of another run, of the same seed) are filled in. A run of ``kind:
command`` has ``command: [words]`` in place of options. A run with a ``seed`` of its own is done
once and serves every seed.
"""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fairseq_ki.experiments import options as train_options
from fairseq_ki.experiments.checked_yaml import CheckedYaml

TRAIN, COMMAND = "train", "command"
ROLES = ("teacher", "alone", "inherited")
PLACEHOLDER = re.compile(r"\{((?:runs\.)?[A-Za-z][\w-]*)\}")
FILLED_IN = ("out", "data", "seed", "folder")

_RECIPE = {
    "name": str,
    "title": str,
    "about": str,
    "data": str,
    "seeds": list,
    "common": dict,
    "runs": dict,
    "compare": list,
    "report-updates": list,
    "scales": dict,
}
_RUN = {
    "kind": str,
    "role": str,
    "label": str,
    "seed": int,
    "extends": str,
    "needs": list,
    "teachers": list,
    "data": str,
    "options": dict,
    "command": list,
    "paper": dict,
}
_COMPARE = {"inherited": str, "alone": str, "paper": dict}
_RUN_PAPER = {"name": str, "valid_ppl": dict}
_COMPARE_PAPER = {"saving": float, "setting": str}


@dataclass(frozen=True)
class RunSpec:
    """One arm of an experiment: a training, or another command."""

    name: str
    kind: str
    role: str
    label: str
    seed: int | None
    needs: tuple[str, ...]
    teachers: tuple[str, ...]
    data: str
    options: dict[str, Any]
    command: tuple[str, ...]
    paper: dict[str, Any] | None


@dataclass(frozen=True)
class Recipe:
    """A checked recipe at one scale; its runs stand in an order in which they can be done."""

    path: Path
    name: str
    title: str
    about: str
    data: str
    seeds: tuple[int, ...]
    runs: tuple[RunSpec, ...]
    compare: tuple[dict[str, Any], ...]
    report_updates: tuple[int, ...]
    scale: str
    shortened: float


def load(path: Path, scale: str = "", shorten: float = 1.0, data: str | None = None) -> Recipe:
    """Read and check a recipe.

    Args:
        path: YAML file.
        scale: name under ``scales`` whose entries are merged over the rest.
        shorten: divides every length that counts updates, to try the commands.
        data: takes the place of the recipe's own.

    Raises:
        RecipeError: naming the file, the line, what was expected and what was found.
    """
    if not shorten >= 1:
        raise ValueError(f"--shorten: expected a number of at least 1, found {shorten:g}")
    source = CheckedYaml(path)
    top = source.mapping(source.data, _RECIPE, (), ("name", "data", "runs"))
    scales = top.pop("scales", {})
    if scale:
        if scale not in scales:
            source.refuse(("scales",), f"a scale among {sorted(scales)}", repr(scale))
        where = ("scales", scale)
        top = train_options.merged(top, source.mapping(scales[scale], _RECIPE, where))
    top["data"] = data or top["data"]
    runs = _Runs(source, top, shorten).in_order()
    updates = source.items(top.get("report-updates", []), int, ("report-updates",))
    return Recipe(
        path=path,
        name=top["name"],
        title=top.get("title", top["name"]),
        about=" ".join(top.get("about", "").split()),
        data=top["data"],
        seeds=tuple(source.items(top.get("seeds", [1]), int, ("seeds",))),
        runs=tuple(runs),
        compare=tuple(_comparisons(source, top, {r.name for r in runs if r.kind == TRAIN})),
        report_updates=tuple(train_options.shorter(u, shorten) for u in updates),
        scale=scale,
        shortened=shorten,
    )


def _comparisons(source: CheckedYaml, top: dict, trained: set[str]) -> list[dict]:
    checked = []
    for i, entry in enumerate(top.get("compare", [])):
        where = ("compare", i)
        entry = source.mapping(entry, _COMPARE, where, ("inherited", "alone"))
        for arm in ("inherited", "alone"):
            if entry[arm] not in trained:
                expected = f"a training run among {sorted(trained)}"
                source.refuse((*where, arm), expected, repr(entry[arm]))
        if "paper" in entry:
            source.mapping(entry["paper"], _COMPARE_PAPER, (*where, "paper"), ("saving",))
        checked.append(entry)
    return checked


class _Runs:
    """The runs of a recipe while they are checked against each other."""

    def __init__(self, source: CheckedYaml, top: dict, shorten: float) -> None:
        self.source, self.top, self.shorten = source, top, shorten
        self.specs: dict[str, dict] = {}
        for name, spec in top["runs"].items():
            if not re.fullmatch(r"[A-Za-z][\w-]*", str(name)):
                source.refuse(("runs", name), "a name of letters, digits, - and _", repr(name))
            self.specs[name] = source.mapping(spec, _RUN, ("runs", name))
        if not self.specs:
            source.refuse(("runs",), "at least one run", "none")

    def in_order(self) -> list[RunSpec]:
        """The recipe's order as far as needs allow."""
        built = {name: self._build(name) for name in self.specs}
        done: dict[str, RunSpec] = {}

        def visit(name: str, above: tuple) -> None:
            if name in above:
                circle = " -> ".join((*above, name))
                self.source.refuse(("runs", name), "runs that do not need each other", circle)
            run = built[name]
            for other in run.needs:
                visit(other, (*above, name))
                if run.seed is not None and built[other].seed is None:
                    expected = f"a fixed seed for {other!r} too, which it needs"
                    self.source.refuse(("runs", name, "seed"), expected, "none")
            done[name] = run

        for name in built:
            visit(name, ())
        return list(done.values())

    def _build(self, name: str) -> RunSpec:
        spec, where = self.specs[name], ("runs", name)
        kind, role = spec.get("kind", TRAIN), spec.get("role", "")
        if kind not in (TRAIN, COMMAND):
            self.source.refuse((*where, "kind"), f"{TRAIN} or {COMMAND}", repr(kind))
        if role and role not in ROLES:
            self.source.refuse((*where, "role"), f"one of {', '.join(ROLES)}", repr(role))
        wrong = {"command"} if kind == TRAIN else {"options", "extends", "teachers"}
        if wrong & set(spec) or (kind == COMMAND and "command" not in spec):
            expected = "options for a training, command for another command"
            self.source.refuse(where, f"kind: {kind} with {expected}", ", ".join(spec))
        if "paper" in spec:
            self.source.mapping(spec["paper"], _RUN_PAPER, (*where, "paper"))
        options = self._options(name) if kind == TRAIN else {}
        command = tuple(map(str, spec.get("command", ())))
        data = spec.get("data", self.top["data"])
        return RunSpec(
            name=name,
            kind=kind,
            role=role,
            label=spec.get("label", name),
            seed=spec.get("seed"),
            needs=self._needs(name, [*train_options.words(options), *command, data]),
            teachers=self._teachers(name, options),
            data=data,
            options=options,
            command=command,
            paper=spec.get("paper"),
        )

    def _options(self, name: str) -> dict[str, Any]:
        chain = [name]
        while (base := self.specs[chain[-1]].get("extends")) is not None:
            where = ("runs", chain[-1], "extends")
            if base not in self.specs or base in chain:
                others = sorted(set(self.specs) - set(chain))
                self.source.refuse(where, f"a run among {others}", repr(base))
            chain.append(base)
        options = self.top.get("common", {})
        for each in reversed(chain):
            options = train_options.merged(options, self.specs[each].get("options", {}))
        places = [("runs", each, "options") for each in chain]
        train_options.check(self.source, options, [*places, ("common",)])
        return train_options.shortened(options, self.shorten)

    def _needs(self, name: str, texts: list[str]) -> tuple[str, ...]:
        """Runs that come before this one: named in needs or teachers, or filled in."""
        spec, where = self.specs[name], ("runs", name)
        used = [p for text in texts for p in PLACEHOLDER.findall(text)]
        for unknown in [p for p in used if not p.startswith("runs.") and p not in FILLED_IN]:
            known = ", ".join(f"{{{p}}}" for p in (*FILLED_IN, "runs.NAME"))
            self.source.refuse(where, f"placeholders among {known}", f"{{{unknown}}}")
        filled_in = [p.removeprefix("runs.") for p in used if p.startswith("runs.")]
        needs = dict.fromkeys([*spec.get("needs", ()), *spec.get("teachers", ()), *filled_in])
        for other in needs:
            if other not in self.specs or other == name:
                others = sorted(set(self.specs) - {name})
                self.source.refuse(where, f"other runs among {others}", repr(other))
        return tuple(needs)

    def _teachers(self, name: str, options: dict[str, Any]) -> tuple[str, ...]:
        """The runs that teach this one; all that its options name must be listed."""
        teachers = tuple(self.specs[name].get("teachers", ()))
        named = [str(v) for k, v in options.items() if k.startswith("ki-teacher")]
        consulted = {p.removeprefix("runs.") for text in named for p in PLACEHOLDER.findall(text)}
        uncounted = sorted((consulted & set(self.specs)) - set(teachers))
        if uncounted:
            expected = f"teachers: [{', '.join(uncounted)}], so that their cost is counted"
            self.source.refuse(("runs", name), expected, f"teachers: {list(teachers)}")
        return teachers
