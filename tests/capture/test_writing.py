"""A capture's bytes: the same after any kill, and whoever does which part of it."""

import dataclasses
import os
import random
import shutil
import signal
import time
from pathlib import Path

import pytest
import torch

from fairseq_ki.capture import processes
from fairseq_ki.capture.progress import Progress
from fairseq_ki.capture.session import Session
from fairseq_ki.capture.writing import made_ahead, write_shards
from fairseq_ki.store import FinishedError, MismatchError, StoreReader, StoreWriter, verify

ENCODINGS = {
    "topk": {"k": 5, "tail": True},
    "topp": {"p": 0.8, "k": 20},
    "sampled": {"draws": 30},
    "dense": {},
}


@pytest.fixture(scope="module")
def sessions(settings):
    """Per encoding: two maskings in shards of 23 samples."""
    return {
        name: Session.open(
            settings(name, parameters, mask_epochs=2, samples_per_shard=23, batch_size=8)
        )
        for name, parameters in ENCODINGS.items()
    }


def capture(out: Path, session: Session) -> None:
    processes.write_here(out, session, session.plan(), None)


def content(store: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in store.iterdir()}


@pytest.fixture(scope="module")
def uninterrupted(sessions, tmp_path_factory):
    stores = {}
    for name, session in sessions.items():
        stores[name] = tmp_path_factory.mktemp(name) / "store"
        capture(stores[name], session)
        assert verify(stores[name]).whole
    return stores


def test_a_store_has_every_sample_of_every_masking(sessions, uninterrupted):
    session = sessions["topk"]
    reader = StoreReader(uninterrupted["topk"])
    split = session.splits[0]
    assert reader.plan.splits[0].blocks == len(split)
    for epoch in (1, 2):
        split.set_epoch(epoch)
        for block in range(len(split)):
            sample = split[block]
            rows = reader.read(0, epoch, block, checksum=sample.checksum)
            assert len(rows) == len(sample.targets)
    assert reader.plan.data == session.task.store_settings()


@pytest.mark.parametrize("name", ENCODINGS)
def test_killed_at_random_moments_and_resumed(sessions, uninterrupted, tmp_path, name):
    """kill -9 of the whole capture, the teacher's pass included, until one comes through."""
    rng = random.Random(name)
    kills = 0
    begun = time.monotonic()
    capture(tmp_path / "timed", sessions[name])
    whole = time.monotonic() - begun
    while not (tmp_path / "store" / "manifest.json").exists():
        child = os.fork()
        if child == 0:  # one thread only here, so a fork is safe; and no cleaning up
            try:
                capture(tmp_path / "store", sessions[name])
            finally:
                os._exit(0)
        if kills < 6:
            time.sleep(rng.uniform(0.02, 0.3) * whole)
            os.kill(child, signal.SIGKILL)
            kills += 1
        os.waitpid(child, 0)
    assert kills >= 2
    assert content(tmp_path / "store") == content(uninterrupted[name])


@pytest.mark.parametrize("name", ["topk", "sampled"])
def test_bytes_do_not_depend_on_who_writes(sessions, uninterrupted, tmp_path, name):
    """Two parts one after the other; then what one process of three left, done by another."""
    session, plan = sessions[name], sessions[name].plan()
    for rank, workers in ((1, 2), (0, 3), (0, 1)):
        writer = StoreWriter(tmp_path / "store", plan, rank, workers)
        write_shards(writer, session.splits, session.teacher, 8, lambda samples: None)
    writer.finalize()
    assert content(tmp_path / "store") == content(uninterrupted[name])


def test_bytes_do_not_depend_on_the_number_of_threads(sessions, uninterrupted, tmp_path):
    """Workers share the threads of a machine, so a resumed capture may have others."""
    torch.set_num_threads(2)
    try:
        capture(tmp_path / "store", sessions["sampled"])
    finally:
        torch.set_num_threads(1)
    assert content(tmp_path / "store") == content(uninterrupted["sampled"])


def test_worker_processes_give_the_same_bytes(settings, uninterrupted, tmp_path, capsys):
    asked = settings(
        "sampled", ENCODINGS["sampled"], mask_epochs=2, samples_per_shard=23, batch_size=8
    )
    plan = Session.open(asked).plan()
    progress = Progress("samples")
    processes.write_with_workers(tmp_path / "store", asked, plan, 2, progress)
    assert content(tmp_path / "store") == content(uninterrupted["sampled"])
    assert progress.done == progress.total == 2 * plan.splits[0].blocks


