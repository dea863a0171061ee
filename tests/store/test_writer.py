"""Captures that are killed, resumed, shared, repeated; all must give the same bytes."""

import contextlib
import errno
import os
import random
import re
import signal
import subprocess
import sys
import time

import pytest

from fairseq_ki.store import (
    DamageError,
    FinishedError,
    Manifest,
    MismatchError,
    StoreError,
    StoreReader,
    StoreWriter,
    UnfinishedError,
    WriteError,
    verify,
)
from fairseq_ki.store import writer as writer_module

ENCODINGS = ["topk", "topp", "sampled", "dense"]
FILE_OPERATIONS = ("link", "rename", "fsync", "unlink")  # all that a capture changes names by


def contents(directory):
    return {path.name: path.read_bytes() for path in directory.iterdir()}


def start(synthetic, directory, encoding, rank=0, workers=1):
    """A capturing process, after its imports."""
    process = subprocess.Popen(
        [sys.executable, synthetic.__file__, directory, encoding, str(rank), str(workers)],
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout.readline() == "begun\n"
    return process


def finish(process):
    output, _ = process.communicate()
    assert process.returncode == 0
    return output


def test_a_finished_store_is_its_manifest_and_its_shards(finished, synthetic):
    for name, directory in finished.items():
        manifest = Manifest.load(directory)
        assert {p.name for p in directory.iterdir()} == {
            "manifest.json",
            *(entry.file for entry in manifest.shards),
        }
        assert manifest.plan == synthetic.make_plan(synthetic.ENCODINGS[name])


@pytest.mark.parametrize("workers", [2, 3, 5, 20])
@pytest.mark.parametrize("name", ["topk", "sampled"])
def test_any_number_of_workers_gives_the_same_bytes(synthetic, finished, tmp_path, name, workers):
    plan = synthetic.make_plan(synthetic.ENCODINGS[name])
    ranks = list(range(workers))
    random.Random(workers).shuffle(ranks)
    for rank in ranks:
        with pytest.raises(UnfinishedError, match=r"shards, found [0-9]+ missing, the first"):
            StoreWriter(tmp_path, plan, rank, workers).finalize()
        writer = synthetic.capture(tmp_path, plan, rank, workers)
        assert writer.pending() == []
    writer.finalize()
    assert contents(tmp_path) == contents(finished[name])


def test_processes_at_once_give_the_same_bytes(synthetic, finished, tmp_path):
    processes = [start(synthetic, tmp_path, "sampled", rank, 3) for rank in range(3)]
    for process in processes:
        finish(process)
    assert contents(tmp_path) == contents(finished["sampled"])


@pytest.mark.parametrize("name", ENCODINGS)
def test_killed_at_random_moments_and_resumed_gives_the_same_bytes(
    synthetic, finished, tmp_path, name
):
    rng = random.Random(name)
    kills = 0
    while True:
        process = start(synthetic, tmp_path, name)
        time.sleep(rng.random() * 0.05)
        process.send_signal(signal.SIGKILL)
        process.communicate()
        kills += process.returncode == -signal.SIGKILL
        if kills >= 4 or (tmp_path / "manifest.json").exists():
            break
    assert kills >= 1
    finish(start(synthetic, tmp_path, name))
    assert contents(tmp_path) == contents(finished[name])


def test_killed_workers_are_resumed_by_another_number_of_workers(synthetic, finished, tmp_path):
    rng = random.Random(0)
    for _ in range(2):
        processes = [start(synthetic, tmp_path, "topp", rank, 3) for rank in range(3)]
        time.sleep(rng.random() * 0.05)
        for process in processes:
            process.kill()
            process.communicate()
    for process in [start(synthetic, tmp_path, "topp", rank, 2) for rank in range(2)]:
        finish(process)
    assert contents(tmp_path) == contents(finished["topp"])


def test_two_processes_with_one_rank_do_no_harm(synthetic, finished, tmp_path):
    for process in [start(synthetic, tmp_path, "topk") for _ in range(2)]:
        finish(process)
    assert contents(tmp_path) == contents(finished["topk"])


def test_an_end_before_any_file_operation_is_resumed(synthetic, tmp_path, monkeypatch):
    """Systematic where the kills are random: the process ends at its n-th link, sync, rename..."""
    plan = synthetic.make_plan(synthetic.ENCODINGS["topk"], mask_epochs=1, samples_per_shard=70)
    synthetic.capture(tmp_path / "whole", plan).finalize()

    class End(BaseException):
        pass

    def run(directory, operations):
        """Capture; after so many operations nothing happens any more, clean-up included."""
        left = operations

        def counted(operation):
            def replacement(*args, **kwargs):
                nonlocal left
                left -= 1
                if left < 0:
                    raise End
                return operation(*args, **kwargs)

            return replacement

        with monkeypatch.context() as patch:
            for name in FILE_OPERATIONS:
                patch.setattr(os, name, counted(getattr(os, name)))
            try:
                synthetic.capture(directory, plan).finalize()
            except End:
                return False
        return True

    operations, states = 0, set()
    while not run(directory := tmp_path / str(operations), operations):
        states.add(tuple(sorted(re.sub("[0-9a-f]{16}", "", p.name) for p in directory.iterdir())))
        with contextlib.suppress(FinishedError):
            synthetic.capture(directory, plan).finalize()
        assert contents(directory) == contents(tmp_path / "whole")
        operations += 1
    # Before and after the naming of the plan, of two shards, and of the manifest; and the plan
    # under both of its names.
    assert len(states) == 9
    assert operations > len(states)


def test_only_unfinished_shards_are_written_again(synthetic, tmp_path):
    plan = synthetic.make_plan(synthetic.ENCODINGS["topk"])
    shards = list(plan.shards())
    synthetic.capture(tmp_path, plan, rank=1, workers=2)
    assert StoreWriter(tmp_path, plan).pending() == shards[0::2]
    assert StoreWriter(tmp_path, plan, 0, 3).pending() == [
        s for s in shards[0::3] if s in shards[0::2]
    ]
    path = tmp_path / shards[3].file
    os.truncate(path, path.stat().st_size - 1)  # not by us: a disk that lost its tail
    assert shards[3] in StoreWriter(tmp_path, plan).pending()


def test_nothing_is_published_where_the_teacher_fails(synthetic, tmp_path):
    plan = synthetic.make_plan(synthetic.ENCODINGS["topk"])
    writer = StoreWriter(tmp_path, plan)
    shard = writer.pending()[0]

    def capture_and_break():
        with writer.shard(shard) as out:
            out.add(*synthetic.make_rows(plan, 0, 1, 0))
            raise RuntimeError("the teacher broke")

    with pytest.raises(RuntimeError, match="teacher"):
        capture_and_break()
    assert {path.name for path in tmp_path.iterdir()} == {"capture.json"}
    assert writer.pending()[0] == shard


def test_a_shard_without_all_its_samples_is_refused(synthetic, tmp_path):
    plan = synthetic.make_plan(synthetic.ENCODINGS["topk"])
    writer = StoreWriter(tmp_path, plan)
    shard = writer.pending()[0]

    def write(count):
        with writer.shard(shard) as out:
            for _ in range(count):
                out.add(*synthetic.make_rows(plan, 0, 1, 0))

    for count in (0, 19, 21):
        with pytest.raises(StoreError, match=f"expected 20 samples, found {count}"):
            write(count)
    assert shard in writer.pending()


def test_a_sample_with_too_many_rows_is_refused(synthetic, tmp_path):
    plan = synthetic.make_plan(synthetic.ENCODINGS["topk"], max_rows=2)
    writer = StoreWriter(tmp_path, plan)
    checksum, rows = next(
        made for b in range(9) if len((made := synthetic.make_rows(plan, 0, 1, b))[1]) > 2
    )
    with writer.shard(writer.pending()[0]) as out:
        with pytest.raises(StoreError, match="at most max_rows = 2 rows"):
            out.add(checksum, rows)
        for checksum in range(20):
            out.add(checksum, rows[:2])


def test_rows_of_no_sample_are_refused(synthetic, tmp_path):
    plan = synthetic.make_plan(synthetic.ENCODINGS["sampled"])
    writer = StoreWriter(tmp_path, plan)
    _, rows = synthetic.make_rows(plan, 0, 1, 0)
    with writer.shard(writer.pending()[0]) as out:
        with pytest.raises(StoreError, match=f"expected {len(rows) + 1} rows, found {len(rows)}"):
            out.add_samples([7, 8], rows, [len(rows), 1])
        for block in range(20):
            out.add(block, rows)


def test_other_settings_are_refused_while_unfinished(synthetic, tmp_path):
    synthetic.capture(tmp_path, synthetic.make_plan(synthetic.ENCODINGS["topk"]), 0, 2)
    before = contents(tmp_path)
    with pytest.raises(MismatchError) as error:
        StoreWriter(
            tmp_path,
            synthetic.make_plan(synthetic.ENCODINGS["topk"], data={"mask_prob": 0.3}),
        )
    assert "data.mask_prob: expected 0.15, found 0.3" in str(error.value)
    assert "data.seed: expected 1, found nothing" in str(error.value)
    assert contents(tmp_path) == before


def run_before(monkeypatch, number, other):
    """Right before the number-th file operation from now on, `other` runs, once."""
    done = 0

    def delayed(operation):
        def replacement(*args, **kwargs):
            nonlocal done
            done += 1
            if done == number + 1:
                other()
            return operation(*args, **kwargs)

        return replacement

    for name in FILE_OPERATIONS:
        monkeypatch.setattr(os, name, delayed(getattr(os, name)))
    monkeypatch.setattr(writer_module, "open", delayed(open), raising=False)


@pytest.mark.parametrize("whole", [False, True])
def test_of_two_plans_that_begin_at_once_one_has_the_directory(
    synthetic, finished, tmp_path, monkeypatch, whole
):
    """Between any two steps of the one, the other begins, or captures everything."""
    mine = synthetic.make_plan(synthetic.ENCODINGS["topk"])
    theirs = synthetic.make_plan(synthetic.ENCODINGS["sampled"])

    def race(directory, number):
        results = {}

        def other():
            results["sampled"] = None
            try:
                StoreWriter(directory, theirs)
                if whole:
                    synthetic.capture(directory, theirs).finalize()
            except MismatchError as error:
                results["sampled"] = error

        with monkeypatch.context() as patch:
            run_before(patch, number, other)
            try:
                StoreWriter(directory, mine)
                results["topk"] = None
            except StoreError as error:
                results["topk"] = error
        return results

    for number in range(100):
        directory = tmp_path / str(number)
        results = race(directory, number)
        if "sampled" not in results:
            break
        refused = [name for name, error in results.items() if error is not None]
        assert len(refused) == 1
        winner = "topk" if refused == ["sampled"] else "sampled"
        text = str(results[refused[0]])
        assert f"encoding.name: expected '{winner}', found '{refused[0]}'" in text
        kind = FinishedError if whole and winner == "sampled" else MismatchError
        assert isinstance(results[refused[0]], kind)
        with contextlib.suppress(FinishedError):
            plan = synthetic.make_plan(synthetic.ENCODINGS[winner])
            synthetic.capture(directory, plan).finalize()
        assert contents(directory) == contents(finished[winner])
    assert number >= 5  # of the file: open, sync, link, unlink; of the directory: sync


def test_processes_of_several_plans_that_begin_at_once(synthetic, tmp_path):
    """Two of each plan, which all have seen an empty directory: both of one plan go on."""
    plans = [synthetic.make_plan(synthetic.ENCODINGS[name]) for name in ENCODINGS] * 2

    def begin(directory, plan, start_at):
        def read_json(path, read=writer_module.read_json):
            try:
                return read(path)
            finally:
                time.sleep(max(0.0, start_at - time.monotonic()))

        writer_module.read_json = read_json
        try:
            StoreWriter(directory, plan)
        except MismatchError:
            os._exit(1)
        os._exit(0)

    for attempt in range(5):
        start_at = time.monotonic() + 0.2
        children = []
        for plan in plans:
            child = os.fork()
            if child == 0:
                try:
                    begin(tmp_path / str(attempt), plan, start_at)
                finally:
                    os._exit(2)
            children.append(child)
        codes = [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]
        assert sorted(codes) == [0] * 2 + [1] * 6
        assert codes[:4] == codes[4:]


def test_a_plan_that_cannot_be_read_is_refused(synthetic, tmp_path):
    (tmp_path / "capture.json").write_text("{")
    with pytest.raises(DamageError, match=r"capture\.json: expected JSON.*; capture into another"):
        StoreWriter(tmp_path, synthetic.make_plan(synthetic.ENCODINGS["topk"]))


def test_a_file_system_without_links(synthetic, finished, tmp_path, monkeypatch):
    def refuse(*_):
        raise OSError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "link", refuse)
    synthetic.capture(tmp_path, synthetic.make_plan(synthetic.ENCODINGS["topk"])).finalize()
    assert contents(tmp_path) == contents(finished["topk"])


