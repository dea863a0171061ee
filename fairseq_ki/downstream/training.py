"""The fairseq-train command that fine-tunes a checkpoint on a prepared task (Table 8)."""

import math
import sys
from dataclasses import dataclass
from pathlib import Path

from fairseq_ki.downstream.preparing import Prepared, fairseq_split
from fairseq_ki.downstream.pretrained import Pretrained
from fairseq_ki.downstream.reading import DEV, TRAIN
from fairseq_ki.experiments import options as train_options
from fairseq_ki.experiments.plan import USER_DIR

WEIGHT_DECAY, WARMUP, EPOCHS, DROPOUT = 0.1, 0.06, 10, 0.1


@dataclass(frozen=True)
class Setting:
    """One point of the grid."""

    lr: float
    batch_size: int

    @property
    def name(self) -> str:
        """For folders; two rates that differ have two."""
        return f"lr{self.lr!r}-batch{self.batch_size}"


@dataclass(frozen=True)
class HowToTrain:
    """What is the same for all runs.

    Attributes:
        update_freq: a batch goes through the model in so many parts.
    """

    epochs: int = EPOCHS
    update_freq: int = 1
    fp16: bool = False
    cpu: bool = False


def updates_per_epoch(prepared: Prepared, setting: Setting, how: HowToTrain) -> int:
    """As fairseq counts them: the last update of an epoch may have fewer rows."""
    part = setting.batch_size // how.update_freq
    return math.ceil(math.ceil(len(prepared.rows[TRAIN]) / part) / how.update_freq)


def options(
    prepared: Prepared, pretrained: Pretrained, setting: Setting, seed: int, how: HowToTrain
) -> list[str]:
    """Options of fairseq-train that decide the result, without places."""
    total = how.epochs * updates_per_epoch(prepared, setting, how)
    task = prepared.data.task
    chosen = {
        "task": "sentence_prediction",
        "num-classes": prepared.classes,
        "init-token": pretrained.dictionary.bos(),
        "separator-token": pretrained.dictionary.eos(),
        "criterion": "ki_sentence_prediction",
        "ki-metric": task.metric,
        "max-positions": pretrained.positions,
        "dropout": DROPOUT,
        "attention-dropout": DROPOUT,
        "batch-size": setting.batch_size // how.update_freq,
        "update-freq": how.update_freq,
        "required-batch-size-multiple": 1,
        "optimizer": "adam",
        "adam-betas": "(0.9, 0.98)",
        "adam-eps": 1e-6,
        "weight-decay": WEIGHT_DECAY,
        "lr": setting.lr,
        "lr-scheduler": "polynomial_decay",
        "warmup-updates": round(WARMUP * total),
        "total-num-update": total,
        "max-update": total,
        "max-epoch": how.epochs,
        "seed": seed,
    }
    flags = {"regression-target": task.regression, "fp16": how.fp16}
    chosen |= {flag: True for flag, wanted in flags.items() if wanted}
    return [*pretrained.model_words, *train_options.words(chosen)]


def command(
    options: list[str], prepared: Prepared, pretrained: Pretrained, how: HowToTrain, out: Path
) -> list[str]:
    """The whole command. A call that finds ``checkpoint_last.pt`` in ``out`` goes on from it."""
    others = {
        "user-dir": USER_DIR,
        "finetune-from-model": pretrained.path,
        "save-dir": out,
        "valid-subset": fairseq_split(DEV),
        "batch-size-valid": 64,
        "best-checkpoint-metric": "score",
        "maximize-best-checkpoint-metric": True,
        "no-epoch-checkpoints": True,
        "distributed-world-size": 1,  # several processes would multiply the batch
        "num-workers": 0,
        "log-format": "json",
        "log-interval": 10,
    }
    others |= {"cpu": True} if how.cpu else {}
    words = [sys.executable, "-m", "fairseq_cli.train", str(prepared.folder)]
    return [*words, *options, *train_options.words(others)]