def test_a_killed_worker_is_named_and_its_part_resumed(
    settings, uninterrupted, tmp_path, monkeypatch
):
    parameters = ENCODINGS["topk"]
    asked = settings("topk", parameters, mask_epochs=2, samples_per_shard=23, batch_size=8)
    session = Session.open(asked)
    spawn = processes.spawn

    def spawn_and_kill(*args, **kwargs):
        context = spawn(*args, **kwargs)
        os.kill(context.pids()[0], signal.SIGKILL)
        return context

    monkeypatch.setattr(processes, "spawn", spawn_and_kill)
    with pytest.raises(ValueError, match="a process of the capture ended .*SIGKILL"):
        processes.write_with_workers(
            tmp_path / "store", asked, session.plan(), 2, Progress("samples")
        )
    capture(tmp_path / "store", session)
    assert content(tmp_path / "store") == content(uninterrupted["topk"])


def test_what_one_of_several_processes_refuses_is_its_line_alone(settings, teacher, tmp_path):
    """As a full disk is; here the teacher is gone before they have read it."""
    moved = tmp_path / "c.pt"
    shutil.copy(teacher, moved)
    shutil.copy(teacher.parent / "dict.txt", tmp_path)
    asked = dataclasses.replace(settings(), teacher=str(moved))
    plan = Session.open(asked).plan()
    moved.unlink()
    with pytest.raises(ValueError) as refusal:
        processes.write_with_workers(tmp_path / "store", asked, plan, 2, Progress("samples"))
    assert str(refusal.value).startswith(f"teacher checkpoint {moved}: expected a file, found none")
    assert "\n" not in str(refusal.value)


def test_another_capture_cannot_take_the_place(sessions, uninterrupted, tmp_path):
    with pytest.raises(FinishedError, match="other settings is here"):
        capture(uninterrupted["topk"], sessions["sampled"])
    with pytest.raises(FinishedError, match="nothing is left to do"):
        capture(uninterrupted["topk"], sessions["topk"])
    StoreWriter(tmp_path / "begun", sessions["topk"].plan())
    with pytest.raises(MismatchError, match=r"encoding.name: expected 'topk', found 'sampled'"):
        capture(tmp_path / "begun", sessions["sampled"])


def test_items_made_ahead_keep_their_order_and_their_errors():
    assert list(made_ahead(iter(range(20)))) == list(range(20))
    assert list(made_ahead(iter(()))) == []

    def failing():
        yield 1
        raise RuntimeError("while making")

    taken = made_ahead(failing())
    assert next(taken) == 1
    with pytest.raises(RuntimeError, match="while making"):
        next(taken)


def test_nothing_is_published_where_encoding_fails(sessions, tmp_path, monkeypatch):
    """The other thread's error ends the capture, and the shard stays unwritten."""
    session = sessions["topk"]

    def failing(*_):
        raise RuntimeError("no space left")

    with monkeypatch.context() as patch:
        patch.setattr(type(session.plan().encoding), "encode", failing)
        with pytest.raises(RuntimeError, match="no space left"):
            capture(tmp_path / "store", session)
    assert not list((tmp_path / "store").glob("*.rows"))
    assert not list((tmp_path / "store").glob(".*.tmp"))


@pytest.mark.parametrize("workers", [0, -1])
def test_impossible_numbers_of_workers(workers):
    with pytest.raises(ValueError, match="--workers: expected 1 to 1024"):
        processes.check_parallel(workers)


def test_a_thread_each_is_the_default_on_a_cpu(monkeypatch):
    monkeypatch.setattr(torch, "get_num_threads", lambda: 3)
    assert [processes.default_workers("cpu", shards) for shards in (1, 2, 3, 9)] == [1, 2, 3, 3]
    assert processes.default_workers("cuda", 9) == 1
    monkeypatch.setattr(torch, "get_num_threads", lambda: 64)
    assert processes.default_workers("cpu", 9) == 4


def test_workers_under_torchrun_are_refused(monkeypatch):
    for name, value in (("RANK", 0), ("WORLD_SIZE", 2), ("MASTER_ADDR", "x"), ("MASTER_PORT", 1)):
        monkeypatch.setenv(name, str(value))
    with pytest.raises(ValueError, match="torchrun started 2 processes already"):
        processes.check_parallel(2)
    processes.check_parallel(1)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 3)
    assert processes.default_workers("cpu", 9) == 1
