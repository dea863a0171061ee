"""Who writes which shards: this process, several on this machine, or all that torchrun started."""

import multiprocessing
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
from torch import distributed
from torch.multiprocessing.spawn import ProcessExitedException, ProcessRaisedException, spawn

from fairseq_ki.capture.progress import Progress
from fairseq_ki.capture.session import CaptureSettings, Session
from fairseq_ki.capture.writing import write_shards
from fairseq_ki.compat.cpu_ranks import launched_ranks
from fairseq_ki.store import Manifest, Plan, StoreWriter

MOST_WORKERS = 1024
_POLL_SECONDS = 0.2

# Each holds the teacher, so more are left to whoever knows how much memory there is.
_MOST_UNASKED = 4

# What one of several refuses fits into a pipe, or it would wait for a parent that does not read.
_LONGEST_REFUSAL = 4096


def check_parallel(workers: int | None) -> None:
    """Refuse numbers of processes that make no sense; None leaves the number to us."""
    if workers is None:
        return
    if not 1 <= workers <= MOST_WORKERS:
        raise ValueError(f"--workers: expected 1 to {MOST_WORKERS}, found {workers}")
    if workers > 1 and launched_ranks() > 1:
        raise ValueError(
            f"--workers {workers}: torchrun started {launched_ranks()} processes already: "
            "expected 1; leave --workers out, or torchrun"
        )


def default_workers(kind: str, shards: int) -> int:
    """Processes for a capture whose user named no number, each with at least one shard.

    On a CPU several with a thread each: reading, selecting and writing then scale as the forward
    pass does, while one process's threads share that pass alone.
    """
    if kind == "cuda" or launched_ranks() > 1:
        return 1
    return max(1, min(torch.get_num_threads(), shards, _MOST_UNASKED))


def device_of(kind: str, rank: int) -> str:
    """The device of one of several processes on a machine, in turn where there are several."""
    return f"cuda:{rank % torch.cuda.device_count()}" if kind == "cuda" else kind


def launched_device(kind: str) -> str:
    """The device of this process, which torchrun may have started beside others."""
    return device_of(kind, int(os.environ.get("LOCAL_RANK", 0)))


def write_here(
    out: Path,
    session: Session,
    plan: Plan,
    progress: Progress | None,
    rank: int = 0,
    world_size: int = 1,
) -> Manifest | None:
    """Capture in this process: alone, or its part within :func:`launched_group`.

    Returns:
        the manifest in rank 0, None in the others.
    """
    writer = StoreWriter(out, plan, rank, world_size)
    if world_size > 1:
        distributed.barrier()  # all have begun, so nobody comes late to a finished store
    count = _counter(progress, writer, rank, world_size)
    write_shards(writer, session.splits, session.teacher, session.settings.batch_size, count)
    if progress is not None:
        progress.end()
    if world_size > 1:
        distributed.barrier()
    return writer.finalize() if rank == 0 else None


def write_with_workers(
    out: Path,
    settings: CaptureSettings,
    plan: Plan,
    workers: int,
    progress: Progress,
) -> Manifest:
    """Capture in several new processes, which share the threads (or GPUs) of this machine.

    Raises:
        ValueError: for what one of them refuses, or if it is killed; what was written stays and
            is resumed.
    """
    writer = StoreWriter(out, plan)
    count = _counter(progress, writer, 0, 1)
    threads = max(1, torch.get_num_threads() // workers)
    context = multiprocessing.get_context("spawn")
    written, refused = context.Value("q", 0), context.SimpleQueue()
    arguments = (str(out), settings, plan, workers, threads, written, refused)
    processes = spawn(_work, arguments, nprocs=workers, join=False, daemon=True)
    seen = 0
    try:
        while not processes.join(timeout=_POLL_SECONDS):
            seen, before = written.value, seen
            count(seen - before)
    except ProcessExitedException as error:
        raise ValueError(
            f"a process of the capture ended ({error}): expected all {workers} to finish. If it "
            "was killed for memory, use fewer --workers; the same command goes on from here"
        ) from error
    except ProcessRaisedException as error:
        if refused.empty():  # a fault of ours, with its traceback
            raise
        raise ValueError(refused.get()) from error
    count(written.value - seen)
    progress.end()
    return writer.finalize()


def _counter(
    progress: Progress | None, writer: StoreWriter, rank: int, world_size: int
) -> Callable[[int], None]:
    """Starts the progress of one rank's shards; gives what tells it of samples written."""
    if progress is None:
        return lambda samples: None
    own = sum(s.samples for n, s in enumerate(writer.plan.shards()) if n % world_size == rank)
    progress.start(own, own - sum(shard.samples for shard in writer.pending()))
    return progress.add


def _work(
    rank: int,
    out: str,
    settings: CaptureSettings,
    plan: Plan,
    workers: int,
    threads: int,
    written: Any,
    refused: Any,
) -> None:
    """One of several: writes its shards, and tells what the user can mend as one line."""
    try:
        _write_part(rank, out, settings, plan, workers, threads, written)
    except (ValueError, OSError) as error:
        refused.put(str(error)[:_LONGEST_REFUSAL])
        raise


def _write_part(
    rank: int,
    out: str,
    settings: CaptureSettings,
    plan: Plan,
    workers: int,
    threads: int,
    written: Any,
) -> None:
    torch.set_num_threads(threads)
    session = Session.open(settings, device_of(settings.device, rank))
    writer = StoreWriter(out, plan, rank, workers)

    def count(samples: int) -> None:
        if not multiprocessing.parent_process().is_alive():
            os._exit(1)  # whoever resumes should have the machine for itself
        with written.get_lock():
            written.value += samples

    write_shards(writer, session.splits, session.teacher, settings.batch_size, count)


@contextmanager
def launched_group() -> Iterator[tuple[int, int]]:
    """Connect the processes that torchrun started; gives this one's rank and their number."""
    # the slowest process may need long after the fastest has finished
    distributed.init_process_group("gloo", timeout=timedelta(days=30))
    try:
        yield distributed.get_rank(), distributed.get_world_size()
    finally:
        distributed.destroy_process_group()
