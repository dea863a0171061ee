"""Kills trainings for as long as it is told to, and watches a long one for leaks.

    python tests/integration/soak.py --minutes 30 --seed 1

Two things run side by side. Small trainings of every kind of teacher, with 0 or 2 loader workers
and one or two ranks, are killed at random moments and started again until they are done; their
updates and last checkpoints have to be those of a training that was never killed, bit by bit. And
one training, of the kind --long, goes on from start to end; its own resident memory, without the
pages of files, may not grow by 1 MB in 1,000 updates, and its open files may not become more.

Prints a line for each training and a summary; the exit status is 1 if anything was not as it
should be. The seed fixes what is killed where, but for kills from outside after some seconds.
"""

import argparse
import importlib.util
import random
import re
import sys
import tempfile
import threading
import time
from pathlib import Path

import numpy as np

TESTS = Path(__file__).resolve().parents[1]
sys.path.append(str(TESTS.parent))  # a clone need not be installed

from harness.launcher import Ended, Launcher  # noqa: E402
from harness.survival import differences, survive  # noqa: E402
from harness.trainings import UPDATES, materials  # noqa: E402

SKIPPED = 200  # updates before memory is watched
MOST_GROWTH = 1.0  # MB in 1,000 updates


def data_bins(folder: Path) -> tuple[Path, Path]:
    """A small data-bin, and one with longer epochs."""
    spec = importlib.util.spec_from_file_location("shared", TESTS / "conftest.py")
    shared = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = shared
    spec.loader.exec_module(shared)
    small = shared.write_data_bin(folder / "small")
    return small, shared.write_data_bin(folder / "large", lines={"train": 2400, "valid": 40})


class LongRun(threading.Thread):
    """A training that nothing happens to, in a process of its own."""

    def __init__(self, kind: str, folder: Path, data: Path, minutes: float) -> None:
        super().__init__()
        folder.mkdir()
        self.launcher = Launcher(folder)
        # one shard: a reader opens shards as it needs them, and keeps up to 64 of them open
        kinds = materials(self.launcher, data, folder, samples_per_shard=10**6)
        self.gauge = folder / "gauge"
        self.arguments = (
            f"{kinds[kind]} --ki-schedule constant --ki-steps 0 --num-workers 2 "
            f"--ki-surpassed-window {10**9} "
            f"--save-dir {folder / 'save'} --no-epoch-checkpoints --log-interval 50 "
            f"--save-interval-updates 500 --validate-interval-updates 500 "
            f"--stop-time-hours {minutes / 60}"
        )
        self.minutes = minutes
        self.ended: list[Ended] = []

    def run(self) -> None:
        self.ended = self.launcher.run(
            self.arguments, gauge=self.gauge, timeout=60 * self.minutes + 300
        )
        self.launcher.close()

    def verdict(self) -> list[str]:
        """Prints what was measured; what was not as it should be."""
        if self.ended[0].status != 0:
            return [
                f"the long training ended with {self.ended[0].status}: {self.ended[0].log[-2000:]}"
            ]
        looks = np.loadtxt(self.gauge, ndmin=2)
        looks = looks[looks[:, 0] > SKIPPED]
        if len(looks) < 3:
            return [
                f"the long training came to {len(looks)} looks after {SKIPPED} updates; expected 3"
            ]
        updates, own, of_files, handles = looks.T
        slope, whole = np.polyfit(updates / 1000, np.stack([own, own + of_files], 1), 1)[0]
        print(
            f"long training: {updates[-1]:.0f} updates; memory of its own {own[0]:.1f} MB at "
            f"update {updates[0]:.0f}, {own[-1]:.1f} MB at the end, slope {slope:+.3f} MB per "
            f"1,000 updates ({whole:+.3f} with the pages of files); open files "
            f"{handles.min():.0f} to {handles.max():.0f}"
        )
        wrong = []
        if slope >= MOST_GROWTH:
            wrong.append(f"memory grows: expected less than {MOST_GROWTH} MB per 1,000 updates")
        if handles[-1] > handles[0]:
            wrong.append("open files: expected no more at the end than at the beginning")
        return wrong


def blows_of(killed: list[Ended]) -> str:
    """What happened to each start."""
    found = []
    for start in killed:
        fault = re.search(
            r"fault injected: Fault\(how='(\w+)', update=(\w+), write=(\w+)", start.log
        )
        if fault is None:
            found.append("SIGKILL from outside")
            continue
        how, update, write = fault.groups()
        found.append(f"{how} in update {update}" if update != "None" else f"{how} in write {write}")
    return ", ".join(found)


def kill_for(minutes: float, seed: int, data: Path, folder: Path) -> tuple[int, int, list[str]]:
    """Number of trainings, number of blows, and what came out otherwise."""
    rng, straight, trained, blows, wrong = random.Random(seed), {}, 0, 0, []
    launcher = Launcher(folder)
    kinds = materials(launcher, data, folder)
    deadline = time.monotonic() + 60 * minutes
    while time.monotonic() < deadline:
        kind, workers = rng.choice(sorted(kinds)), rng.choice([0, 2])
        options = {"updates": UPDATES, "workers": workers, "ranks": rng.choice([1, 1, 2])}
        key = (kind, *options.values())
        if key not in straight:
            place = folder / f"straight-{len(straight)}"
            straight[key] = survive(launcher, kinds[kind], place, **options)
        case = rng.randrange(10**6)
        name = f"{kind}, {workers} workers, {options['ranks']} ranks, seed {case}"
        place = folder / f"killed-{trained}"
        try:
            killed = survive(
                launcher, kinds[kind], place, blows=rng.randrange(2, 7), seed=case,
                from_outside=0.25, **options,
            )  # fmt: skip
        except AssertionError as error:
            wrong.append(f"{name}: {error}")
            print(wrong[-1], flush=True)
            continue
        trained, blows = trained + 1, blows + len(killed.killed)
        different = differences(straight[key].state, killed.state)
        if killed.updates != straight[key].updates:
            different.append("updates")
        if different:
            wrong.append(f"{name}: {', '.join(different[:5])}")
        print(
            f"{name}: {blows_of(killed.killed) or 'no blow struck'}: "
            f"{'DIFFERENT in ' + ', '.join(different[:5]) if different else 'same'}",
            flush=True,
        )
    launcher.close()
    return trained, blows, wrong


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=10.0, help="(default: 10)")
    parser.add_argument("--seed", type=int, default=1, help="(default: 1)")
    parser.add_argument(
        "--long",
        default="live",
        choices=("live", "store", "mixture", "causal live", "causal store"),
        help="teacher of the long training (default: live)",
    )
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        small, large = data_bins(folder)
        long_run = LongRun(args.long, folder / "long", large, args.minutes)
        long_run.start()
        (folder / "killed").mkdir()
        trained, blows, wrong = kill_for(args.minutes, args.seed, small, folder / "killed")
        long_run.join()
        print(f"{trained} trainings, {blows} kills and resumes, {len(wrong)} came out otherwise")
        wrong += long_run.verdict()
    for line in wrong:
        print(f"WRONG: {line}")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
