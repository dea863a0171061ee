"""A run whose checkpoint_last.pt is damaged goes on from the newest good one."""

import logging
import os
import shutil

import pytest
import torch

from fairseq_ki import compat
from fairseq_ki.compat.checkpoint_recovery import repair_last_checkpoint

PLAIN = "--task masked_lm --criterion masked_lm"


@pytest.fixture(scope="module")
def finished(fairseq_train, data_bin, tmp_path_factory):
    """Six updates, with a checkpoint at 2 and 4, in which checkpoint_last.pt is of 6."""
    save_dir = tmp_path_factory.mktemp("finished")
    fairseq_train(data_bin, save_dir, f"{PLAIN} --max-update 6 --save-interval-updates 2")
    return save_dir


@pytest.fixture
def save_dir(finished, tmp_path):
    shutil.copytree(finished, tmp_path / "run")
    os.remove(tmp_path / "run" / "checkpoint_1_6.pt")
    return tmp_path / "run"


def cut(path):
    path.write_bytes(path.read_bytes()[:5000])


def test_goes_on_from_the_newest_good_checkpoint(
    save_dir, finished, fairseq_train, data_bin, caplog
):
    cut(save_dir / "checkpoint_last.pt")
    shutil.copy(save_dir / "checkpoint_1_4.pt", save_dir / "checkpoint_1_9.pt")
    cut(save_dir / "checkpoint_1_9.pt")  # the newest by its name, and damaged too
    (save_dir / "checkpoint_1_6.pt.tmp").write_bytes(b"half")
    with caplog.at_level(logging.WARNING):
        run = fairseq_train(data_bin, save_dir, f"{PLAIN} --max-update 6")
    assert "checkpoint_1_4.pt (4 updates) instead" in caplog.text
    assert [r["num_updates"] for r in run.train] == ["5", "6"]
    for key, value in torch.load(finished / "checkpoint_last.pt")["model"].items():
        torch.testing.assert_close(run.state()["model"][key], value, rtol=0, atol=0)
    assert (save_dir / "checkpoint_last.pt.damaged").stat().st_size == 5000
    assert not (save_dir / "checkpoint_1_6.pt.tmp").exists()


def test_a_first_one_that_was_being_written_gives_way_too(
    save_dir, fairseq_train, data_bin, caplog
):
    """Killed in the first copy: fairseq would find no checkpoint_last.pt and start from scratch."""
    (save_dir / "checkpoint_last.pt").rename(save_dir / "checkpoint_last.pt.tmp")
    cut(save_dir / "checkpoint_last.pt.tmp")
    with caplog.at_level(logging.WARNING):
        run = fairseq_train(data_bin, save_dir, f"{PLAIN} --max-update 6")
    assert "checkpoint_last.pt was not finished" in caplog.text
    assert [r["num_updates"] for r in run.train] == ["5", "6"]
    assert not list(save_dir.glob("*.tmp"))


def test_a_missing_one_is_a_new_start(save_dir):
    (save_dir / "checkpoint_last.pt").unlink()
    assert repair_last_checkpoint(str(save_dir)) is None


def test_a_good_one_is_left_alone(save_dir):
    before = {p.name: p.stat().st_mtime_ns for p in save_dir.iterdir()}
    assert repair_last_checkpoint(str(save_dir)) is None
    assert before == {p.name: p.stat().st_mtime_ns for p in save_dir.iterdir()}
    assert repair_last_checkpoint(str(save_dir / "new")) is None


def test_never_starts_over_in_silence(save_dir, fairseq_train, data_bin):
    for path in save_dir.glob("*.pt"):
        cut(path)
    with pytest.raises(compat.UnreadableCheckpointError, match="No other checkpoint"):
        fairseq_train(data_bin, save_dir, f"{PLAIN} --max-update 6")
    assert (save_dir / "checkpoint_last.pt").stat().st_size == 5000


def link_to_nowhere(path):
    path.symlink_to("/not-mounted/checkpoint_last.pt")


@pytest.mark.parametrize(
    ("put", "found"),
    [
        (link_to_nowhere, r"a link that leads to no file \(/not-mounted/.*Mount the disk"),
        (os.mkfifo, "neither a file nor a link. Move it away"),
        (os.mkdir, "a folder. Move it away"),
    ],
)
def test_a_last_one_that_is_no_file_stops_the_run_and_stays(
    save_dir, fairseq_train, data_bin, put, found
):
    last = save_dir / "checkpoint_last.pt"
    last.unlink()
    put(last)
    with pytest.raises(compat.CheckpointError, match=f"{found}.*checkpoint_1_4.pt .4 updates"):
        fairseq_train(data_bin, save_dir, f"{PLAIN} --max-update 6")
    assert os.path.lexists(last)
    assert not last.is_file()
    assert sorted(path.name for path in save_dir.glob("*.pt")) == [
        "checkpoint_1_2.pt",
        "checkpoint_1_4.pt",
        "checkpoint_last.pt",
    ]


def test_a_pipe_among_the_checkpoints_is_not_waited_for(save_dir):
    cut(save_dir / "checkpoint_last.pt")
    os.mkfifo(save_dir / "checkpoint_1_5.pt")
    assert repair_last_checkpoint(str(save_dir)).endswith("checkpoint_1_4.pt")


def test_a_poisoned_last_checkpoint_is_refused_not_passed_over(save_dir):
    state = compat.load_checkpoint(save_dir / "checkpoint_last.pt")
    torch.save({**state, "x": os.system}, save_dir / "checkpoint_last.pt")
    with pytest.raises(compat.UnsafeCheckpointError, match=r"checkpoint_last\.pt"):
        repair_last_checkpoint(str(save_dir))


def test_a_restore_file_that_is_missing_stops(fairseq_train, data_bin, tmp_path):
    with pytest.raises(compat.CheckpointError, match=r"none\.pt does not exist"):
        fairseq_train(
            data_bin, tmp_path, f"{PLAIN} --max-update 1 --restore-file {tmp_path}/none.pt"
        )