def test_a_claim_that_cannot_be_made_is_an_error(synthetic, tmp_path, monkeypatch):
    def refuse(*_):
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(os, "link", refuse)
    with pytest.raises(OSError, match="Input/output"):
        StoreWriter(tmp_path, synthetic.make_plan(synthetic.ENCODINGS["topk"]))
    assert contents(tmp_path) == {}


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EFBIG])
def test_a_full_disk_names_the_file_and_what_mends_it(
    synthetic, finished, tmp_path, monkeypatch, number
):
    """What was written before stays, and the capture goes on from there."""
    plan = synthetic.make_plan(synthetic.ENCODINGS["topk"])
    last = list(plan.shards())[-1].file
    sync = os.fsync

    def fills(descriptor):
        if last in os.readlink(f"/proc/self/fd/{descriptor}"):
            raise OSError(number, os.strerror(number))
        sync(descriptor)

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", fills)
        with pytest.raises(WriteError, match="expected room for this file, found none: ") as error:
            synthetic.capture(tmp_path, plan)
    assert str(error.value).startswith(f"{tmp_path / last}: ")
    assert "GiB free" in str(error.value)
    assert "then give the same command again" in str(error.value)
    assert last not in contents(tmp_path)
    assert not list(tmp_path.glob(".*.tmp"))
    synthetic.capture(tmp_path, plan).finalize()
    assert contents(tmp_path) == contents(finished["topk"])


