"""Two CPU ranks train as one rank with --update-freq 2 does, and end together."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from harness.faults import Fault
from harness.survival import updates_of

from fairseq_ki import compat

# 127 blocks in batches of 12 are 11: at the end of the epoch one rank has none
UNEVEN = (
    "--batch-size 12 --required-batch-size-multiple 1 --dropout 0 --attention-dropout 0 "
    "--max-update 14 --ki-steps 10 --validate-interval-updates 3"
)


def records(log: str) -> list[dict]:
    lines = [line for line in log.splitlines() if "| train_inner | " in line]
    return [json.loads(line.split("| train_inner | ")[1]) for line in lines]


def compare(one: list[dict], two: list[dict], folders: list[Path]) -> None:
    assert len(one) == len(two)
    for a, b in zip(one, two):
        for key in ("ki_rate", "wpb", "bsz"):
            assert a[key] == b[key], (key, a, b)
        for key in ("loss", "ki_loss", "ki_objective", "ki_agreement", "ki_teacher_ppl"):
            assert float(a[key]) == pytest.approx(float(b[key]), rel=1e-3, abs=0.0011), (key, a, b)
    models = [compat.load_checkpoint(f / "checkpoint_last.pt")["model"] for f in folders]
    for key, value in models[0].items():
        torch.testing.assert_close(models[1][key], value, rtol=0, atol=2e-6)


@pytest.mark.parametrize(
    ("kind", "backend", "workers"),
    [
        ("live", "legacy_ddp", 0),
        ("store", "pytorch_ddp", 2),
        ("mixture", "legacy_ddp", 2),
        ("causal store", "legacy_ddp", 0),
    ],
)
def test_two_ranks_equal_one(launcher, trainings, tmp_path, kind, backend, workers):
    """Over the end of an epoch, where one of them has no batch, and over the end of guidance."""
    extra = f"{trainings[kind]} {UNEVEN} --num-workers {workers} --ddp-backend {backend}"
    if kind == "mixture":  # of three such sets of blocks
        extra += " --batch-size 36"
    logs, folders = [], [tmp_path / "one", tmp_path / "two"]
    for ranks, save_dir in zip((1, 2), folders):
        ended = launcher.run(
            f"{extra} --save-dir {save_dir} --update-freq {3 - ranks}", ranks=ranks
        )
        assert [rank.status for rank in ended] == [0] * ranks, ended[-1].log[-3000:]
        logs.append(records(ended[0].log))
    assert len(logs[0]) == 14
    compare(*logs, folders)


def test_two_ranks_under_torchrun_equal_one(
    fairseq_train, torchrun_train, data_bin, teacher, student_options, tmp_path
):
    extra = (
        f"--task ki_mlm --criterion ki --ki-teacher {teacher} --ki-steps 8 --max-update 10 "
        "--dropout 0 --attention-dropout 0"
    )
    one = fairseq_train(data_bin, tmp_path / "one", f"{extra} --update-freq 2")
    two = torchrun_train(data_bin, tmp_path / "two", f"{student_options} {extra}")
    assert len(two) == 10
    compare(one.train, two, [tmp_path / "one", tmp_path / "two"])


@pytest.mark.parametrize("lost", [0, 1])
def test_a_rank_that_dies_takes_the_other_one_along(launcher, trainings, tmp_path, lost):
    command = f"{trainings['live']} --save-dir {tmp_path} --num-workers 0 --max-update 40"
    ended = launcher.run(command, ranks=2, faults={lost: Fault("SIGKILL", update=7)})
    other = ended[1 - lost]
    assert ended[lost].status == -signal.SIGKILL
    assert other.status == 1
    assert other.seconds - ended[lost].seconds < 60
    assert "error: another rank of this run has ended" in other.log
    assert "Traceback" not in other.log
    ended = launcher.run(f"{command} --max-update 8", ranks=2)
    assert [rank.status for rank in ended] == [0, 0]
    assert [record["num_updates"] for record in records(ended[0].log)] == ["6", "7", "8"]


def test_a_rank_that_dies_under_torchrun_ends_the_run(data_bin, teacher, student_options, tmp_path):
    command = (
        "-m torch.distributed.run --nproc-per-node 2 --standalone -m fairseq_cli.train "
        f"{data_bin} {student_options} --task ki_mlm --criterion ki --ki-teacher {teacher} "
        f"--ki-steps 10000 --max-update 10000 --save-dir {tmp_path / 'run'}"
    )
    run = subprocess.Popen(
        [sys.executable, *command.split()],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    output = []
    for line in run.stdout:
        output.append(line)
        if '"num_updates": "3"' in line:
            break
    ranks = Path(f"/proc/{run.pid}/task/{run.pid}/children").read_text().split()
    assert len(ranks) == 2, "".join(output)[-3000:]
    killed = time.monotonic()
    os.kill(int(ranks[1]), signal.SIGKILL)
    rest, _ = run.communicate(timeout=100)
    assert time.monotonic() - killed < 60
    assert run.returncode != 0
    assert re.search(r"exitcode\s*: -9", rest)


def test_a_store_on_slow_storage_delays_and_does_not_deadlock(launcher, trainings, tmp_path):
    """Each read takes 4 ms, so that the ranks wait for their workers and for each other."""
    command = f"{trainings['store']} --num-workers 2 --max-update 20"
    for name, slow_reads in (("fast", 0.0), ("slow", 0.004)):
        ended = launcher.run(
            f"{command} --save-dir {tmp_path / name}",
            ranks=2,
            slow_reads=slow_reads,
            trace=tmp_path / f"{name}.jsonl",
        )
        assert [rank.status for rank in ended] == [0, 0], ended[-1].log[-3000:]
    fast, slow = (updates_of(tmp_path / f"{name}.jsonl") for name in ("fast", "slow"))
    assert fast == slow
    assert len(fast) == 20
