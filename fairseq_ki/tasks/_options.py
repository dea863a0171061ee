"""The options that ``ki_mlm`` and ``ki_lm`` share."""

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
    # fairseq's own options, read to tell a resumed run from one that starts
    save_dir: str = II("checkpoint.save_dir")
    restore_file: str = II("checkpoint.restore_file")
    continue_once: Optional[str] = II("checkpoint.continue_once")
    finetune_from_model: Optional[str] = II("checkpoint.finetune_from_model")
    reset_optimizer: bool = II("checkpoint.reset_optimizer")
    reset_dataloader: bool = II("checkpoint.reset_dataloader")
    no_save: bool = II("checkpoint.no_save")
    train_subset: str = II("dataset.train_subset")
    update_freq: list[int] = II("optimization.update_freq")


def plain(value):
    """An option as a number or text, as a store's plan holds it."""
    return value.value if isinstance(value, Enum) else value