def test_another_plan_leaves_nothing_in_a_store_that_finished_before_it(
    synthetic, finished, tmp_path, monkeypatch
):
    """It looked before the end of the other one, and claims the directory after it."""
    mine = synthetic.make_plan(synthetic.ENCODINGS["topk"])
    other = synthetic.capture(tmp_path, synthetic.make_plan(synthetic.ENCODINGS["sampled"]))
    refuse_finished, calls = StoreWriter._refuse_finished, []

    def finish_after_the_first_look(writer):
        refuse_finished(writer)
        if not calls:
            calls.append(other.finalize())

    monkeypatch.setattr(StoreWriter, "_refuse_finished", finish_after_the_first_look)
    with pytest.raises(FinishedError, match=r"encoding\.name: expected 'sampled', found 'topk'"):
        StoreWriter(tmp_path, mine)
    assert contents(tmp_path) == contents(finished["sampled"])


def test_a_finished_store_is_never_overwritten(synthetic, finished, tmp_path):
    plan = synthetic.make_plan(synthetic.ENCODINGS["topk"])
    synthetic.capture(tmp_path, plan).finalize()
    with pytest.raises(FinishedError, match="nothing is left to do"):
        StoreWriter(tmp_path, plan)
    with pytest.raises(FinishedError, match=r"encoding\.name: expected 'topk', found 'dense'"):
        StoreWriter(tmp_path, synthetic.make_plan(synthetic.ENCODINGS["dense"]))
    assert contents(tmp_path) == contents(finished["topk"])


