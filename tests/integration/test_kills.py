"""A training that is killed again and again ends as the one that never was: bit by bit."""

import pytest
from harness.faults import Fault
from harness.survival import differences, final_state, survive, updates_of
from harness.trainings import UPDATES

from fairseq_ki import compat

# teacher, loader workers, ranks, blows, seed; make soak draws many more
KILLED = [
    ("live", 0, 1, 4, 1),
    ("causal store", 2, 1, 3, 2),
    ("mixture", 2, 1, 3, 3),
    ("store", 0, 2, 2, 4),
]


@pytest.fixture(scope="module")
def straight(launcher, trainings, tmp_path_factory):
    """Trainings that nothing happens to, each run once."""
    done = {}

    def run(kind: str, **options):
        key = (kind, *options.items())
        if key not in done:
            folder = tmp_path_factory.mktemp("straight") / "run"
            done[key] = survive(launcher, trainings[kind], folder, **options)
        return done[key]

    return run


@pytest.mark.parametrize(("kind", "workers", "ranks", "blows", "seed"), KILLED)
def test_a_killed_run_ends_as_if_nothing_had_happened(
    launcher, trainings, straight, tmp_path, kind, workers, ranks, blows, seed
):
    options = {"updates": UPDATES, "workers": workers, "ranks": ranks}
    straight = straight(kind, **options)
    killed = survive(
        launcher, trainings[kind], tmp_path / "killed", blows=blows, seed=seed, **options
    )
    assert len(killed.killed) == blows
    assert set(straight.updates) == set(range(1, UPDATES + 1))
    assert killed.updates == straight.updates
    assert differences(straight.state, killed.state) == []
    # the run went through what a resume has to get right
    taught = [update["teacher"] for update in straight.updates.values()]
    assert taught[0]
    assert not taught[-1]
    assert straight.state["extra_state"]["train_iterator"]["epoch"] >= 3


@pytest.mark.parametrize("how", ["SIGKILL", "ENOSPC"])
def test_a_write_that_fails_leaves_the_last_checkpoint_whole(launcher, trainings, tmp_path, how):
    command = f"{trainings['live']} --save-dir {tmp_path} --num-workers 0 --max-update 12"
    fault = Fault(how, write=1, name="checkpoint_last.pt", fraction=0.4)
    (ended,) = launcher.run(command, faults={0: fault})
    assert ended.status == (-9 if how == "SIGKILL" else 1), ended.log[-2000:]
    state = compat.load_checkpoint(tmp_path / "checkpoint_last.pt")
    assert state["optimizer_history"][-1]["num_updates"] == 5
    left = [path.name for path in tmp_path.glob("*.tmp")]
    assert bool(left) == (how == "SIGKILL")
    if how == "ENOSPC":
        assert "checkpoint_last.pt could not be written: No space left on device" in ended.log
        assert "Traceback" not in ended.log
    (ended,) = launcher.run(command)
    assert ended.status == 0, ended.log[-2000:]
    assert "Loaded checkpoint" in ended.log
    assert not list(tmp_path.glob("*.tmp"))


def test_a_checkpoint_cut_short_gives_way_to_the_newest_good_one(
    launcher, trainings, straight, tmp_path
):
    straight = straight("live", updates=UPDATES, workers=0, ranks=1)
    cut = tmp_path / "cut"
    (cut / "save").mkdir(parents=True)
    command = f"{trainings['live']} --save-dir {cut / 'save'} --num-workers 0 --max-update "
    (ended,) = launcher.run(command + "23", trace=cut / "trace.jsonl")
    assert ended.status == 0
    for name in ("checkpoint_last.pt", "checkpoint_2_20.pt"):
        path = cut / "save" / name
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    (ended,) = launcher.run(command + str(UPDATES), trace=cut / "trace.jsonl")
    assert ended.status == 0, ended.log[-2000:]
    assert "Going on from" in ended.log
    assert "checkpoint_2_20.pt cannot be read" in ended.log  # not passed over in silence
    assert updates_of(cut / "trace.jsonl") == straight.updates
    assert differences(straight.state, final_state(cut / "save")) == []


def test_a_surpassed_teacher_stays_let_go_when_the_data_start_over(launcher, trainings, tmp_path):
    """fairseq hands a task its state only where it restores the place in the data, too."""
    command = f"{trainings['live']} --save-dir {tmp_path / 'save'} --num-workers 0 --max-update "
    (ended,) = launcher.run(command + "30", trace=tmp_path / "first.jsonl")
    assert ended.status == 0, ended.log[-2000:]
    let_go = updates_of(tmp_path / "first.jsonl")[30]["inheritance"]
    assert let_go["let_go_at"] is not None
    (ended,) = launcher.run(f"{command}33 --reset-dataloader", trace=tmp_path / "again.jsonl")
    assert ended.status == 0, ended.log[-2000:]
    again = updates_of(tmp_path / "again.jsonl")
    assert set(again) == {31, 32, 33}
    assert all(u["inheritance"] == let_go and not u["teacher"] for u in again.values())
    # the updates start over, and so does the teacher
    resets = "--reset-optimizer --reset-lr-scheduler --reset-meters"
    (ended,) = launcher.run(f"{command}2 {resets}", trace=tmp_path / "anew.jsonl")
    assert ended.status == 0, ended.log[-2000:]
    anew = updates_of(tmp_path / "anew.jsonl")
    assert set(anew) == {1, 2}
    assert all(u["teacher"] and u["inheritance"]["let_go_at"] is None for u in anew.values())
