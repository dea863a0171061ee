"""The life of a run with a store: resume, the end of guidance, after it."""

import shutil
import time

import pytest
from trained import CAUSAL, GPT, KI, capture, stopped_and_resumed, validated

from fairseq_ki.data.stored_rows import ReadingSwitch
from fairseq_ki.store import UnfinishedError


@pytest.mark.parametrize("workers", [0, 2])
def test_resumed_equals_straight_through(fairseq_train, data_bin, topk, tmp_path, workers):
    """15 updates an epoch: stopped at 10 (mid-epoch) and 22, over two epoch ends."""
    extra = f"{KI} --ki-store {topk} --ki-steps 30 --num-workers {workers}"
    keys = ("loss", "ki_rate", "ki_loss", "ki_objective", "ki_teacher_ppl")
    stopped_and_resumed(fairseq_train, data_bin, tmp_path, extra, (10, 22, 40), keys)


@pytest.mark.parametrize("workers", [0, 2])
def test_a_causal_run_resumed_equals_straight_through(
    fairseq_train, data_bin, gpt, tmp_path, workers
):
    blocks = "--sample-break-mode complete --tokens-per-sample 30"
    store = capture(
        data_bin, gpt, tmp_path / "store", f"--task ki_lm --encoding sampled --draws 9 {blocks}"
    )
    extra = (
        f"{CAUSAL} --ki-store {store} --ki-temperature 1 --ki-steps 50 --max-target-positions 32 "
        f"--num-workers {workers} {blocks}"
    )
    keys = ("loss", "ki_loss", "ki_objective")
    stopped_and_resumed(fairseq_train, data_bin, tmp_path, extra, (10, 40), keys, GPT.format(2, 32))


@pytest.mark.parametrize("workers", [0, 2])
def test_nothing_is_read_once_guidance_is_over(
    fairseq_train, data_bin, teacher, tmp_path, monkeypatch, workers
):
    """The shards are overwritten as soon as the teacher is let go: reading them would stop it."""
    store = capture(data_bin, teacher, tmp_path / "store", "--encoding topk --k 5")
    off = ReadingSwitch.off
    overwritten = []

    def off_then_overwrite(self):
        off(self)
        if not overwritten:
            time.sleep(0.3)  # whoever was in the middle of reading
            for shard in store.glob("*.rows"):
                shard.write_bytes(bytes(shard.stat().st_size))
            overwritten.append(True)

    monkeypatch.setattr(ReadingSwitch, "off", off_then_overwrite)
    run = fairseq_train(
        data_bin,
        tmp_path / "run",
        f"{KI} --ki-store {store} --ki-steps 5 --max-update 35 --num-workers {workers}",
    )
    assert overwritten
    assert len(run.train) == 35
    assert {r["epoch"] for r in run.train} == {1, 2, 3}


def test_a_student_lives_without_its_store(fairseq_train, data_bin, teacher, tmp_path):
    store = capture(data_bin, teacher, tmp_path / "store", "--encoding topk --k 5")
    extra = f"{KI} --ki-store {store} --ki-steps 4 --max-update "
    student = fairseq_train(data_bin, tmp_path / "student", extra + "6")
    shutil.rmtree(store)

    resumed = fairseq_train(data_bin, tmp_path / "student", extra + "8")
    assert [r["num_updates"] for r in resumed.train] == ["7", "8"]

    for subset in ("valid", "train"):
        assert validated(data_bin, student.save_dir / "checkpoint_last.pt", subset)[1] > 0

    next_one = fairseq_train(
        data_bin,
        tmp_path / "next",
        f"{KI} --ki-teacher {student.save_dir / 'checkpoint_last.pt'} --ki-steps 4 --max-update 1",
    )
    assert float(next_one.train[0]["ki_rate"]) == 1


def test_a_missing_store_stops_a_run_that_still_needs_it(
    fairseq_train, data_bin, teacher, tmp_path
):
    store = capture(data_bin, teacher, tmp_path / "store", "--encoding topk --k 5")
    extra = f"{KI} --ki-store {store} --ki-steps 40 --max-update "
    fairseq_train(data_bin, tmp_path / "student", extra + "6")
    shutil.rmtree(store)
    with pytest.raises((UnfinishedError, SystemExit), match="found no manifest.json"):
        fairseq_train(data_bin, tmp_path / "student", extra + "8")
    with pytest.raises(UnfinishedError, match="found no manifest.json"):
        fairseq_train(data_bin, tmp_path / "fresh", extra + "8")
