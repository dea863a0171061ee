"""A checkpoint is whole or it is the one before."""

import os
import signal
import time
from collections import OrderedDict

import numpy as np
import pytest
import torch
from fairseq import checkpoint_utils
from fairseq.file_io import PathManager

from fairseq_ki import compat
from fairseq_ki.compat.checkpoint_writing import write_whole


def test_a_kill_in_the_middle_leaves_the_old_file(tmp_path):
    path = tmp_path / "checkpoint_last.pt"
    path.write_bytes(b"old and whole")

    def half_then_killed(file):
        file.write(b"new and ha")
        file.flush()
        os.kill(os.getpid(), signal.SIGKILL)

    child = os.fork()
    if child == 0:
        write_whole(str(path), half_then_killed)
    _, status = os.waitpid(child, 0)
    assert os.WTERMSIG(status) == signal.SIGKILL
    assert path.read_bytes() == b"old and whole"
    assert (tmp_path / "checkpoint_last.pt.tmp").exists()


def test_fairseq_copies_without_touching_the_old_file(tmp_path, monkeypatch):
    """The host opened the target itself; a reader that has it open now keeps the old content."""
    new, last = tmp_path / "checkpoint_1_2.pt", tmp_path / "checkpoint_last.pt"
    new.write_bytes(b"new" * 1000)
    last.write_bytes(b"old")
    with open(last, "rb") as reader:
        assert PathManager.copy(str(new), str(last), overwrite=True)
        assert reader.read() == b"old"
    assert last.read_bytes() == new.read_bytes()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["checkpoint_1_2.pt", "checkpoint_last.pt"]
    # a copy, not a second name: writing into one must not change the other
    assert last.stat().st_ino != new.stat().st_ino
    with pytest.raises(FileExistsError):
        PathManager.copy(str(new), str(last))


@pytest.mark.parametrize("how", ["save", "save a large one", "copy"])
def test_a_full_disk_stops_at_once_and_spares_the_last_checkpoint(how, tmp_path):
    last = tmp_path / "checkpoint_last.pt"
    torch.save({"model": {}}, last)
    before = last.read_bytes()
    os.symlink("/dev/full", tmp_path / "checkpoint_last.pt.tmp")  # the kernel's own full disk
    other = tmp_path / "checkpoint_1_2.pt"
    other.write_bytes(bytes(10**6))
    state = {"model": {"w": torch.zeros(3_000_000 if "large" in how else 3)}}
    write = {
        "copy": lambda: PathManager.copy(str(other), str(last), overwrite=True),
    }.get(how, lambda: checkpoint_utils.torch_persistent_save(state, str(last)))
    start = time.perf_counter()
    with pytest.raises(compat.CheckpointWriteError, match="No space left on device") as error:
        write()
    assert time.perf_counter() - start < 2  # fairseq slept 2.5 s between three attempts
    assert str(last) in str(error.value)
    assert "GiB free" in str(error.value)
    assert last.read_bytes() == before
    assert not os.path.lexists(tmp_path / "checkpoint_last.pt.tmp")


def test_another_error_of_the_writer_is_named_too(tmp_path):
    def fails(file):
        raise RuntimeError("PytorchStreamWriter failed writing central directory")

    with pytest.raises(compat.CheckpointWriteError, match="central directory"):
        write_whole(str(tmp_path / "x.pt"), fails)
    assert list(tmp_path.iterdir()) == []


def test_numpy_numbers_do_not_reach_the_file(tmp_path):
    """As from scikit-learn's F1 in a meter; the safe reader would refuse them."""
    weights = OrderedDict(w=torch.zeros(2))
    weights._metadata = {"version": 1}
    shared = torch.ones(3)
    state = {
        "model": weights,
        "extra_state": {"val_loss": np.float64(0.25), "best": [np.float32(0.5), (np.int64(3),)]},
        "a": shared,
        "b": shared[:2],
    }
    path = str(tmp_path / "x.pt")
    checkpoint_utils.torch_persistent_save(state, path)
    read = compat.load_checkpoint(path)
    assert read["extra_state"] == {"val_loss": 0.25, "best": [0.5, (3,)]}
    assert type(read["extra_state"]["val_loss"]) is float
    assert read["a"].untyped_storage().data_ptr() == read["b"].untyped_storage().data_ptr()
    assert read["model"]._metadata == {"version": 1}


def test_fairseq_keeps_what_it_was_asked_to_keep(fairseq_train, data_bin, tmp_path):
    fairseq_train(
        data_bin,
        tmp_path,
        "--task masked_lm --criterion masked_lm --max-update 8 --save-interval-updates 2 "
        "--keep-interval-updates 2",
    )
    names = {path.name for path in tmp_path.iterdir()}
    assert {"checkpoint_1_6.pt", "checkpoint_last.pt"} <= names
    assert not {"checkpoint_1_2.pt", "checkpoint_1_4.pt"} & names
    assert not [name for name in names if name.endswith(".tmp")]
    assert (
        compat.load_checkpoint(tmp_path / "checkpoint_last.pt")["optimizer_history"][-1][
            "num_updates"
        ]
        == 8
    )
