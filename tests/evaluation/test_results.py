"""results.json: what is written comes back, and nothing else is accepted."""

import json
import math

import pytest

from fairseq_ki.evaluation.results import FORMAT, load, save


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
        (lambda d: d.update(format="x/2"), f"expected format '{FORMAT}', found 'x/2'"),
        (lambda d: d.pop("seeds"), r"missing \['seeds'\]"),
        (lambda d: d["runs"][1].update(extra=1), r"runs\[1\].*unknown \['extra'\]"),
        (lambda d: d["runs"][0].update(seed="1"), r"runs\[0\]\.seed: expected .*int.*found '1'"),
        (lambda d: d["runs"][0]["valid"].update(loss=[True]), r"valid\.loss\[0\].*found True"),
        (lambda d: d["runs"][2]["teachers"][0].pop("updates"), r"teachers\[0\].*'updates'"),
        (lambda d: d.update(runs={}), r"runs: expected list"),
    ],
)
def test_what_does_not_fit_is_refused(results, tmp_path, change, message):
    with pytest.raises(ValueError, match=message):
        load(break_file(results, tmp_path, change))


def test_half_a_file_is_refused(tmp_path):
    file = tmp_path / "results.json"
    file.write_text('{"format": ')
    with pytest.raises(ValueError, match=r"results\.json: expected JSON"):
        load(file)


def test_ppl_and_costs_of_a_run(results):
    run = results.arm("ki")[0]
    assert run.ppl(200) == 512.0  # as logged
    assert run.ppl(150) == pytest.approx(2**9.5)
    assert math.isnan(run.ppl(401))
    # the teacher costs forward passes while it is consulted, and nothing later
    assert run.cost(100) == 30 * 100 + 2 * 100
    assert run.cost(400) == 30 * 400 + 2 * 200
    assert run.teacher_training == 6 * 400
    assert run.seconds(150) == 75
    assert run.guidance == 200


def test_pairs_match_seeds_and_share_a_fixed_one(results):
    comparison = results.comparisons[0]
    assert [(a.seed, b.seed) for a, b in results.pairs(comparison)] == [(1, 1), (2, 2)]
    results.runs = [r for r in results.runs if (r.name, r.seed) != ("self", 2)]
    assert [(a.seed, b.seed) for a, b in results.pairs(comparison)] == [(1, 1), (2, 1)]
