"""Checks of ``fairseq-ki doctor``: Python and what is installed in it.

Imports nothing of torch, fairseq or ours before a check needs it: they may be what is broken.
"""

import importlib
import importlib.metadata
import importlib.util
import sys
from collections.abc import Iterator
from pathlib import Path

from fairseq_ki.cli._findings import Finding

INSTALL_FAIRSEQ = (
    "pip uninstall -y fairseq fairseq-fixed && "
    "pip install --force-reinstall --no-deps ve-fairseq==0.12.3"
)


def check_python() -> Iterator[Finding]:
    """fairseq's wheels exist for two versions."""
    version = sys.version.split()[0]
    if (3, 11) <= sys.version_info < (3, 13):
        yield Finding("Python", version)
    else:
        yield Finding("Python", version, "problem", "use Python 3.11 or 3.12 in a new venv")


def _version(distribution: str) -> str | None:
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return None


def check_libraries() -> Iterator[Finding]:
    """What training needs beside fairseq."""
    for name, need in (
        ("torch", "torch>=2.6,<2.14"),
        ("numpy", "numpy>=1.26"),
        ("sentencepiece", "sentencepiece>=0.2"),
    ):
        version = _version(name)
        if version is None:
            yield Finding(name, "not installed", "problem", f"pip install '{need}'")
        elif name == "torch" and tuple(map(int, version.split(".")[:2])) < (2, 6):
            yield Finding(name, version, "problem", f"pip install '{need}'")
        else:
            yield Finding(name, version)
    if _version("tensorboard") or _version("tensorboardX"):
        yield Finding("TensorBoard writer", "available")
    else:
        yield Finding(
            "TensorBoard writer", "none: --tensorboard-logdir would write nothing", "warning",
            "pip install tensorboard",
        )  # fmt: skip


def check_fairseq() -> Iterator[Finding]:
    """Which of the distributions that call themselves fairseq is imported, and whether it can."""
    providers = sorted(set(importlib.metadata.packages_distributions().get("fairseq", [])))
    names = ", ".join(f"{name} {_version(name)}" for name in providers)
    if not providers and importlib.util.find_spec("fairseq") is None:
        yield Finding("fairseq", "not installed", "problem", "pip install ve-fairseq==0.12.3")
        return
    try:
        importlib.import_module("fairseq")
    except Exception as error:
        yield Finding(
            "fairseq",
            f"{names or 'a source folder'} cannot be imported: {type(error).__name__}: {error}",
            "problem",
            f"the official fairseq fails on Python >= 3.11: {INSTALL_FAIRSEQ}",
        )
        return
    if len(providers) > 1:
        yield Finding(
            "fairseq", f"{names}, over each other", "warning",
            f"keep one: {INSTALL_FAIRSEQ}",
        )  # fmt: skip
    else:
        yield Finding("fairseq", names or "a source folder, not installed")


def check_apex() -> Iterator[Finding]:
    """NVIDIA's apex is no need; the package of that name on the index is another thing."""
    spec = importlib.util.find_spec("apex")
    if spec is None:
        yield Finding("apex", "none (not needed: see docs/apex.md)")
        return
    folders = [Path(folder) for folder in spec.submodule_search_locations or []]
    if any((folder / "normalization").is_dir() for folder in folders):
        kernels = "with" if importlib.util.find_spec("amp_C") else "without"
        yield Finding("apex", f"NVIDIA's, {kernels} its CUDA kernels")
    else:
        yield Finding(
            "apex",
            "not NVIDIA's: the package index has a web framework of that name",
            "warning",
            "pip uninstall apex (fairseq works without; docs/apex.md says how to get NVIDIA's)",
        )
