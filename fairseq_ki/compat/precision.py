"""Which of fairseq's number formats work where.

Tried on the CPU with torch 2.13: ``--bf16`` and ``--memory-efficient-bf16`` train a RoBERTa and
a causal model to the losses of float32. ``--fp16`` fails at once, or with
``--fp16-no-flatten-grads`` at its first overflow; ``--amp`` trains in float32 without a word.
"""

import importlib.util
from collections.abc import Callable

from fairseq import options
from fairseq.trainer import Trainer
from omegaconf import DictConfig

from fairseq_ki.compat.cpu_ranks import runs_on_cpu
from fairseq_ki.compat.patching import CompatError, replace


def check_precision(cfg: DictConfig) -> None:
    """Raises :class:`CompatError` for a number format in which training on the CPU fails."""
    for option in ("memory_efficient_fp16", "fp16", "amp"):
        if getattr(cfg.common, option) and runs_on_cpu(cfg):
            raise CompatError(
                f"--{option.replace('_', '-')} needs a CUDA device, and this run is on the CPU. "
                "Leave it out to train in float32, or use --bf16, which works on the CPU."
            )


def _check_first(original: Callable) -> Callable:
    def __init__(self, cfg, task, model, criterion, quantizer=None):
        check_precision(cfg)
        original(self, cfg, task, model, criterion, quantizer)

    return __init__


def _bf16_without_tpu(original: Callable) -> Callable:
    def parse_args_and_arch(*positional, **named):
        parsed = original(*positional, **named)
        args = parsed[0] if isinstance(parsed, tuple) else parsed
        if getattr(args, "bf16", False):
            args.tpu = False
        return parsed

    return parse_args_and_arch


def refuse_fp16_on_cpu() -> bool:
    """Before anything is built for training; evaluation in float16 works."""
    return replace(Trainer, "__init__", _check_first)


def separate_bf16_from_tpu() -> bool:
    """fairseq takes ``--bf16`` for "train on a TPU", and then fails for want of torch_xla."""
    if importlib.util.find_spec("torch_xla") is not None:
        return False
    return replace(options, "parse_args_and_arch", _bf16_without_tpu)
