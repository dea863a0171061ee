"""Checks of ``fairseq-ki doctor``: devices, disks, and who starts the processes."""

import os
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path

from fairseq_ki.cli._findings import Finding

LOW_DISK = 2 * 2**30
LAUNCHER = ("MASTER_ADDR", "MASTER_PORT", "WORLD_SIZE", "RANK")
NETWORK_FILE_SYSTEMS = (
    "nfs", "nfs4", "cifs", "smb3", "smbfs", "9p", "afs", "beegfs", "ceph", "glusterfs", "lustre",
)  # fmt: skip


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


def check_launcher(environment: Mapping[str, str]) -> Iterator[Finding]:
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
    if not all(present[name].isdecimal() for name in ("WORLD_SIZE", "RANK", "MASTER_PORT")) or (
        int(present["RANK"]) >= int(present["WORLD_SIZE"])
    ):
        yield Finding(
            "launcher", f"{found}: no launcher sets these; ranks would wait for ever", "problem",
            f"unset {' '.join(present)}, and start with torchrun",
        )  # fmt: skip
        return
    import torch

    local = environment.get("LOCAL_WORLD_SIZE", "")
    here = int(local if local.isdecimal() else present["WORLD_SIZE"])
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
