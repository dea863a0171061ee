"""``fairseq-ki doctor``: can this machine train? If not, what mends it?

Looks at versions, devices, disks and launchers, and then trains: a teacher and two updates of a
student of its, through fairseq's own entry point, on data made on the spot.

Where the package itself cannot be imported, ``python fairseq_ki/cli/doctor.py`` still says why:
this file imports nothing of torch, fairseq or ours before a check needs it.
"""

import argparse
import importlib
import importlib.metadata
import importlib.util
import json
import os
import shutil
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

PACKAGE = Path(__file__).resolve().parent.parent
LOW_DISK = 2 * 2**30
LAUNCHER = ("MASTER_ADDR", "MASTER_PORT", "WORLD_SIZE", "RANK")
NETWORK_FILE_SYSTEMS = (
    "nfs", "nfs4", "cifs", "smb3", "smbfs", "9p", "afs", "beegfs", "ceph", "glusterfs", "lustre",
)  # fmt: skip
INSTALL_FAIRSEQ = (
    "pip uninstall -y fairseq fairseq-fixed && "
    "pip install --force-reinstall --no-deps ve-fairseq==0.12.3"
)


@dataclass(frozen=True)
class Finding:
    """One thing looked at. ``status`` is "ok", "warning" or "problem"; the last two say a mend."""

    name: str
    found: str
    status: str = "ok"
    mend: str = ""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of the verb."""
    parser.add_argument(
        "--save-dir", default=".", metavar="DIR", help="where checkpoints would go (default: here)"
    )
    parser.add_argument("--store", metavar="DIR", help="a store of teacher logits, or its place")
    parser.add_argument("--json", action="store_true", help="print one JSON object")


def run(args: argparse.Namespace) -> int:
    """Prints what was found; 0 if this machine can train, 1 otherwise."""
    findings = list(examine(args.save_dir, args.store))
    can_train = all(finding.status != "problem" for finding in findings)
    if args.json:
        checks = [asdict(finding) for finding in findings]
        print(json.dumps({"can_train": can_train, "checks": checks}, indent=2))
    else:
        for finding in findings:
            print(f"{finding.status:8} {finding.name}: {finding.found}")
            if finding.mend:
                print(f"{'':8} -> {finding.mend}")
        print("this machine can train" if can_train else "this machine cannot train yet")
    return 0 if can_train else 1


def examine(save_dir: str, store: str | None) -> Iterator[Finding]:
    """All checks, in the order of what depends on what; one that fails hides no other."""
    checks: dict[str, Callable[[], Iterator[Finding]]] = {
        "Python": check_python,
        "libraries": check_libraries,
        "fairseq": check_fairseq,
        "apex": check_apex,
        "devices": check_devices,
        "disk": lambda: check_disk(save_dir),
        "launcher": lambda: check_launcher(os.environ),
        "store": lambda: check_store(store),
        "fairseq_ki": check_patches,
        "training": check_training,
    }
    for name, check in checks.items():
        try:
            yield from check()
        except Exception as error:
            yield Finding(
                name,
                f"{type(error).__name__}: {error}",
                "problem",
                "mend what is said above, or install anew: pip install --force-reinstall .",
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


def check_devices() -> Iterator[Finding]:
    """GPUs, cores and threads, and the number formats that follow from them."""
    import torch

    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    yield Finding("CPU", f"{cores} cores, {torch.get_num_threads()} threads per process")
    for i in range(torch.cuda.device_count()):
        device = torch.cuda.get_device_properties(i)
        yield Finding(f"GPU {i}", f"{device.name}, {device.total_memory / 2**30:.1f} GiB")
    if torch.cuda.is_available():
        yield Finding("number formats", "float32, --fp16, --amp, --bf16")
    else:
        yield Finding("GPU", "none: training runs on the CPU")
        yield Finding("number formats", "float32, --bf16 (--fp16 and --amp need a GPU)")


def check_disk(save_dir: str) -> Iterator[Finding]:
    """Room for checkpoints, and the right to write them."""
    place = _existing_parent(Path(save_dir))
    free = shutil.disk_usage(place).free
    found = f"{free / 2**30:.1f} GiB free for {Path(save_dir).resolve()}"
    if not os.access(place, os.W_OK):
        yield Finding(
            "disk", f"{place} is not writable", "problem", "name another place with --save-dir"
        )
    elif free < LOW_DISK:
        yield Finding(
            "disk", found, "warning",
            "a checkpoint of RoBERTa base takes 1.5 GB: free some space, or use "
            "--no-epoch-checkpoints and --keep-interval-updates 1",
        )  # fmt: skip
    else:
        yield Finding("disk", found)


def _existing_parent(path: Path) -> Path:
    path = path.resolve()
    while not path.exists():
        path = path.parent
    return path


def check_launcher(environment) -> Iterator[Finding]:
    """Whether torchrun's variables are there, all of them, and fit this machine."""
    present = {name: environment[name] for name in LAUNCHER if environment.get(name)}
    if not present:
        yield Finding("launcher", "none: one process (for more on the CPU, use torchrun)")
        return
    found = " ".join(f"{name}={value}" for name, value in present.items())
    missing = [name for name in LAUNCHER if name not in present]
    if missing:
        yield Finding(
            "launcher", f"{found}, but no {', '.join(missing)}: ranks would not find each other",
            "problem", f"unset {' '.join(present)}, and start with torchrun",
        )  # fmt: skip
        return
    import torch

    here = int(environment.get("LOCAL_WORLD_SIZE") or present["WORLD_SIZE"])
    gpus, cores = torch.cuda.device_count(), os.cpu_count() or 1
    if gpus and here > gpus:
        yield Finding(
            "launcher", f"{found}: {here} processes here, and {gpus} GPUs", "problem",
            f"torchrun --nproc-per-node {gpus}, or add --cpu",
        )  # fmt: skip
    elif not gpus and here > cores:
        yield Finding(
            "launcher", f"{found}: {here} processes here, and {cores} cores", "warning",
            f"torchrun --nproc-per-node {cores}",
        )  # fmt: skip
    else:
        yield Finding("launcher", f"{found}: fits")


