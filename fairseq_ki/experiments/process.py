"""A command run with its noise in a log file, watched while it writes."""

import fcntl
import os
import shutil
import signal
import subprocess
import sys
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from fairseq_ki.experiments.progress import Progress

POLL_SECONDS = 0.5
GRACE_SECONDS = 20.0
LOCK = "lock"


class RunError(RuntimeError):
    """A command of an experiment that failed."""


class Terminated(Exception):
    """The driver was told to stop by a signal."""


def run_logged(command: list[str], log: Path, progress: Progress) -> float:
    """Run a command to its end; its output is appended to ``log``. Returns its seconds.

    Raises:
        RunError: with the last lines of the log, if it fails, or if an earlier process still
            works in this folder (its driver was killed, it was not).
        KeyboardInterrupt, Terminated: after the command was stopped.
    """
    begun = time.monotonic()
    with _locked(log.parent) as lock, open(log, "ab") as output, open(log, "rb") as written:
        for earlier in written:
            progress.remember(earlier.decode(errors="replace"))
        # a killed process may have left half a line
        output.write(b"\n" if output.tell() else b"")
        output.flush()
        with _signals_as_exceptions():
            try:
                child = subprocess.Popen(
                    _found(command),
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=subprocess.STDOUT,
                    env=_environment(),
                    pass_fds=(lock,),
                )
            except OSError as e:
                raise RunError(f"expected a command, {command[0]!r} cannot be run: {e}") from None
            try:
                lines = _Lines(written)
                while child.poll() is None:
                    for line in lines.new():
                        progress.feed(line)
                    progress.tick()
                    time.sleep(POLL_SECONDS)
                for line in lines.new():
                    progress.feed(line)
            except BaseException:
                _stop(child)
                raise
    if child.returncode != 0:
        progress.end(f"FAILED with exit status {child.returncode}")
        raise RunError(
            f"{progress.title} failed with exit status {child.returncode}; "
            f"the last lines of {log}:\n{tail(log)}"
        )
    return time.monotonic() - begun


class _Lines:
    """Whole lines of a file that grows; a line that is still being written waits."""

    def __init__(self, file) -> None:
        self.file, self.rest = file, b""

    def new(self) -> Iterator[str]:
        *lines, self.rest = (self.rest + self.file.read()).split(b"\n")
        for line in lines:
            yield line.decode(errors="replace")


def tail(log: Path, lines: int = 20) -> str:
    """The last lines of a log, without the runs of blanks that progress leaves."""
    with open(log, encoding="utf-8", errors="replace") as file:
        newest = deque((line.rstrip() for line in file if line.strip()), maxlen=lines)
    return "\n".join(f"    {line[:2000]}" for line in newest)


def wait_until_free(folder: Path, title: str) -> None:
    """Return when no process works in a folder, at once where there is none."""
    told = False
    while (folder / LOCK).is_file():
        with open(folder / LOCK, "rb") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
                return
            except BlockingIOError:
                pass
        if not told:
            print(f"{title}: another experiment is at it; waiting for its end", flush=True)
            told = True
        time.sleep(10 * POLL_SECONDS)


def delete_run(folder: Path) -> None:
    """Delete the folder of a run.

    Raises:
        RunError: if a process still works there, which would write into the next run's folder.
    """
    with _locked(folder):
        shutil.rmtree(folder)


@contextmanager
def _locked(folder: Path) -> Iterator[int]:
    # the child inherits the lock, so it outlives a driver that is killed
    lock = os.open(folder / LOCK, os.O_CREAT | os.O_RDWR)
    try:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise RunError(
                f"{folder}: expected no process at work there, but an earlier one still holds "
                f"{LOCK}; wait for its end (see {folder / 'train.log'}) or stop it"
            ) from None
        yield lock
    finally:
        os.close(lock)


@contextmanager
def _signals_as_exceptions() -> Iterator[None]:
    """SIGTERM and SIGHUP stop the command too, as Ctrl-C does."""

    def stop(number, frame):
        raise Terminated(signal.Signals(number).name)

    handled = (signal.SIGTERM, signal.SIGHUP)
    before = [signal.signal(s, stop) for s in handled]
    try:
        yield
    finally:
        for number, handler in zip(handled, before):
            signal.signal(number, handler)


def _stop(child: subprocess.Popen) -> None:
    child.terminate()
    try:
        child.wait(GRACE_SECONDS)
    except subprocess.TimeoutExpired:
        child.kill()
        child.wait()


def _environment() -> dict[str, str]:
    """Ours, with the scripts of this Python found first, activated or not."""
    scripts = os.path.dirname(sys.executable)
    return {**os.environ, "PATH": os.pathsep.join([scripts, os.environ.get("PATH", "")])}


def _found(command: list[str]) -> list[str]:
    """The first word with its path, looked up where the child would."""
    return [shutil.which(command[0], path=_environment()["PATH"]) or command[0], *command[1:]]
