"""results.json: what is written comes back, and nothing else is accepted."""

import json
import math

import pytest

from fairseq_ki.evaluation.results import FORMAT
from fairseq_ki.evaluation.results_file import is_one, load, save


def test_round_trip(results, tmp_path):
    file = tmp_path / "results.json"
    save(results, file)
    assert load(file) == results
    assert not list(tmp_path.glob("*.tmp"))


def test_numbers_that_are_not_finite_are_null_in_valid_json(results, tmp_path):
    results.runs[0].valid["loss"][0] = math.nan
    results.runs[0].wall_seconds = math.inf
    file = tmp_path / "results.json"
    save(results, file)
    text = file.read_text()
    assert "NaN" not in text
    assert json.loads(text)["runs"][0]["valid"]["loss"][0] is None
    back = load(file)
    assert math.isnan(back.runs[0].valid["loss"][0])
    assert math.isnan(back.runs[0].wall_seconds)


TABLE = {
    "title": "T",
    "note": "",
    "columns": ["run", "a", "b"],
    "rows": [{"label": "x", "cells": ["ki"], "paper": []}],
}


def break_file(results, tmp_path, change):
    file = tmp_path / "results.json"
    save(results, file)
    data = json.loads(file.read_text())
    change(data)
    file.write_text(json.dumps(data))
    return file


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda d: d.update(format="x/2"), f"expected format '{FORMAT}' or .*, found 'x/2'"),
        (lambda d: d.pop("seeds"), r"missing \['seeds'\]"),
        (lambda d: d["runs"][1].update(extra=1), r"runs\[1\].*unknown \['extra'\]"),
        (lambda d: d["runs"][0].update(seed="1"), r"runs\[0\]\.seed: expected .*int.*found '1'"),
        (lambda d: d["runs"][0]["valid"].update(loss=[True]), r"valid\.loss\[0\].*found True"),
        (lambda d: d["runs"][2]["teachers"][0].pop("updates"), r"teachers\[0\].*'updates'"),
        (lambda d: d.update(runs={}), r"runs: expected list"),
        (lambda d: d["runs"][0]["valid"].pop("loss"), r"runs\[0\]: valid: expected the columns"),
        (lambda d: d["runs"][0]["train"].update(loss=[1]), r"train: .*one length.*'loss': 1"),
        (lambda d: d["runs"][0]["valid"].update(updates=[1, 3, 2, 4]), "updates that grow"),
        (lambda d: d["runs"][0]["valid"].update(updates=[1, 2, 3, None]), "updates that grow"),
        (lambda d: d["runs"][0].update(seed=10**400), r"runs\[0\]\.seed: expected"),
        (lambda d: d["runs"][0].update(wall_seconds=10**400), r"wall_seconds: expected"),
        (lambda d: d["runs"][1]["paper"].update(valid_ppl={"x": 1}), r"PPL by update"),
        (lambda d: d["corpus"][0].pop("path"), "corpus: expected path and sha256"),
        (lambda d: d["corpus"][0].update(description=None), "corpus: .* mapping as description"),
        (lambda d: d["comparisons"][0]["paper"].pop("saving"), r"paper.*missing \['saving'\]"),
        (
            lambda d: d["tables"].append(TABLE),
            "table 'T': expected one cell for each",
        ),
    ],
)
def test_what_does_not_fit_is_refused(results, tmp_path, change, message):
    with pytest.raises(ValueError, match=message):
        load(break_file(results, tmp_path, change))


def test_half_a_file_is_refused(tmp_path):
    file = tmp_path / "results.json"
    file.write_text('{"format": ')
    with pytest.raises(ValueError, match=r"results\.json: expected the JSON of"):
        load(file)


def test_a_result_on_one_line_is_one_too(results, tmp_path):
    save(results, tmp_path / "results.json")
    for name in ("compact.json", "compact.txt"):
        (tmp_path / name).write_text(
            json.dumps(json.loads((tmp_path / "results.json").read_text()))
        )
        assert is_one(tmp_path / name)
    for name, text in (("a.json", "{"), ("b.json", "")):
        (tmp_path / name).write_text(text)
        assert is_one(tmp_path / name)
    (tmp_path / "log.json").write_text('{"epoch": 1}\n{"epoch": 2}\n')
    assert not is_one(tmp_path / "log.json")
