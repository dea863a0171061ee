"""The task's metric over a whole validation set that comes in batches."""

import numpy as np
import pytest
import torch
from fairseq.logging import metrics
from sklearn.metrics import f1_score, matthews_corrcoef

from fairseq_ki.criterions.ki_sentence_prediction import KISentencePredictionCriterion


def logged(metric, batches):
    outputs = [
        {
            "loss": torch.tensor(1.0), "ntokens": 9, "nsentences": len(gold),
            "sample_size": len(gold), "pred": said, "targ": gold, "metric": metric,
        }
        for gold, said in batches
    ]  # fmt: skip
    with metrics.aggregate() as found:
        KISentencePredictionCriterion.reduce_metrics(outputs)
        return found.get_smoothed_values()


@pytest.mark.parametrize("metric", ["macro_f1", "matthews", "f1", "pearson"])
def test_score_is_of_all_batches_together(metric):
    rng = np.random.default_rng(2)
    gold, said = rng.integers(0, 2, (2, 50))
    if metric == "pearson":
        gold, said = rng.random((2, 50))
    gold, said = gold.tolist(), said.tolist()
    expected = {
        "macro_f1": lambda: f1_score(gold, said, average="macro"),
        "matthews": lambda: matthews_corrcoef(gold, said),
        "f1": lambda: f1_score(gold, said),
        "pearson": lambda: np.corrcoef(gold, said)[0, 1],
    }[metric]()
    batches = [(gold[:32], said[:32]), (gold[32:], said[32:])]
    assert logged(metric, batches)["score"] == pytest.approx(expected)


def test_training_has_no_score():
    outputs = {"loss": torch.tensor(1.0), "ntokens": 9, "nsentences": 2, "sample_size": 2}
    with metrics.aggregate() as found:
        KISentencePredictionCriterion.reduce_metrics([outputs | {"metric": "f1"}])
        assert "score" not in found.get_smoothed_values()
    # predictions are lists: ranks gather them
    assert not KISentencePredictionCriterion.logging_outputs_can_be_summed()
