"""What can happen to a training, and how it is made to happen: kills, lost workers, full disks."""

import os
import random
import signal
import time
from dataclasses import dataclass


@dataclass
class Fault:
    """One blow.

    Args:
        how: "SIGKILL", "SIGTERM" (the whole process), "MemoryError" (raised in the forward pass),
            "worker" (the kernel kills a loader worker, as when memory runs out), or "ENOSPC"
            (the disk is full; for writes only).
        update: strike in the forward pass of the update after this many; or
        write: strike in the n-th file that this start writes, from 0, of those called
        name: (any, if it is empty), after
        fraction: of the bytes written; 1: all are written but the file has not its name yet; 2:
            it has just got it.
    """

    how: str
    update: int | None = None
    write: int | None = None
    name: str = ""
    fraction: float = 0.5


def random_fault(rng: random.Random, updates: range, workers: int) -> Fault:
    """A blow at one of these updates or near the writing of a checkpoint."""
    if rng.random() < 0.5:
        how = rng.choice(["SIGKILL", "SIGTERM", "MemoryError", *["worker"] * bool(workers)])
        return Fault(how, update=rng.choice(updates))
    how = rng.choice(["SIGKILL", "SIGTERM", "ENOSPC"])
    fraction = rng.choice([0.0, rng.random(), 1.0, 2.0][: 3 if how == "ENOSPC" else 4])
    return Fault(how, write=rng.randrange(6), fraction=fraction)


def inject(fault: Fault) -> None:
    """Let the fault happen in this process."""
    if fault.update is not None:
        _strike_in_update(fault)
    else:
        _strike_in_write(fault)


def _strike(fault: Fault) -> None:
    print(f"-- fault injected: {fault}", flush=True)
    if fault.how == "MemoryError":
        raise MemoryError("simulated")
    if fault.how == "ENOSPC":
        raise OSError(28, os.strerror(28))
    if fault.how == "worker":
        import multiprocessing

        # none is alive if all batches of the epoch have been read; then it is the main process
        victim = next(iter(multiprocessing.active_children()), None)
        os.kill(victim.pid if victim else os.getpid(), signal.SIGKILL)
        return
    os.kill(os.getpid(), getattr(signal, fault.how))
    time.sleep(60)


def _strike_in_update(fault: Fault) -> None:
    from fairseq_ki.criterions.ki import KICriterion
    from fairseq_ki.tasks._common import KITaskMixin

    forward, train_step, now = KICriterion.forward, KITaskMixin.train_step, []

    def counted(self, sample, model, criterion, optimizer, update_num, ignore_grad=False):
        now[:] = [update_num]
        return train_step(self, sample, model, criterion, optimizer, update_num, ignore_grad)

    def struck(self, model, sample, reduce=True):
        if self.training and now == [fault.update] and not done:
            done.append(True)
            _strike(fault)
        return forward(self, model, sample, reduce)

    done: list[bool] = []
    KITaskMixin.train_step, KICriterion.forward = counted, struck


def _strike_in_write(fault: Fault) -> None:
    from fairseq_ki.compat import checkpoint_writing

    started = []

    class Breaking:
        """A file that takes ``room`` bytes."""

        def __init__(self, file, room: int) -> None:
            self.file, self.room = file, room

        def write(self, data) -> int:
            data = bytes(data)
            if len(data) > self.room:
                self.file.write(data[: self.room])
                self.file.flush()
                _strike(fault)
            self.room -= len(data)
            return self.file.write(data)

        def __getattr__(self, name):
            return getattr(self.file, name)

        def __enter__(self):
            return self

        def __exit__(self, *error) -> None:
            self.file.close()

    size_of_a_checkpoint = 120_000  # a little under that of the tiny models

    def opened(path, mode="r", *rest):
        file = open(path, mode, *rest)  # noqa: SIM115
        if "w" not in mode:
            return file
        if os.path.basename(path).startswith(fault.name):
            started.append(path)
        hit = path in started[-1:] and len(started) == fault.write + 1 and fault.fraction < 1
        return Breaking(file, int(fault.fraction * size_of_a_checkpoint)) if hit else file

    replace = os.replace

    def renamed(source, target) -> None:
        hit = len(started) == fault.write + 1 and source == started[-1]  # a temporary name
        if hit and fault.fraction == 1:
            _strike(fault)
        replace(source, target)
        if hit and fault.fraction == 2:
            _strike(fault)

    checkpoint_writing.open = opened
    os.replace = renamed
