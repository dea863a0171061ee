"""The family tree of a model as text, and what it cost."""

from dataclasses import dataclass

from fairseq_ki.lineage.records import Lineage, Model, Parent

# in characters: a small file, which may come from anybody, can stand for a tree of gigabytes
_LONGEST_TREE = 4 << 20
_ROLES = {"teacher": "taught by", "start": "began as", "origin": "grown from"}


@dataclass(frozen=True)
class Costs:
    """FLOPs of a model and all its ancestors, each counted once.

    Args:
        training: forward and backward passes of the models themselves.
        teaching: forward passes of teachers in the training of others.
        unknown: ids of models of which some cost is not known.
    """

    training: float
    teaching: float
    unknown: tuple[str, ...]

    @property
    def total(self) -> float:
        return self.training + self.teaching


def costs(lineage: Lineage) -> Costs:
    """Add up what is known."""
    training = teaching = 0.0
    unknown = []
    for each in lineage.ancestors():
        model = lineage.models[each]
        training += model.flops or 0.0
        teaching += sum(parent.flops or 0.0 for parent in model.parents)
        missing = model.flops is None or any(parent.flops is None for parent in model.parents)
        if missing or _is_without_parents(each, model):
            unknown.append(each)
    return Costs(training, teaching, tuple(sorted(unknown)))


def _is_without_parents(identity: str, model: Model) -> bool:
    """Whether all that is left of a run is a checkpoint with its id, its lineage being lost."""
    return model.how == "checkpoint" and not identity.startswith("sha256-")


def tree(lineage: Lineage) -> str:
    """One line a model, its parents indented below it, and the total."""
    lines = [_described(lineage.own)]
    length = 0
    shown = {lineage.model}
    todo = _branches(lineage.own, "")
    while todo:
        parent, indent, is_last = todo.pop()
        model = lineage.models[parent.model]
        again = parent.model in shown and model.parents
        text = _described(model, "; its parents are above" if again else "")
        if length > _LONGEST_TREE:
            lines.append("...")
            break
        fork = "└─" if is_last else "├─"
        lines.append(f"{indent}{fork} {_ROLES[parent.role]} {parent.file}: {text}{_passes(parent)}")
        length += len(lines[-1])
        if parent.model not in shown:
            shown.add(parent.model)
            todo += _branches(model, indent + ("   " if is_last else "│  "))
    return "\n".join([*lines, _total(lineage)])


def _branches(model: Model, indent: str) -> list[tuple[Parent, str, bool]]:
    """(parent, what stands before its branch, whether it is the last one), the first one last."""
    count = len(model.parents)
    return [(p, indent, i == count - 1) for i, p in enumerate(model.parents)][::-1]


def _described(model: Model, note: str = "") -> str:
    parts = [model.arch or "unknown architecture"]
    if model.sizes.get("layers"):
        parts.append(f"{model.sizes['layers']} layers of {model.sizes.get('d_model', '?')}")
    if model.updates is not None:
        parts.append(f"{model.updates:,} updates")
    if model.how == "grown":
        parts.append("no training")
    elif model.how == "earlier":
        parts.append("counted as its later self")
    else:
        parts.append("FLOPs not known" if model.flops is None else f"{model.flops:.3g} FLOPs")
    return f"{model.name} ({', '.join(parts)}{note})"


def _passes(parent: Parent) -> str:
    if parent.role != "teacher":
        return ""
    if parent.flops is None:
        return ", FLOPs of its passes not known"
    return f", {parent.flops:.3g} FLOPs of its passes"


def _total(lineage: Lineage) -> str:
    found = costs(lineage)
    count = sum(lineage.models[each].how != "earlier" for each in lineage.ancestors())
    at_least = ", at least: some are not known" if found.unknown else ""
    return (
        f"total: {found.total:.3g} FLOPs of {count} model{'s' * (count != 1)}, each counted once "
        f"({found.training:.3g} training, {found.teaching:.3g} teachers' passes{at_least})"
    )