def file_system(path: Path, mounts: str) -> str:
    """The type of the file system that holds ``path``, from the text of /proc/mounts."""
    best, kind = Path(), "unknown"
    for line in mounts.splitlines():
        _, point, found, *_ = line.split()
        mount = Path(point.replace("\\040", " "))
        if path.is_relative_to(mount) and len(mount.parts) >= len(best.parts):
            best, kind = mount, found
    return kind


def check_store(store: str | None) -> Iterator[Finding]:
    """Loader workers read a store at random places, a sample at a time."""
    if store is None:
        return
    place = _existing_parent(Path(store))
    mounts = Path("/proc/mounts")
    kind = file_system(place, mounts.read_text()) if mounts.exists() else "unknown"
    if kind in NETWORK_FILE_SYSTEMS or kind.startswith("fuse"):
        yield Finding(
            "store", f"{store} is on a network mount ({kind})", "warning",
            "copy the store to a local disk: it is read at random places, a sample at "
            "a time, and training stops when the mount does",
        )  # fmt: skip
    else:
        yield Finding("store", f"{store} is on {kind}")


def check_patches() -> Iterator[Finding]:
    """What of the host is patched, and why."""
    for name, reason in importlib.import_module("fairseq_ki.compat").active_patches():
        yield Finding(f"patch: {name}", reason)


def check_training() -> Iterator[Finding]:
    """Two updates of a student that inherits from a teacher; nothing says more than that."""
    trial = importlib.import_module("fairseq_ki.cli._training_trial").train()
    if trial.failure:
        yield Finding(
            "training", f"failed: {trial.failure}", "problem",
            "mend the problems above first; if there are none, report this with the output of "
            "fairseq-ki doctor --json",
        )  # fmt: skip
    else:
        yield Finding("training", f"two updates with a teacher: {trial.progress}")


if __name__ == "__main__":
    sys.path[0] = str(PACKAGE.parent)  # it was this folder, whose names could hide others
    _parser = argparse.ArgumentParser(prog="doctor.py", description=__doc__.splitlines()[0])
    add_arguments(_parser)
    sys.exit(run(_parser.parse_args()))
