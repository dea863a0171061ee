"""Two ranks are compared with one, and the numbers that grow are the ones that are asked for."""

import json

import pytest
import scaling
import step


def test_growth_of_the_teacher_and_of_k(monkeypatch, small):
    monkeypatch.setattr(scaling, "TEACHERS", ("1x16x32", "2x16x32"))
    monkeypatch.setattr(scaling, "KS", (3, 20, 500))  # the last exceeds the vocabulary
    settings = step.Settings(turns=1, threads=1, memory=False)
    by_teacher = scaling.growth(small, "teacher", settings)
    assert [r["value"] for r in by_teacher] == ["1x16x32", "2x16x32"]
    assert 1 < by_teacher[0]["bound"] < by_teacher[1]["bound"]
    by_k = scaling.growth(small, "k", settings)
    assert [r["case"] for r in by_k] == ["top-3 store", "top-20 store"]
    assert all(r["ms"] > 0 for r in by_teacher + by_k)


@pytest.mark.slow
def test_two_ranks_take_turns_with_one(capsys):
    scaling.main(
        "--parts ranks --student 1x32x64 --teacher 1x16x32 --vocabulary 120 "
        "--tokens-per-sample 16 --batch 8 --turns 2 --num-workers 0 --json".split()
    )
    found = json.loads(capsys.readouterr().out)["ranks"]
    assert [r["case"] for r in found] == ["plain", "ki, no teacher", "live teacher"]
    for r in found:
        assert r["ranks"] == 2
        assert r["tokens_per_second_together"] > 0
        assert 0 < r["ratio"] < 4
        assert 0 < r["ratio_apart"] < 4
