"""Trainings that are killed until they are done, compared with ones that never were."""

import json
import random
from dataclasses import dataclass
from pathlib import Path

from harness.faults import random_fault
from harness.launcher import Ended, Launcher


def updates_of(trace: Path) -> dict[int, dict]:
    """The updates of all starts of a run, by their number.

    Raises AssertionError where an update that was done again, after a resume, came out otherwise.
    """
    done: dict[int, dict] = {}
    for line in trace.read_text().splitlines():
        update = json.loads(line)
        before = done.setdefault(update["update"], update)
        assert before == update, f"update {update['update']} came out otherwise when done again"
    return done


# of the meters, what depends on the clock
CLOCKS = ("wall", "wps", "ups", "seconds", "share", "gb_free")


def differences(one, two, where: str = "") -> list[str]:
    """The places in which two checkpoints differ, but for measured times and paths."""
    import torch

    if type(one) is not type(two):
        return [f"{where}: {type(one).__name__} and {type(two).__name__}"]
    if isinstance(one, torch.Tensor):
        same = one.dtype == two.dtype and torch.equal(one, two)
        return [] if same else [where]
    if isinstance(one, dict):
        if one.keys() != two.keys():
            return [f"{where}: keys {one.keys() ^ two.keys()}"]
        return [x for key in one for x in differences(one[key], two[key], f"{where}/{key}")]
    if isinstance(one, (list, tuple)):
        if len(one) != len(two):
            return [f"{where}: {len(one)} and {len(two)} entries"]
        if len(one) == 4 and isinstance(one[1], str) and any(c in one[1] for c in CLOCKS):
            return []  # a meter
        return [x for i in range(len(one)) for x in differences(one[i], two[i], f"{where}/{i}")]
    return [] if one == two or one != one else [f"{where}: {one!r} and {two!r}"]


def final_state(save_dir: Path) -> dict:
    """What the last checkpoint holds, but for the options (paths), wall time and history."""
    from fairseq_ki.compat import load_checkpoint

    state = load_checkpoint(save_dir / "checkpoint_last.pt")
    del state["cfg"], state["args"], state["extra_state"]["previous_training_time"]
    state["optimizer_history"] = state["optimizer_history"][-1:]  # one entry per start
    for task_state in state["extra_state"].values():
        if isinstance(task_state, dict) and "lineage" in task_state:
            _without_identity(task_state["lineage"])
    # the others count over the whole run, of which fairseq makes no use and restores nothing
    state["extra_state"]["metrics"] = state["extra_state"]["metrics"]["train"]
    return state


def _without_identity(lineage: dict) -> None:
    """Leaves out a run's id, which is drawn once for each, and when it was written."""
    tree = lineage["tree"]
    own = tree["models"].pop(lineage.pop("id"))
    assert tree.pop("model") not in tree["models"]
    del own["written"]
    tree["own"] = own


@dataclass
class Survivor:
    """A training that was killed again and again, and then came to its end."""

    updates: dict[int, dict]
    state: dict
    killed: list[Ended]


def survive(
    launcher: Launcher,
    arguments: str,
    folder: Path,
    *,
    updates: int,
    blows: int = 0,
    seed: int = 0,
    ranks: int = 1,
    workers: int = 0,
    from_outside: float = 0.0,
) -> Survivor:
    """Train to ``updates``; while there are blows left, one of the ranks gets one in each start.

    Args:
        from_outside: the share of blows that are a SIGKILL after a random time instead, wherever
            the processes are then; how a run with such blows goes depends on the machine's speed.

    Raises AssertionError where a start fails without a blow.
    """
    rng, trace, killed = random.Random(seed), folder / "trace.jsonl", []
    command = (
        f"{arguments} --save-dir {folder / 'save'} --max-update {updates} --num-workers {workers}"
    )
    folder.mkdir()
    trace.touch()
    while True:
        faults, kill_after = {}, None
        reached = max(updates_of(trace), default=0)
        if len(killed) < blows and reached < updates:
            if rng.random() < from_outside:
                kill_after = rng.uniform(0.2, 5.0)
            else:
                fault = random_fault(rng, range(reached, updates), workers)
                faults = {rng.randrange(ranks): fault}
        ended = launcher.run(
            command, ranks=ranks, faults=faults, trace=trace, kill_after=kill_after
        )
        if all(rank.status == 0 for rank in ended):
            if not faults and not kill_after:
                return Survivor(updates_of(trace), final_state(folder / "save"), killed)
            continue
        assert faults or kill_after, ended[0].log[-3000:]
        killed.append(ended[next(iter(faults), 0)])
