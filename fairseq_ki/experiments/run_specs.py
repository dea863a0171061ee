"""The runs of a recipe, checked against each other."""

import math
import re
from dataclasses import dataclass
from itertools import chain
from typing import Any

from fairseq_ki.evaluation.specs import PaperRun
from fairseq_ki.experiments import options as train_options
from fairseq_ki.experiments.mixture import texts
from fairseq_ki.experiments.recipe_file import RecipeFile, merged

TRAIN, EVALUATE, COMMAND = "train", "evaluate", "command"
ROLES = ("teacher", "alone", "inherited")
OWN, SHARED = "own", "shared"
PLACEHOLDER = re.compile(r"\{((?:runs\.)?[A-Za-z][\w-]*|updates\.\d+)\}")
FILLED_IN = ("out", "data", "corpora", "seed", "folder")

_RUN = {
    "kind": str,
    "role": str,
    "label": str,
    "seed": int,
    "folder": str,
    "extends": str,
    "needs": list,
    "teachers": list,
    "data": str,
    "options": dict,
    "files": dict,
    "of": str,
    "command": list,
    "measure": dict,
    "paper": dict,
}
# what only runs of one kind have
_OF_KIND = {
    TRAIN: {"options", "extends", "teachers", "files"},
    EVALUATE: {"of"},
    COMMAND: {"command", "measure"},
}
_NEEDED = {TRAIN: (), EVALUATE: ("of",), COMMAND: ("command",)}
_RUN_PAPER = {"name": str, "valid_ppl": dict, "downstream": dict}
_MEASURE = {"file": str, "values": dict, "times": float}


@dataclass(frozen=True)
class RunSpec:
    """One arm of an experiment: a training, the evaluation of one, or another command.

    Attributes:
        folder: ``own``, in the experiment's; or ``shared``, in one that other experiments use.
        files: text files that the driver writes into the run's folder, as data for YAML.
        of: the run that is evaluated.
        measure: where a command's numbers are: ``{"file": ..., "values": {name: path}}``, the
            file in the run's folder, a path ``test.f1.mean`` in its JSON, or a list of paths for
            their mean; ``times`` scales them.
    """

    name: str
    kind: str
    role: str
    label: str
    seed: int | None
    folder: str
    needs: tuple[str, ...]
    teachers: tuple[str, ...]
    data: str
    options: dict[str, Any]
    files: dict[str, Any]
    of: str
    command: tuple[str, ...]
    measure: dict[str, Any]
    paper: PaperRun | None


