"""Nothing imports upward: the layers of the package, read from the sources."""

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parent.parent / "fairseq_ki"

# what each part may import of ours
ALLOWED = {
    "compat": set(),
    "checked_yaml": set(),
    "objective": set(),
    "store": set(),
    # convert: when a teacher is named hf:DIR, at that moment (tested below: not at import)
    "models": {"compat", "objective", "convert"},
    "optim": {"compat"},
    "teachers": {"compat", "objective", "store", "models"},
    "data": {"compat", "objective", "store", "models", "teachers"},
    # evaluation: the metrics that choose the best checkpoint of a fine-tuning are the report's
    "criterions": {"compat", "objective", "models", "teachers", "evaluation"},
    "tasks": {
        "compat",
        "checked_yaml",
        "objective",
        "store",
        "models",
        "teachers",
        "data",
        "criterions",
        "evaluation",
        "lineage",
    },
    # store: hashes of files, and whose logits a store holds
    "lineage": {"compat", "store", "models", "evaluation"},
    # lineage: by which hash a teacher is known
    "capture": {
        "compat",
        "objective",
        "store",
        "models",
        "teachers",
        "data",
        "tasks",
        "lineage",
    },
    "growth": {"compat", "objective", "models", "teachers"},
    "convert": {"compat", "objective", "models", "teachers", "lineage"},
    "evaluation": {"compat", "objective", "models", "teachers"},
    # store: what a capture has cost
    "experiments": {"compat", "checked_yaml", "evaluation", "store"},
    # experiments: commands with their noise in log files, resumable
    "downstream": {"compat", "evaluation", "experiments", "lineage"},
}
FREE_OF_FAIRSEQ = {"objective", "store"}
HEAVY = {"transformers", "matplotlib", "pandas", "sklearn", "scipy", "safetensors", "tokenizers"}
ON_THE_USER_DIR_PATH = {
    "compat", "objective", "store", "models", "optim", "teachers", "data", "criterions", "tasks",
    "lineage",
}  # fmt: skip


def imports(path: Path, top_level_only: bool = False) -> set[str]:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    found = set()
    for node in tree.body if top_level_only else ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def parts() -> dict[str, list[Path]]:
    found: dict[str, list[Path]] = {}
    for path in PACKAGE.rglob("*.py"):
        relative = path.relative_to(PACKAGE)
        if str(relative) != "__init__.py":
            found.setdefault(relative.parts[0].removesuffix(".py"), []).append(path)
    return found


@pytest.mark.parametrize("part", sorted(parts()))
def test_nothing_imports_upward(part):
    if part == "cli":
        return  # the top: may use everything
    assert part in ALLOWED, f"{part} has no place in the layers: give it one in ALLOWED"
    for path in parts()[part]:
        ours = {name.split(".")[1] for name in imports(path) if name.startswith("fairseq_ki.")} - {
            part,
            "__version__",
        }
        assert ours <= ALLOWED[part], f"{path.name} imports {ours - ALLOWED[part]}"


@pytest.mark.parametrize("part", sorted(FREE_OF_FAIRSEQ))
def test_objective_and_store_stand_alone(part):
    allowed_third_party = {"torch"} if part == "objective" else {"numpy"}
    for path in parts().get(part, []):
        third_party = {n.split(".")[0] for n in imports(path)} & {"torch", "fairseq", "numpy"}
        assert third_party <= allowed_third_party, path


@pytest.mark.parametrize("part", sorted(ON_THE_USER_DIR_PATH))
def test_the_user_dir_path_stays_light(part):
    for path in parts().get(part, []):
        assert not {n.split(".")[0] for n in imports(path, top_level_only=True)} & HEAVY, path
