"""What the tests of whole trainings have in common."""

import math
import shutil
from pathlib import Path

import numpy as np
import torch
from fairseq import options
from fairseq.data.indexed_dataset import MMapIndexedDataset, MMapIndexedDatasetBuilder
from fairseq.dataclass.utils import convert_namespace_to_omegaconf
from fairseq_cli import validate as fairseq_validate_cli

from fairseq_ki.cli.main import main
from fairseq_ki.criterions.ki import KICriterion

KI = "--task ki_mlm --criterion ki"
CAUSAL = "--task ki_lm --criterion ki"
GPT = (
    "--arch gpt_73m --decoder-layers {} --decoder-embed-dim {} --decoder-ffn-embed-dim 32 "
    "--decoder-attention-heads 2"
)


def capture(data, teacher, out, extra: str) -> Path:
    """A store of what a teacher says."""
    command = f"logits write {data} --teacher {teacher} --out {out} --tokens-per-sample 32 {extra}"
    assert main(command.split()) == 0
    return out


def part_of(data_bin, folder: Path, sentences: range, name: str = "train") -> Path:
    """A data-bin with some of the training sentences, the same dictionary and validation text."""
    folder.mkdir(exist_ok=True)
    for file in ("dict.txt", "valid.bin", "valid.idx"):
        shutil.copy(data_bin / file, folder)
    whole = MMapIndexedDataset(str(data_bin / "train"))
    builder = MMapIndexedDatasetBuilder(str(folder / f"{name}.bin"), dtype=np.uint16)
    for i in sentences:
        builder.add_item(whole[i])
    builder.finalize(str(folder / f"{name}.idx"))
    return folder


def record_logs(monkeypatch) -> list[dict]:
    """The logging output of every micro-batch that is trained on from now on."""
    logs = []
    forward = KICriterion.forward

    def recording(self, model, sample, reduce=True):
        loss, rows, log = forward(self, model, sample, reduce)
        if self.training:
            logs.append({key: float(value) for key, value in log.items()})
        return loss, rows, log

    monkeypatch.setattr(KICriterion, "forward", recording)
    return logs


def objectives(logs: list[dict]) -> list[float]:
    """Per row."""
    return [log["ki_objective"] / log["sample_size"] for log in logs]


def same_weights(one: dict, two: dict) -> bool:
    """Of two checkpoints, to the last bit."""
    return one["model"].keys() == two["model"].keys() and all(
        torch.equal(one["model"][k], two["model"][k]) for k in one["model"]
    )


def stopped_and_resumed(fairseq_train, data, folder, extra: str, stops, keys, *model) -> list[dict]:
    """The records of a training that is stopped after these updates, the last of them its end.

    It has to be to the last digit what one without a stop is, in ``keys`` and in its weights.
    """
    runs = {
        name: [
            fairseq_train(data, folder / name, f"{extra} --max-update {n}", *model) for n in updates
        ]
        for name, updates in (("straight", stops[-1:]), ("pieces", stops))
    }
    straight, resumed = ([r for run in runs[name] for r in run.train] for name in runs)
    for key in ("num_updates", *keys):
        assert [r[key] for r in resumed] == [r[key] for r in straight], key
    assert same_weights(*(pieces[-1].state() for pieces in runs.values()))
    return resumed


def validated(data, checkpoint, subset: str = "valid") -> tuple[float, int]:
    """(loss in bits, rows) that fairseq-validate finds for a masked LM."""
    logs = []
    reduce_metrics = KICriterion.reduce_metrics

    def recording(logging_outputs):
        logs.extend(logging_outputs)
        reduce_metrics(logging_outputs)

    KICriterion.reduce_metrics = staticmethod(recording)
    try:
        words = (
            f"{data} --user-dir fairseq_ki {KI} --path {checkpoint} --cpu --batch-size 8 "
            f"--valid-subset {subset} --required-batch-size-multiple 1"
        ).split()
        args, overrides = (
            options.parse_args_and_arch(
                options.get_validation_parser(), input_args=words, suppress_defaults=given_alone
            )
            for given_alone in (False, True)
        )
        fairseq_validate_cli.main(convert_namespace_to_omegaconf(args), overrides)
    finally:
        KICriterion.reduce_metrics = staticmethod(reduce_metrics)
    rows = sum(log["sample_size"] for log in logs)
    return float(sum(log["loss"] for log in logs)) / rows / math.log(2), rows