class RunSpecs:
    """The runs while they are checked.

    Args:
        source: for messages.
        top: the recipe at its scale.
        shorten: divides lengths.
    """

    def __init__(self, source: RecipeFile, top: dict, shorten: float) -> None:
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
                if run.folder == SHARED and built[other].folder != SHARED:
                    expected = f"folder: shared for {other!r} too, which it needs"
                    self.source.refuse(("runs", name, "folder"), expected, "none")
            done[name] = run

        for name in built:
            visit(name, ())
        return list(done.values())

    def _build(self, name: str) -> RunSpec:
        spec, where = self.specs[name], ("runs", name)
        kind = self._kind(name)
        role, folder = spec.get("role", ""), spec.get("folder", OWN)
        if role and role not in ROLES:
            self.source.refuse((*where, "role"), f"one of {', '.join(ROLES)}", repr(role))
        if folder not in (OWN, SHARED):
            self.source.refuse((*where, "folder"), f"{OWN} or {SHARED}", repr(folder))
        if "measure" in spec:
            required = ("file", "values")
            measure = self.source.mapping(spec["measure"], _MEASURE, (*where, "measure"), required)
            for value, paths in measure["values"].items():
                if not paths or not isinstance(paths, (str, list)):
                    expected = "a path in the file, or a list of paths"
                    self.source.refuse((*where, "measure", "values", value), expected, repr(paths))
        options = self._options(name) if kind == TRAIN else {}
        command = tuple(map(str, spec.get("command", ())))
        data, files = spec.get("data", self.top["data"]), spec.get("files", {})
        used = [*train_options.words(options), *command, data, *texts(files)]
        return RunSpec(
            name=name,
            kind=kind,
            role=role,
            label=spec.get("label", name),
            seed=spec.get("seed"),
            folder=folder,
            needs=self._needs(name, used),
            teachers=self._teachers(name, options, files),
            data=data,
            options=options,
            files=files,
            of=spec.get("of", ""),
            command=command,
            measure=spec.get("measure", {}),
            paper=self._paper(name) if "paper" in spec else None,
        )

    def _paper(self, name: str) -> PaperRun:
        where = ("runs", name, "paper")
        paper = self.source.mapping(self.specs[name]["paper"], _RUN_PAPER, where)
        numbers: dict[str, dict[str, float]] = {"valid_ppl": {}, "downstream": {}}
        for part, key in (("valid_ppl", int), ("downstream", str)):
            for at, number in paper.get(part, {}).items():
                named = isinstance(at, key) and not isinstance(at, bool)
                if not named or str(at).startswith("-") or not _is_number(number):
                    expected = "a score by task"
                    if key is int:
                        expected = "PPL by update, a whole number without quotes"
                    self.source.refuse((*where, part, at), expected, f"{at!r}: {number!r}")
                numbers[part][str(at)] = float(number)
        return PaperRun(paper.get("name", ""), **numbers)

    def _kind(self, name: str) -> str:
        spec, where = self.specs[name], ("runs", name)
        kind = spec.get("kind", TRAIN)
        if kind not in _OF_KIND:
            self.source.refuse((*where, "kind"), f"one of {', '.join(_OF_KIND)}", repr(kind))
        wrong = set().union(*(keys for k, keys in _OF_KIND.items() if k != kind)) & set(spec)
        if wrong or not set(_NEEDED[kind]) <= set(spec):
            expected = "options for train, of for evaluate, command for command"
            self.source.refuse(where, f"kind: {kind} with {expected}", ", ".join(spec))
        if kind == EVALUATE and self.specs.get(spec["of"], {}).get("kind", TRAIN) != TRAIN:
            self.source.refuse((*where, "of"), "a training run", repr(spec["of"]))
        return kind

    def _options(self, name: str) -> dict[str, Any]:
        """Those of ``common``, of what it extends, and its own, later ones first."""
        models = self.top.get("models", {})
        layers: list[dict] = [self.specs[name].get("options", {})]
        places: list[tuple] = [("runs", name, "options")]
        seen = [name]
        while (base := self.specs.get(seen[-1], {}).get("extends")) is not None:
            where = ("runs", seen[-1], "extends")
            if base in models:
                layers.append(models[base])
                places.append(("models", base))
                break
            if base not in self.specs or base in seen:
                trained = {n for n, s in self.specs.items() if s.get("kind", TRAIN) == TRAIN}
                others = sorted((trained | set(models)) - set(seen))
                self.source.refuse(where, f"a run or model among {others}", repr(base))
            seen.append(base)
            layers.append(self.specs[base].get("options", {}))
            places.append(("runs", base, "options"))
        options = self.top.get("common", {})
        for layer in reversed(layers):
            options = merged(options, layer)
        train_options.check(self.source, options, [*places, ("common",)])
        return train_options.shortened(options, self.shorten)

    def _needs(self, name: str, used: list[str]) -> tuple[str, ...]:
        """Runs that come before this one: named in needs, teachers or of, or filled in."""
        spec, where = self.specs[name], ("runs", name)
        placeholders = [p for text in used for p in PLACEHOLDER.findall(text)]
        for unknown in [p for p in placeholders if "." not in p and p not in FILLED_IN]:
            known = ", ".join(f"{{{p}}}" for p in (*FILLED_IN, "runs.NAME"))
            self.source.refuse(where, f"placeholders among {known}", f"{{{unknown}}}")
        filled_in = [p.removeprefix("runs.") for p in placeholders if p.startswith("runs.")]
        listed = [
            self.source.items(spec.get(part, []), str, (*where, part))
            for part in ("needs", "teachers")
        ]
        named = [*chain(*listed), *filter(None, [spec.get("of")])]
        needs = dict.fromkeys([*named, *filled_in])
        for other in needs:
            if other not in self.specs or other == name:
                others = sorted(set(self.specs) - {name})
                self.source.refuse(where, f"other runs among {others}", repr(other))
        return tuple(needs)

    def _teachers(self, name: str, options: dict[str, Any], files: dict) -> tuple[str, ...]:
        """The runs that teach this one; all that its options and mixtures name must be listed."""
        teachers = tuple(self.specs[name].get("teachers", ()))
        named = [str(v) for k, v in options.items() if k.startswith("ki-teacher")]
        named += [text for text in texts(files) if text.endswith(".pt")]
        consulted = {p.removeprefix("runs.") for text in named for p in PLACEHOLDER.findall(text)}
        uncounted = sorted((consulted & set(self.specs)) - set(teachers))
        if uncounted:
            expected = f"teachers: [{', '.join(uncounted)}], so that their cost is counted"
            self.source.refuse(("runs", name), expected, f"teachers: {list(teachers)}")
        return teachers


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
