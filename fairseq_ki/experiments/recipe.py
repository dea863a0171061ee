"""Recipes: the runs of an experiment in YAML, checked before anything is started.

    include: ../base.yaml           # its entries, under those of this file
    name: quickstart
    data: "{out}/data-bin"          # relative to the current directory
    seeds: [1]
    common:                         # options of fairseq-train, without the dashes
      task: ki_mlm
    models:                         # named options, for extends
      small: {arch: ..., lr: ...}
    runs:
      teacher: {role: teacher, extends: small, options: {max-update: 1200}}
      self:    {role: alone, options: {arch: ..., max-update: 600}}
      ki:
        role: inherited
        extends: self               # starts from the options of that run or model
        teachers: [teacher]         # whose cost counts
        options: {ki-teacher: "{runs.teacher}/checkpoint_best.pt"}
    compare: [{inherited: ki, alone: self}]
    tables: [...]                   # see experiments/claims.py
    findings: [...]
    scales:
      paper: {common: ...}          # merged over all of the above by --scale paper; a scale
                                    # may itself have ``extends: other-scale``. Its findings join
                                    # the recipe's, in whose place they stand by claim or rule

A value of ``true`` is a bare flag, ``null`` or ``false`` takes an inherited option away, a list
gives several values; a run that is ``null`` is left out. ``{out}``, ``{data}``, ``{corpora}`` (the
folder in which data is), ``{seed}``, ``{folder}`` (the run's own), ``{runs.NAME}`` (the folder of
another run, of the same seed) and ``{updates.N}`` (N, divided by what --shorten says) are filled
in. ``for`` writes one entry for many values: see experiments/repetition.py. docs/experiments.md has
all keys of a run.
"""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fairseq_ki.evaluation.results import Comparison
from fairseq_ki.evaluation.specs import PaperSaving
from fairseq_ki.experiments import options as train_options
from fairseq_ki.experiments.claims import checked_findings, checked_tables, joined
from fairseq_ki.experiments.recipe_file import RecipeFile, merged
from fairseq_ki.experiments.repetition import repeated
from fairseq_ki.experiments.run_specs import TRAIN, RunSpec, RunSpecs

_RECIPE = {
    "name": str,
    "title": str,
    "about": str,
    "data": str,
    "seeds": list,
    "launch": list,
    "common": dict,
    "models": dict,
    "runs": dict,
    "compare": list,
    "curves": list,
    "tables": list,
    "findings": list,
    "report-updates": list,
    "scales": dict,
}
_COMPARE = {"inherited": str, "alone": str, "paper": dict}
_COMPARE_PAPER = {"saving": float, "setting": str}


@dataclass(frozen=True)
class Recipe:
    """A checked recipe at one scale; its runs stand in an order in which they can be done.

    ``launch`` starts fairseq-train in place of this Python, such as ``torchrun``.
    """

    path: Path
    name: str
    title: str
    about: str
    data: str
    seeds: tuple[int, ...]
    launch: tuple[str, ...]
    runs: tuple[RunSpec, ...]
    compare: tuple[Comparison, ...]
    curves: tuple[str, ...]
    tables: tuple[dict[str, Any], ...]
    findings: tuple[dict[str, Any], ...]
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
        YamlFileError: naming the file, the line, what was expected and what was found.
    """
    if not 1 <= shorten < math.inf:
        raise ValueError(f"--shorten: expected a number of at least 1, found {shorten:g}")
    source = RecipeFile(path)
    top = source.mapping(source.data, _RECIPE, (), ("name", "data", "runs"))
    scales = top.pop("scales", {})
    left_out = {name for name, run in top["runs"].items() if run is None}
    general = top.get("findings", []) if scale else []
    if scale:
        if scale not in scales:
            source.refuse(("scales",), f"a scale among {sorted(scales)}", repr(scale))
        top = merged({**top, "findings": []}, _scale(source, scales, scale))
    top["runs"] = {
        name: run for name, run in top["runs"].items() if run is not None and name not in left_out
    }
    top = repeated(source, top)
    general = repeated(source, general, ("findings",))
    top["data"] = data or top["data"]
    runs = RunSpecs(source, top, shorten).in_order()
    names = {run.name for run in runs}
    trained = {run.name for run in runs if run.kind == TRAIN}
    updates = source.items(top.get("report-updates", []), int, ("report-updates",))
    if not top.get("seeds", [1]):
        source.refuse(("seeds",), "at least one seed", "none")
    return Recipe(
        path=path,
        name=top["name"],
        title=top.get("title", top["name"]),
        about=" ".join(top.get("about", "").split()),
        data=top["data"],
        seeds=tuple(source.items(top.get("seeds", [1]), int, ("seeds",))),
        launch=tuple(source.items(top.get("launch", []), str, ("launch",))),
        runs=tuple(runs),
        compare=tuple(_comparisons(source, top, trained)),
        curves=tuple(_curves(source, top, trained)),
        tables=tuple(checked_tables(source, top.get("tables", []), names)),
        findings=tuple(
            checked_findings(source, joined(top.get("findings", []), general, names), names)
        ),
        report_updates=tuple(dict.fromkeys(train_options.shorter(u, shorten) for u in updates)),
        scale=scale,
        shortened=shorten,
    )


def _scale(source: RecipeFile, scales: dict, name: str, above: tuple[str, ...] = ()) -> dict:
    """What a scale changes, on top of the scale that it extends."""
    where = ("scales", name)
    changes = source.mapping(scales[name], {**_RECIPE, "extends": str}, where)
    base = changes.pop("extends", None)
    if base is None:
        return changes
    if base not in scales or base in (name, *above):
        others = sorted(set(scales) - {name, *above})
        source.refuse((*where, "extends"), f"a scale among {others}", repr(base))
    return merged(_scale(source, scales, base, (*above, name)), changes)


def _comparisons(source: RecipeFile, top: dict, trained: set[str]) -> list[Comparison]:
    checked = []
    for i, entry in enumerate(top.get("compare", [])):
        where = ("compare", i)
        entry = source.mapping(entry, _COMPARE, where, ("inherited", "alone"))
        for arm in ("inherited", "alone"):
            if entry[arm] not in trained:
                expected = f"a training run among {sorted(trained)}"
                source.refuse((*where, arm), expected, repr(entry[arm]))
        paper = None
        if "paper" in entry:
            here = (*where, "paper")
            paper = PaperSaving(**source.mapping(entry["paper"], _COMPARE_PAPER, here, ("saving",)))
        checked.append(Comparison(entry["inherited"], entry["alone"], paper))
    return checked


def _curves(source: RecipeFile, top: dict, trained: set[str]) -> list[str]:
    """The arms whose curves are drawn; all of them where the recipe names none."""
    names = source.items(top.get("curves", []), str, ("curves",))
    for i, name in enumerate(names):
        if name not in trained:
            source.refuse(("curves", i), f"a training run among {sorted(trained)}", repr(name))
    return names
