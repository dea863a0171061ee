"""Everything that one process of a capture opens: the data, the teacher, and the plan of both."""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from fairseq import utils

from fairseq_ki.capture.samples import SplitSamples
from fairseq_ki.capture.settings import DataSettings, build_task
from fairseq_ki.capture.teacher import TeacherPass
from fairseq_ki.data.splits import combined_fingerprint
from fairseq_ki.lineage import teacher_sha256
from fairseq_ki.models.ki_teacher import load_teacher
from fairseq_ki.store import Plan, Split, make_encoding
from fairseq_ki.tasks._options import fewest_tokens, plain


@dataclass(frozen=True)
class CaptureSettings:
    """A capture as it is asked for. Plain, so that it can be handed to other processes.

    Args:
        data: what fixes blocks and masks.
        teacher: fairseq checkpoint, or ``hf:`` and a directory of transformers.
        teacher_dict: its dict.txt, where it is not beside the checkpoint.
        encoding: name in ``store.ENCODINGS``; parameters: of the encoding.
        mask_epochs: how many maskings of every sample (1 for causal models).
        samples_per_shard: samples of one file: what a kill can lose, per process.
        batch_size: samples per forward pass.
        device: cpu or cuda.
    """

    data: DataSettings
    teacher: str
    encoding: str
    parameters: Mapping[str, Any] = field(default_factory=dict)
    teacher_dict: str | None = None
    mask_epochs: int = 1
    samples_per_shard: int = 1024
    batch_size: int = 32
    device: str = "cpu"

    def __post_init__(self) -> None:
        if self.batch_size < 1:
            raise ValueError(f"--batch-size: expected at least 1 sample, found {self.batch_size}")
        if self.device == "cuda" and not torch.cuda.is_available():
            raise ValueError("--device cuda: expected a GPU that torch can use, found none")
        if self.data.task == "ki_lm" and self.mask_epochs != 1:
            raise ValueError(
                "--mask-epochs: a causal model has no masks, so that all epochs are alike: "
                f"expected 1, found {self.mask_epochs}"
            )


@dataclass(frozen=True)
class Session:
    """Open data and teacher.

    Args:
        task: fairseq's.
        longest: sample that is shown to the teacher, in tokens.
        splits: one per different data directory.
        fingerprints: theirs.
    """

    settings: CaptureSettings
    task: Any
    longest: int
    splits: list[SplitSamples]
    fingerprints: list[str]
    teacher: TeacherPass

    @classmethod
    def open(cls, settings: CaptureSettings, device: str | None = None) -> "Session":
        """Build the task, index the splits, load and check the teacher.

        Args:
            device: of this process, where it is not the one of the settings.

        Raises:
            ValueError: for data or a teacher that do not fit, with expected and found.
        """
        data = settings.data
        task = build_task(data)
        tokens, fewest = task.config.tokens_per_sample, fewest_tokens(task.causal)
        if tokens < fewest:
            raise ValueError(f"--tokens-per-sample: expected at least {fewest}, found {tokens}")
        model = load_teacher(
            settings.teacher,
            task,
            dictionary=settings.teacher_dict,
            causal=task.causal,
            positions=task.longest_sample,
        )
        longest = task.longest_sample
        if plain(task.config.sample_break_mode) != "none":
            longest = model.max_positions()  # sentences stay whole, however long
        splits: dict[str, SplitSamples] = {}
        for number, directory in enumerate(utils.split_paths(data.data)):
            fingerprint = combined_fingerprint(os.path.join(directory, data.split), combine=True)
            if fingerprint not in splits:  # a directory may be named twice
                splits[fingerprint] = SplitSamples(task, data.split, number, longest)
        teacher = TeacherPass(model, device or settings.device)
        return cls(settings, task, longest, list(splits.values()), list(splits), teacher)

    def plan(self) -> Plan:
        """The plan of the store, the same in every process and every resumption."""
        settings, task = self.settings, self.task
        dictionary = task.source_dictionary
        encoding = make_encoding(settings.encoding, len(dictionary), dict(settings.parameters))
        return Plan(
            encoding=encoding,
            task="lm" if task.causal else "mlm",
            splits=tuple(
                Split(settings.data.split, fingerprint, len(samples))
                for fingerprint, samples in zip(self.fingerprints, self.splits)
            ),
            dictionary_sha256=task.dictionary_sha256(),
            teacher_sha256=teacher_sha256(settings.teacher),
            max_rows=self.longest,
            data=task.store_settings(),
            mask_epochs=settings.mask_epochs,
            samples_per_shard=settings.samples_per_shard,
            capture={
                "batch_size": settings.batch_size,
                "device": settings.device,
                "teacher_dictionary_sha256": self.teacher.model.dictionary_sha256,
            },
        )
