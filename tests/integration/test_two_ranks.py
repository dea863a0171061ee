"""Two CPU ranks under torchrun train as one rank with --update-freq 2 does."""

import json
import subprocess
import sys

import pytest
import torch


@pytest.mark.parametrize("backend", ["legacy_ddp", "pytorch_ddp"])
def test_two_ranks_equal_one(fairseq_train, data_bin, teacher, student_options, tmp_path, backend):
    extra = (
        f"--task ki_mlm --criterion ki --ki-teacher {teacher} --ki-steps 8 --max-update 10 "
        "--dropout 0 --attention-dropout 0"
    )
    one = fairseq_train(data_bin, tmp_path / "one", f"{extra} --update-freq 2")
    two = torchrun_train(
        data_bin, tmp_path / "two", student_options, f"{extra} --ddp-backend {backend}"
    )
    assert len(two) == 10
    for a, b in zip(one.train, two):
        assert a["ki_rate"] == b["ki_rate"]
        for key in ("loss", "ki_loss", "ki_objective"):
            assert abs(float(a[key]) - float(b[key])) <= 0.0011, (key, a, b)
    models = [
        torch.load(tmp_path / n / "checkpoint_last.pt", weights_only=True)["model"]
        for n in ("one", "two")
    ]
    for key, value in models[0].items():
        torch.testing.assert_close(models[1][key], value, rtol=0, atol=1e-6)


def torchrun_train(data_bin, save_dir, options: str, extra: str) -> list[dict]:
    """The JSON lines that rank 0 printed."""
    command = (
        f"-m torch.distributed.run --nproc-per-node 2 --standalone -m fairseq_cli.train "
        f"{data_bin} {options} --save-dir {save_dir} {extra}"
    )
    done = subprocess.run(
        [sys.executable, *command.split()], capture_output=True, text=True, timeout=240
    )
    output = done.stdout + done.stderr
    assert done.returncode == 0, output[-3000:]
    return [
        json.loads(line.split("| train_inner | ")[1])
        for line in output.splitlines()
        if "| train_inner | " in line
    ]
