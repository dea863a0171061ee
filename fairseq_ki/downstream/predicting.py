"""What a fine-tuned model says about a split, saved so that anyone can compute the metrics.

predictions.jsonl has one object for each row: ``split``, ``line`` (in the split's file),
``label``, ``prediction``, ``in_train`` (whether train has the same text) and, for classes,
``probabilities`` in the order of the labels.
"""

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from fairseq import checkpoint_utils, utils
from fairseq.models import BaseFairseqModel
from fairseq.tasks import FairseqTask

from fairseq_ki.downstream.preparing import Prepared, fairseq_split
from fairseq_ki.downstream.reading import TRAIN
from fairseq_ki.evaluation.downstream import UNSEEN
from fairseq_ki.evaluation.metrics import score
from fairseq_ki.evaluation.whole_files import write_bytes

_BATCH = 64


def predict(checkpoint: Path, prepared: Prepared, cpu: bool) -> dict[str, np.ndarray]:
    """The model's outputs (rows, classes), float32, for every split but train."""
    (model,), _, task = checkpoint_utils.load_model_ensemble_and_task(
        [str(checkpoint)], arg_overrides={"data": str(prepared.folder)}
    )
    device = device_for(cpu)
    model.to(device).eval()
    outputs = {}
    for split in prepared.rows:
        if split != TRAIN:
            outputs[split] = _outputs(model, task, prepared, split, device)
    return outputs


def device_for(cpu: bool) -> torch.device:
    """The first GPU, unless there is none or it is not wanted."""
    return torch.device("cuda" if torch.cuda.is_available() and not cpu else "cpu")


def batches(task: FairseqTask, split: str, device: torch.device) -> Iterator[dict]:
    """A prepared split in batches, every row once."""
    dataset = task.load_dataset(fairseq_split(split))
    iterator = task.get_batch_iterator(dataset, max_sentences=_BATCH, num_workers=0)
    for batch in iterator.next_epoch_itr(shuffle=False):
        yield utils.move_to_cuda(batch) if device.type == "cuda" else batch


@torch.no_grad()
def _outputs(
    model: BaseFairseqModel,
    task: FairseqTask,
    prepared: Prepared,
    split: str,
    device: torch.device,
) -> np.ndarray:
    outputs = np.full((len(prepared.rows[split]), prepared.classes), np.nan, np.float32)
    for batch in batches(task, split, device):
        logits, _ = model(
            **batch["net_input"],
            features_only=True,
            classification_head_name=task.cfg.classification_head_name,
        )
        outputs[batch["id"].cpu().numpy()] = logits.float().cpu().numpy()
    return outputs


def write_predictions(
    path: Path, prepared: Prepared, outputs: dict[str, np.ndarray]
) -> dict[str, dict[str, float]]:
    """Write predictions.jsonl at once; returns its :func:`scores`."""
    records = [
        record for split, values in outputs.items() for record in _records(prepared, split, values)
    ]
    lines = (json.dumps(record, ensure_ascii=False) + "\n" for record in records)
    write_bytes(path, "".join(lines).encode())
    return scores(records, prepared.data.task.metrics)


def _records(prepared: Prepared, split: str, outputs: np.ndarray) -> Iterator[dict]:
    labels = prepared.data.labels
    for row, in_train, values in zip(prepared.rows[split], prepared.in_train[split], outputs):
        record = {"split": split, "line": row.line, "label": row.label, "in_train": in_train}
        if prepared.scale is not None:
            low, high = prepared.scale
            record["prediction"] = low + float(values[0]) * (high - low)
        else:
            record["prediction"] = labels[int(values.argmax())]
            shares = torch.softmax(torch.from_numpy(values).double(), 0)
            record["probabilities"] = [round(share, 6) for share in shares.tolist()]
        yield record


def scores(records: list[dict], metrics: tuple[str, ...]) -> dict[str, dict[str, float]]:
    """Every metric by split, and where some rows' text is in train, without these rows too."""
    chosen: dict[str, list[dict]] = {}
    for record in records:
        chosen.setdefault(record["split"], []).append(record)
    for split, of_split in list(chosen.items()):
        unseen = [record for record in of_split if not record["in_train"]]
        if 0 < len(unseen) < len(of_split):
            chosen[split + UNSEEN] = unseen
    return {
        split: {
            m: score(m, [r["label"] for r in rows], [r["prediction"] for r in rows])
            for m in metrics
        }
        for split, rows in chosen.items()
    }
