"""The linear model on features that tell classes apart without a doubt."""

import warnings
from types import SimpleNamespace

import numpy as np
import pytest

from fairseq_ki.downstream.probing import fit


def prepared(classes, labels):
    rows = {"train": [SimpleNamespace(label=label) for label in labels]}
    data = SimpleNamespace(labels=classes)
    return SimpleNamespace(scale=None, rows=rows, data=data, classes=len(classes))


def softmax(outputs):
    shares = np.exp(outputs - outputs.max(1, keepdims=True))
    return shares / shares.sum(1, keepdims=True)


@pytest.mark.parametrize("classes", [["a", "b"], ["a", "b", "c"]])
def test_certain_answers_come_without_a_warning(classes):
    rng = np.random.default_rng(0)
    middles = np.eye(len(classes), dtype=np.float32)
    places = [i % len(classes) for i in range(60)]
    train = middles[places] + rng.normal(0, 0.01, (60, len(classes))).astype(np.float32)
    given = prepared(classes, [classes[i] for i in places])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = fit(given, {"train": train, "dev": middles * 1e4}, 10.0)["dev"]
    assert found.argmax(1).tolist() == list(range(len(classes)))
    np.testing.assert_allclose(softmax(found), np.eye(len(classes)), atol=1e-6)


def test_outputs_are_logarithms_of_probabilities_up_to_a_constant():
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    rng = np.random.default_rng(1)
    x = {split: rng.normal(size=(40, 5)) for split in ("train", "dev")}
    for classes, lacking in ((["a", "b"], 0), (["a", "b", "c"], 0), (["a", "b", "c"], 1)):
        present = len(classes) - lacking
        numbers = rng.integers(0, present, 40)
        ours = fit(prepared(classes, [classes[i] for i in numbers]), x, 1.0)["dev"]
        model = make_pipeline(StandardScaler(), LogisticRegression(C=1.0, max_iter=2000))
        theirs = model.fit(x["train"], numbers).predict_proba(x["dev"])
        np.testing.assert_allclose(softmax(ours)[:, :present], theirs, atol=1e-6)
        assert (softmax(ours)[:, present:] == 0).all()  # a class that train lacks
