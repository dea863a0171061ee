"""Probing: a linear model on the features of the frozen encoder.

Seconds instead of minutes, and for models of a few million parameters a steadier picture of what
pre-training has left in them than fine-tuning.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from fairseq import checkpoint_utils
from fairseq.tasks.sentence_prediction import SentencePredictionConfig, SentencePredictionTask

from fairseq_ki.downstream.predicting import batches, device_for
from fairseq_ki.downstream.preparing import Prepared, subset
from fairseq_ki.downstream.pretrained import Pretrained
from fairseq_ki.downstream.reading import TRAIN, TaskData, shown
from fairseq_ki.evaluation.downstream import counted

POOLINGS = ("first", "mean")
STRENGTHS = (0.0001, 0.001, 0.01, 0.1, 1.0, 10.0)  # inverse regularisation


def check_probed(data: TaskData, max_train: int | None) -> None:
    """ValueError if the rows that a probe is trained on have one class alone."""
    rows = data.rows[TRAIN]
    rows = rows if max_train is None else subset(rows, max_train)
    classes = {row.label for row in rows}
    if not data.task.regression and len(classes) < 2:
        raise ValueError(
            f"{data.task.title}: expected at least two classes among the "
            f"{counted(len(rows), 'row')} that the probe is trained on, found "
            f"{shown(classes.pop())} alone; raise --max-train"
        )


@torch.no_grad()
def features(
    prepared: Prepared, pretrained: Pretrained, pooling: str, cpu: bool
) -> dict[str, np.ndarray]:
    """The last layer at the first token, or its mean over tokens: (rows, width) by split."""
    (model,), _, _ = checkpoint_utils.load_model_ensemble_and_task(
        [str(pretrained.path)], arg_overrides={"data": str(pretrained.dict_path.parent)}
    )
    device = device_for(cpu)
    model.to(device).eval()
    task = _task(prepared, pretrained)
    found = {}
    for split, rows in prepared.rows.items():
        its_features = np.full((len(rows), model.args.encoder_embed_dim), np.nan, np.float32)
        for batch in batches(task, split, device):
            tokens = batch["net_input"]["src_tokens"]
            hidden, _ = model(tokens, features_only=True)
            if pooling == "first":
                pooled = hidden[:, 0]
            else:
                known = tokens.ne(pretrained.dictionary.pad()).unsqueeze(-1)
                pooled = (hidden * known).sum(1) / known.sum(1)
            its_features[batch["id"].cpu().numpy()] = pooled.float().cpu().numpy()
        found[split] = its_features
    return found


def _task(prepared: Prepared, pretrained: Pretrained) -> SentencePredictionTask:
    """Reads a prepared folder as fine-tuning does."""
    cfg = SentencePredictionConfig(
        data=str(prepared.folder),
        num_classes=prepared.classes,
        init_token=pretrained.dictionary.bos(),
        separator_token=pretrained.dictionary.eos(),
        no_shuffle=True,
        max_positions=pretrained.positions,
        regression_target=prepared.scale is not None,
        seed=1,
    )
    return SentencePredictionTask.setup_task(cfg)


def fit(
    prepared: Prepared, by_split: dict[str, np.ndarray], strength: float
) -> dict[str, np.ndarray]:
    """Train the linear model; its outputs on the other splits, as fine-tuned models give them."""
    from sklearn.linear_model import LogisticRegression, Ridge
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    predict: Callable[[Any], np.ndarray]
    if prepared.scale is not None:
        low, high = prepared.scale
        targets = [(float(row.label) - low) / (high - low) for row in prepared.rows[TRAIN]]
        ridge = make_pipeline(StandardScaler(), Ridge(alpha=1 / strength))
        ridge.fit(by_split[TRAIN], targets)

        def predict(x):
            return ridge.predict(x)[:, None]

    else:
        numbers = {label: number for number, label in enumerate(prepared.data.labels)}
        classes = [numbers[str(row.label)] for row in prepared.rows[TRAIN]]
        logistic = make_pipeline(StandardScaler(), LogisticRegression(C=strength, max_iter=2000))
        logistic.fit(by_split[TRAIN], classes)

        def predict(x):
            # a class that the subset of train lacks is never predicted
            outputs = np.full((len(x), prepared.classes), -np.inf)
            # up to a constant for each row the logarithms of probabilities, which themselves
            # may be 0
            scores = logistic.decision_function(x)
            if scores.ndim == 1:  # of two classes, for the second against the first
                scores = np.stack([np.zeros_like(scores), scores], 1)
            outputs[:, logistic.classes_] = scores
            return outputs

    return {split: predict(x).astype(np.float32) for split, x in by_split.items() if split != TRAIN}