def test_finalize_may_be_repeated_by_anyone(synthetic, finished, tmp_path):
    plan = synthetic.make_plan(synthetic.ENCODINGS["topk"])
    writers = [synthetic.capture(tmp_path, plan, rank, 2) for rank in range(2)]
    manifests = [writer.finalize() for writer in [*writers, *writers]]
    assert all(manifest == manifests[0] for manifest in manifests)
    assert contents(tmp_path) == contents(finished["topk"])


def test_what_a_kill_left_is_cleared_from_a_finished_store(synthetic, finished, tmp_path):
    plan = synthetic.make_plan(synthetic.ENCODINGS["topk"])
    synthetic.capture(tmp_path, plan).finalize()
    (tmp_path / "capture.json").write_text("{}")
    (tmp_path / ".manifest.json.0123.tmp").write_text("{")
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(FinishedError):
        StoreWriter(tmp_path, plan)
    assert contents(tmp_path) == {**contents(finished["topk"]), "notes.txt": b"mine"}


def test_a_published_shard_clears_the_temporaries_of_its_own(synthetic, tmp_path):
    plan = synthetic.make_plan(synthetic.ENCODINGS["topk"])
    shards = list(plan.shards())
    left = [tmp_path / f".{shards[number].file}.0123.tmp" for number in (0, 1)]
    writer = StoreWriter(tmp_path, plan, 0, 2)
    for path in left:
        path.write_bytes(b"half")
    synthetic.write_shard(writer, shards[0])
    assert [path.exists() for path in left] == [False, True]


