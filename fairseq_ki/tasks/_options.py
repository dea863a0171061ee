"""The options that ``ki_mlm`` and ``ki_lm`` share, checked; refusals are ValueErrors."""

from dataclasses import dataclass, field
from enum import Enum
from typing import Optional  # fairseq reads no `X | None`

import torch
from fairseq.dataclass import ChoiceEnum, FairseqDataclass
from omegaconf import II

TEACHER_DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
# of the criterion, and without a teacher to no purpose
TEACHER_OPTIONS = (
    "ki_steps",
    "ki_rate",
    "ki_stop_when_surpassed",
    "ki_valid_teacher",
    "ki_teacher_stream",
    "ki_skip_bad_rows",
)


@dataclass
class KITaskConfig(FairseqDataclass):
    """Who teaches. How much is inherited is an option of the criterion."""

    ki_teacher: Optional[str] = field(
        default=None,
        metadata={
            "help": "fairseq checkpoint of the smaller, trained model, or hf:DIRECTORY of "
            "transformers"
        },
    )
    ki_teacher_dict: Optional[str] = field(
        default=None,
        metadata={
            "help": "the teacher's dict.txt; default: beside its checkpoint, else in the data "
            "directory that the checkpoint records"
        },
    )
    ki_teacher_dtype: Optional[ChoiceEnum(list(TEACHER_DTYPES))] = field(
        default=None,
        metadata={
            "help": "what a live teacher computes in; default: the student's type. It has no "
            "gradients, so bf16 beside a student in fp32 loses little"
        },
    )
    ki_teacher_batches: int = field(
        default=1,
        metadata={
            "help": "micro-batches of an update (--update-freq) that a live --ki-teacher reads at "
            "once: it needs far less memory for each than the student"
        },
    )
    ki_store: Optional[str] = field(
        default=None,
        metadata={
            "help": "directory of stored teacher logits (fairseq-ki logits write), in place of "
            "--ki-teacher; several, for the shards of the data, are separated by colons"
        },
    )
    ki_tail: bool = field(
        default=False,
        metadata={
            "help": "with a top-K or top-p store that keeps the tail mass: compare the "
            "probability of all other ids too, as one bucket, instead of re-normalising"
        },
    )
    ki_mixture: Optional[str] = field(
        default=None,
        metadata={
            "help": "YAML that names the domains of a run: their data-bins, weights and teachers "
            "(docs/mixtures.md); DATA then gives the dictionary alone"
        },
    )
    # fairseq's own options: what tells a resumed run from one that starts
    save_dir: str = II("checkpoint.save_dir")
    restore_file: str = II("checkpoint.restore_file")
    continue_once: Optional[str] = II("checkpoint.continue_once")
    finetune_from_model: Optional[str] = II("checkpoint.finetune_from_model")
    reset_optimizer: bool = II("checkpoint.reset_optimizer")
    reset_dataloader: bool = II("checkpoint.reset_dataloader")
    no_save: bool = II("checkpoint.no_save")
    train_subset: str = II("dataset.train_subset")
    update_freq: list[int] = II("optimization.update_freq")
    # and numbers that it does not look at
    batch_size: Optional[int] = II("dataset.batch_size")
    max_tokens: Optional[int] = II("dataset.max_tokens")
    log_interval: int = II("common.log_interval")


def plain(value):
    """An option as a number or text, as a store's plan holds it."""
    return value.value if isinstance(value, Enum) else value


def fewest_tokens(causal: bool) -> int:
    """Of a block: a masked one begins with <s>."""
    return 1 if causal else 2


def check_lengths(config: KITaskConfig, positions: int, causal: bool) -> None:
    """Samples have to fit the student, which has so many positions."""
    tokens, fewest = config.tokens_per_sample, fewest_tokens(causal)
    whole = plain(config.sample_break_mode) == "none"
    if tokens < fewest or (whole and tokens > positions):
        raise ValueError(
            f"--tokens-per-sample: expected {fewest} to {positions}, the student's positions, "
            f"found {tokens}; lower it, or give the student more positions (--max-positions, "
            "--max-target-positions)"
        )


def check_teacher_options(config: KITaskConfig, live: bool, mixture: bool) -> None:
    """In a run with a teacher; ``live``: a model is run, ``mixture``: by domain."""
    if config.ki_teacher is not None and config.ki_store is not None:
        raise ValueError(
            "expected one source of the teacher's logits, found --ki-teacher "
            f"{config.ki_teacher} and --ki-store {config.ki_store}; drop one"
        )
    if config.ki_teacher_dtype is not None and not live:
        raise ValueError(
            "--ki-teacher-dtype: expected a live teacher (--ki-teacher), found none; a store "
            "has its own types"
        )
    if config.ki_tail and config.ki_store is None and not mixture:
        raise ValueError("--ki-tail: expected a --ki-store that keeps the tail, found none")


def check_counts(config: KITaskConfig) -> None:
    """fairseq takes any number for these, and hangs or divides by it later."""
    found = {
        "--batch-size": config.batch_size,
        "--max-tokens": config.max_tokens,
        "--update-freq": min(config.update_freq),
        "--log-interval": config.log_interval,
    }
    for option, value in found.items():
        if value is not None and value < 1:
            raise ValueError(f"{option}: expected at least 1, found {value}")


def check_teacher_batches(config: KITaskConfig) -> None:
    """In any run: without a teacher the option would be forgotten too."""
    count, update_freq = config.ki_teacher_batches, list(config.update_freq)
    if count < 1 or any(each % count for each in update_freq):
        # or the groups would fall otherwise after a resume, and the last digits with them
        raise ValueError(
            f"--ki-teacher-batches: expected a number that divides --update-freq "
            f"{','.join(map(str, update_freq))}, found {count}"
        )
    if count > 1 and config.ki_teacher is None:
        raise ValueError(
            f"--ki-teacher-batches {count}: expected a --ki-teacher, found none; stores and "
            "mixtures are asked about one micro-batch at a time, so drop it"
        )


def check_no_teacher_options(config: KITaskConfig, criterion: FairseqDataclass) -> None:
    """In a run without a teacher; a forgotten one would go unnoticed for as long as it lasts."""
    groups = ((config, ("ki_teacher_dict", "ki_tail")), (criterion, TEACHER_OPTIONS))
    for options, names in groups:
        for name in names:
            if getattr(options, name, None):
                raise ValueError(
                    f"--{name.replace('_', '-')}: expected a teacher (--ki-teacher, "
                    "--ki-store, or one in --ki-mixture), found none; name one, or drop the "
                    "option"
                )
