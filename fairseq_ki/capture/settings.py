"""What fixes the samples of a capture, and the fairseq task that cuts and masks them so."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from fairseq import tasks
from fairseq.dataclass.configs import CheckpointConfig, CommonConfig, DatasetConfig
from fairseq.registry import REGISTRIES
from omegaconf import DictConfig, OmegaConf

from fairseq_ki.tasks import ki_lm, ki_mlm

TASKS = {
    "ki_mlm": (ki_mlm.KIMaskedLMConfig, ki_mlm.BLOCK_OPTIONS),
    "ki_lm": (ki_lm.KILanguageModelingConfig, ki_lm.BLOCK_OPTIONS),
}


@dataclass(frozen=True)
class DataSettings:
    """The options by which fairseq-train would see the same samples. Plain, so that it pickles.

    Args:
        data: data-bin directories, separated by colons.
        task: ``ki_mlm`` or ``ki_lm``.
        split: ``--train-subset`` of the training.
        seed: of the masks.
        options: of the task, by the names in its BLOCK_OPTIONS; fairseq's defaults for the rest.
        bpe: name of fairseq's ``--bpe`` and its options, for ``--mask-whole-words``; or None.
    """

    data: str
    task: str = "ki_mlm"
    split: str = "train"
    seed: int = 1
    options: Mapping[str, Any] = field(default_factory=dict)
    bpe: tuple[str, Mapping[str, Any]] | None = None


def build_task(settings: DataSettings):
    """The task as a training would set it up, without a teacher; it never trains."""
    config_class, _ = TASKS[settings.task]
    config = config_class(data=settings.data, **settings.options)
    config._name = settings.task
    # the task's options refer to these groups of fairseq's, as they do in fairseq-train
    groups = OmegaConf.create(
        {
            "common": OmegaConf.structured(CommonConfig(seed=settings.seed)),
            "dataset": OmegaConf.structured(DatasetConfig(train_subset=settings.split)),
            "checkpoint": OmegaConf.structured(CheckpointConfig()),
            "bpe": None if settings.bpe is None else _bpe_config(*settings.bpe),
            "task": OmegaConf.structured(config),
        }
    )
    return tasks.setup_task(groups.task)


def _bpe_config(name: str, options: Mapping[str, Any]) -> DictConfig:
    config = REGISTRIES["bpe"]["dataclass_registry"][name](**options)
    config._name = name
    return OmegaConf.structured(config)