def test_a_process_that_begins_takes_nothing_from_one_that_writes(synthetic, finished, tmp_path):
    """Both write the first shard: at first one alone publishes, then the other one before it."""
    plan = synthetic.make_plan(synthetic.ENCODINGS["topk"])
    first = next(iter(plan.shards()))
    one = StoreWriter(tmp_path, plan)
    with one.shard(first) as out:
        other = StoreWriter(tmp_path, plan)
        synthetic.add_samples(out, plan, first)
    with one.shard(first) as out:
        synthetic.write_shard(other, first)
        synthetic.add_samples(out, plan, first)
    synthetic.capture(tmp_path, plan).finalize()
    assert contents(tmp_path) == contents(finished["topk"])


@pytest.mark.parametrize(("rank", "workers"), [(1, 1), (-1, 2), (0, 0), (0.0, 1)])
def test_impossible_ranks_are_refused(synthetic, tmp_path, rank, workers):
    with pytest.raises(StoreError, match=r"rank|workers"):
        StoreWriter(tmp_path, synthetic.make_plan(synthetic.ENCODINGS["topk"]), rank, workers)


def test_language_models_and_samples_without_rows(synthetic, tmp_path):
    plan = synthetic.make_plan(
        synthetic.ENCODINGS["sampled"], task="lm", mask_epochs=1, samples_per_shard=100
    )
    synthetic.capture(tmp_path, plan).finalize()
    reader = StoreReader(tmp_path)
    empty = [b for b in range(70) if len(synthetic.make_sample(0, 1, b)[0]) == 0]
    assert empty
    for block in empty:
        assert (
            len(reader.read(0, 1, block, checksum=synthetic.make_rows(plan, 0, 1, block)[0])) == 0
        )
    assert verify(tmp_path).whole
