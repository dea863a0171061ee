"""Metrics of fine-tuning tasks, computed by scikit-learn and scipy, which come with fairseq.

They are imported when a metric is computed: ``--user-dir`` reaches this module.
"""

import warnings
from collections.abc import Callable, Sequence

REGRESSION = ("pearson", "spearman")
POSITIVE = "1"  # the class whose F1 is meant where there are two: MRPC's and QQP's paraphrases


def score(metric: str, gold: Sequence, predicted: Sequence) -> float:
    """One number in scikit-learn's and scipy's own units: a share, or a correlation.

    Args:
        metric: a name in :data:`METRICS`.
        gold, predicted: labels as strings, or floats for a metric in :data:`REGRESSION`.
            A correlation with predictions that are all equal is undefined and counts as 0.
    """
    return float(METRICS[metric](gold, predicted))


def _accuracy(gold, predicted) -> float:
    from sklearn.metrics import accuracy_score

    return accuracy_score(gold, predicted)


def _matthews(gold, predicted) -> float:
    from sklearn.metrics import matthews_corrcoef

    return matthews_corrcoef(gold, predicted)


def _f1(gold, predicted) -> float:
    from sklearn.metrics import f1_score

    return f1_score(gold, predicted, pos_label=POSITIVE, zero_division=0)


def _averaged_f1(average: str) -> Callable:
    def f1(gold, predicted) -> float:
        from sklearn.metrics import f1_score

        return f1_score(gold, predicted, average=average, zero_division=0)

    return f1


def _correlation(name: str) -> Callable:
    def correlation(gold, predicted) -> float:
        from scipy import stats

        if len(gold) < 2 or len(set(gold)) == 1 or len(set(predicted)) == 1:
            return 0.0
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", stats.NearConstantInputWarning)
            return getattr(stats, name)(gold, predicted)[0]

    return correlation


METRICS: dict[str, Callable[[Sequence, Sequence], float]] = {
    "accuracy": _accuracy,
    "matthews": _matthews,
    "f1": _f1,
    "macro_f1": _averaged_f1("macro"),
    "micro_f1": _averaged_f1("micro"),
    "pearson": _correlation("pearsonr"),
    "spearman": _correlation("spearmanr"),
}

TITLES = {
    "accuracy": "accuracy",
    "matthews": "Matthews",
    "f1": "F1",
    "macro_f1": "macro-F1",
    "micro_f1": "micro-F1",
    "pearson": "Pearson",
    "spearman": "Spearman",
}
