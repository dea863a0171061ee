"""Several CPU processes under torchrun train one model.

fairseq takes its number of ranks from the number of GPUs. Without one it ignores torchrun and
trains as many unconnected copies as there are processes, all writing the same files.
"""

import os
from collections.abc import Callable
from typing import Any

import torch
from fairseq.distributed import utils as distributed_utils
from fairseq.models import distributed_fairseq_model
from fairseq.trainer import Trainer
from omegaconf import DictConfig

from fairseq_ki.compat.patching import CompatError, replace

LAUNCHER = ("MASTER_ADDR", "MASTER_PORT", "WORLD_SIZE", "RANK")
_MOST_RANKS = 1_000_000


def launched_ranks() -> int:
    """How many processes torchrun (or a launcher like it) has started; 1 without one.

    Raises :class:`CompatError` for variables that no launcher sets: ranks would wait for ever for
    one that never comes.
    """
    if not all(os.environ.get(name) for name in LAUNCHER):
        return 1
    world_size = _launched("WORLD_SIZE", 1, _MOST_RANKS)
    _launched("RANK", 0, world_size - 1)
    _launched("MASTER_PORT", 0, 65535)
    return world_size


def _launched(name: str, least: int, most: int) -> int:
    """The number that a launcher's variable holds."""
    text = os.environ[name]
    number = int(text) if text.isdecimal() and len(text) < 10 else -1
    if not least <= number <= most:
        raise CompatError(
            f"the environment has {name}={text[:40]}: expected a number from {least} to {most}, as "
            "torchrun sets it. Start with torchrun, or take what is left of another launch out: "
            f"unset {' '.join(LAUNCHER)}"
        )
    return number


def runs_on_cpu(cfg: DictConfig) -> bool:
    """Whether a command with this configuration computes on the CPU."""
    return not cfg.common.tpu and (cfg.common.cpu or not torch.cuda.is_available())


def connect_ranks(cfg: DictConfig) -> None:
    """Fills ``cfg.distributed_training`` in so that the processes of one launch are one run.

    Raises :class:`CompatError` where ranks are asked for that nothing would start or connect.
    """
    options, launched = cfg.distributed_training, launched_ranks()
    if cfg.common.tpu:
        return
    if not runs_on_cpu(cfg):
        if launched > 1 and options.distributed_init_method is None:
            # one GPU per process: fairseq counts one GPU and connects nothing
            options.distributed_world_size = launched
        return
    if options.distributed_init_method is not None:
        _check_explicit(options)
        options.distributed_backend = "gloo"
    elif launched > 1:
        options.distributed_world_size = launched
        options.distributed_rank = int(os.environ["RANK"])
        options.distributed_init_method = "env://"
        options.distributed_no_spawn = True
        options.distributed_backend = "gloo"
        options.device_id = 0
    elif options.distributed_world_size == torch.cuda.device_count():
        options.distributed_world_size = 1  # --cpu beside GPUs: the default counts them
    elif options.distributed_world_size > 1:
        raise CompatError(
            f"--distributed-world-size {options.distributed_world_size} on the CPU, but fairseq "
            "starts processes for GPUs only. Start them with torchrun: "
            f"torchrun --nproc-per-node {options.distributed_world_size} -m fairseq_cli.train "
            "DATA --cpu ... (without --distributed-world-size)"
        )


def _check_explicit(options: DictConfig) -> None:
    if options.distributed_world_size > 1 and not options.distributed_no_spawn:
        raise CompatError(
            f"--distributed-init-method {options.distributed_init_method} on the CPU needs "
            "--distributed-no-spawn and one process per rank, each with its --distributed-rank. "
            "torchrun does all that: torchrun --nproc-per-node N -m fairseq_cli.train DATA --cpu"
        )


def _check_connected(original: Callable) -> Callable:
    def __init__(self, cfg, task, model, criterion, quantizer=None):
        launched = launched_ranks()
        world_size = cfg.distributed_training.distributed_world_size
        if launched > 1 and world_size == 1:  # fairseq-hydra-train reads the user directory late
            raise CompatError(
                f"{launched} processes were started, but this one would train alone. With "
                "fairseq-hydra-train, add distributed_training.distributed_world_size="
                f"{launched} distributed_training.distributed_init_method=env:// "
                "distributed_training.distributed_no_spawn=True "
                "distributed_training.distributed_backend=gloo "
                "'distributed_training.distributed_rank=${oc.env:RANK}'"
            )
        original(self, cfg, task, model, criterion, quantizer)

    return __init__


def _without_devices_on_cpu(original: type) -> Callable:
    def distributed_data_parallel(module, device_ids=None, output_device=None, **options: Any):
        if next(module.parameters()).device.type == "cpu":
            device_ids = output_device = None
        return original(module, device_ids=device_ids, output_device=output_device, **options)

    return distributed_data_parallel


def _gather_without_cuda(original: Callable) -> Callable:
    def all_gather_list(data, group=None, max_size=16384):
        group = distributed_utils.get_global_group() if group is None else group
        if torch.distributed.get_backend(group) != "gloo":
            return original(data, group, max_size)
        from fairseq import utils

        gathered = [None] * torch.distributed.get_world_size(group)
        torch.distributed.all_gather_object(gathered, utils.move_to_cpu(data), group=group)
        return gathered

    return all_gather_list


def connect_launched_ranks() -> bool:
    """The guard against ranks that train alone; :func:`connect_ranks` runs in every command."""
    return replace(Trainer, "__init__", _check_connected)


def let_pytorch_ddp_run_on_cpu() -> bool:
    """``--ddp-backend pytorch_ddp``, the default."""
    return replace(distributed_fairseq_model, "DistributedDataParallel", _without_devices_on_cpu)


def gather_lists_on_cpu() -> bool:
    """What ``fairseq-validate`` does with its logs, and criteria whose logs are no sums."""
    return replace(distributed_utils, "all_gather_list", _gather_without_cuda)
