"""CPU processes of one launch are one run, or stop."""

import copy
import json
import os
import socket
import subprocess
import sys

import pytest
import torch
from fairseq import options
from fairseq.dataclass.utils import convert_namespace_to_omegaconf
from fairseq.distributed import utils as distributed_utils
from fairseq.models import distributed_fairseq_model
from fairseq.trainer import Trainer

from fairseq_ki import compat
from fairseq_ki.compat.cpu_ranks import LAUNCHER, connect_ranks, launched_ranks

PLAIN = "--task masked_lm --criterion masked_lm --dropout 0 --attention-dropout 0"


@pytest.fixture(scope="module")
def parsed():
    arguments = ["data", "--task", "masked_lm", "--arch", "roberta", "--batch-size", "1", "--cpu"]
    args = options.parse_args_and_arch(options.get_training_parser(), input_args=arguments)
    return convert_namespace_to_omegaconf(args)


@pytest.fixture
def cfg(parsed, monkeypatch):
    for name in LAUNCHER:
        monkeypatch.delenv(name, raising=False)
    return copy.deepcopy(parsed)


@pytest.fixture
def under_torchrun(monkeypatch):
    def launch(world_size: int, rank: int):
        for name, value in zip(LAUNCHER, ("127.0.0.1", "29500", str(world_size), str(rank))):
            monkeypatch.setenv(name, value)

    return launch


def test_the_processes_of_a_launch_are_connected(cfg, under_torchrun):
    under_torchrun(3, 2)
    connect_ranks(cfg)
    found = cfg.distributed_training
    assert (found.distributed_world_size, found.distributed_rank, found.device_id) == (3, 2, 0)
    assert found.distributed_init_method == "env://"
    assert found.distributed_backend == "gloo"
    assert found.distributed_no_spawn


def test_a_single_process_stays_as_it_is(cfg, under_torchrun):
    before = copy.deepcopy(cfg)
    connect_ranks(cfg)
    assert cfg == before
    under_torchrun(1, 0)
    connect_ranks(cfg)
    assert cfg == before


def test_ranks_that_nothing_starts_are_refused(cfg):
    cfg.distributed_training.distributed_world_size = 2
    with pytest.raises(compat.CompatError, match="torchrun --nproc-per-node 2"):
        connect_ranks(cfg)
    cfg.distributed_training.distributed_init_method = "tcp://127.0.0.1:1"
    with pytest.raises(compat.CompatError, match="--distributed-no-spawn"):
        connect_ranks(cfg)
    cfg.distributed_training.distributed_no_spawn = True
    connect_ranks(cfg)
    assert cfg.distributed_training.distributed_backend == "gloo"


@pytest.mark.parametrize(
    ("name", "value", "range_"),
    [
        ("RANK", "x", "from 0 to 1"),
        ("RANK", "5", "from 0 to 1"),
        ("RANK", "-1", "from 0 to 1"),
        ("WORLD_SIZE", "0", "from 1 to"),
        ("WORLD_SIZE", "9" * 5000, "from 1 to"),
        ("MASTER_PORT", "65536", "from 0 to 65535"),
    ],
)
def test_variables_that_no_launcher_sets(cfg, under_torchrun, monkeypatch, name, value, range_):
    under_torchrun(2, 0)
    monkeypatch.setenv(name, value)
    with pytest.raises(compat.CompatError, match=f"{name}={value[:40]}: expected .* {range_}"):
        connect_ranks(cfg)


def test_one_gpu_per_process_is_connected_too(cfg, under_torchrun, monkeypatch):
    cfg.common.cpu = False
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    under_torchrun(2, 1)
    connect_ranks(cfg)
    assert cfg.distributed_training.distributed_world_size == 2
    distributed_utils.infer_init_method(cfg.distributed_training)  # the host does the rest
    assert cfg.distributed_training.distributed_init_method == "env://"
    assert cfg.distributed_training.distributed_rank == 1


def test_cpu_beside_gpus_is_one_process(cfg, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 8)
    cfg.distributed_training.distributed_world_size = 8  # the host's default there
    connect_ranks(cfg)
    assert cfg.distributed_training.distributed_world_size == 1


def test_no_trainer_trains_alone_beside_others(cfg, under_torchrun):
    under_torchrun(2, 0)
    assert launched_ranks() == 2
    with pytest.raises(compat.CompatError, match="would train alone"):
        Trainer(cfg, None, torch.nn.Linear(1, 1), torch.nn.Module())


@pytest.fixture
def one_rank(tmp_path):
    torch.distributed.init_process_group(
        "gloo", init_method=f"file://{tmp_path}/store", rank=0, world_size=1
    )
    yield
    vars(distributed_utils.get_global_group).pop("_global_group", None)
    torch.distributed.destroy_process_group()


def test_pytorch_ddp_takes_a_cpu_module(one_rank):
    model = torch.nn.Linear(2, 2)
    with pytest.raises(ValueError, match="device_ids"):  # what the host asks for
        torch.nn.parallel.DistributedDataParallel(model, device_ids=[0], output_device=0)
    wrapped = distributed_fairseq_model.DistributedDataParallel(
        module=model, device_ids=[0], output_device=0, broadcast_buffers=False
    )
    wrapped(torch.ones(1, 2)).sum().backward()
    assert model.weight.grad is not None


def test_lists_are_gathered_without_cuda(one_rank):
    data = [{"loss": torch.tensor(1.5)}, "text"]
    assert distributed_utils.all_gather_list(data) == [data]


TWICE = """
import sys
from fairseq_cli.train import cli_main
for updates in ("4", "6"):
    sys.argv = ["fairseq-train", *{arguments}, "--max-update", updates]
    cli_main()
"""


def test_two_ranks_train_and_resume_as_one_does(fairseq_train, data_bin, student_options, tmp_path):
    """Four updates, then six, with the losses of one process and ``--update-freq 2``."""
    one = fairseq_train(data_bin, tmp_path / "one", f"{PLAIN} --update-freq 2 --max-update 6")
    extra = f"{PLAIN} --save-dir {tmp_path}/two"
    code = TWICE.format(arguments=[str(data_bin), *student_options.split(), *extra.split()])
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    ranks = []
    for rank in range(2):
        launcher = dict(zip(LAUNCHER, ("127.0.0.1", str(port), "2", str(rank))))
        ranks.append(
            subprocess.Popen(
                [sys.executable, "-c", code],
                env={**os.environ, **launcher, "OMP_NUM_THREADS": "1"},
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
            )
        )
    output = [rank.communicate(timeout=200)[0] for rank in ranks]
    assert [rank.returncode for rank in ranks] == [0, 0], output[0][-3000:]
    lines = [
        json.loads(line.split("| train_inner | ")[1])
        for line in output[0].splitlines()
        if "| train_inner | " in line
    ]
    assert [r["num_updates"] for r in lines] == list("123456")
    assert "Loaded checkpoint" in output[0]
    for alone, together in zip(one.train, lines):
        assert abs(float(alone["loss"]) - float(together["loss"])) <= 0.0011
    weights = compat.load_checkpoint(tmp_path / "two" / "checkpoint_last.pt")["model"]
    for key, value in one.state()["model"].items():
        torch.testing.assert_close(weights[key], value, rtol=0, atol=1e-6)
