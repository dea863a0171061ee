"""The benchmark measures what it says: the same batches, the cases' own work, the right bound."""

import json

import pytest
import step
import torch
from _sides import Problem, Side, ratio, write_data_bin

SMALL = Problem(
    causal=False,
    student="2x32x64",
    teacher="1x16x32",
    vocabulary=120,
    tokens_per_sample=16,
    batch=8,
    updates=8,
    num_workers=0,
)


def test_ratio_is_taken_turn_by_turn():
    # a machine that turns three times slower in the second turn changes nothing
    assert ratio([2.0, 6.0, 2.2], [1.0, 3.0, 1.0]) == 2.0


def test_bound_counts_the_teacher_only_where_it_runs():
    layer = 8 * 32**2 + 4 * 32 * 64 + 4 * 16 * 32
    tokens, rows = 128, 0.15 * 128
    student = 3 * (tokens * 2 * layer + rows * (2 * 32 * 120 + 2 * 32**2))
    assert SMALL.student_flops == pytest.approx(student)
    keys_and_values = 4 * 16**2  # the only work of a single layer at all positions
    teacher = tokens * keys_and_values + rows * (4 * 16**2 + 4 * 16 * 32 + 4 * 16 * 16)
    teacher += rows * (2 * 16 * 120 + 2 * 16**2)
    assert SMALL.teacher_flops == pytest.approx(teacher)
    assert [case.teacher_runs for case in step.cases(causal=False)] == [
        case.name.startswith("live") for case in step.cases(causal=False)
    ]


def test_data_is_what_the_problem_says(tmp_path):
    data = write_data_bin(SMALL, tmp_path / "data")
    side = Side("plain", SMALL, data, "--task masked_lm --criterion masked_lm".split())
    assert len(side.task.source_dictionary) == SMALL.vocabulary
    batches = [next(side._batches)[0] for _ in range(SMALL.updates)]
    for batch in batches:
        assert batch["net_input"]["src_tokens"].shape == (8, 16)
    frequencies = torch.bincount(torch.cat([b["target"].flatten() for b in batches]))
    assert frequencies[4:8].sum() > frequencies[20:100].sum() > 0


@pytest.mark.parametrize("model", ["masked", "causal"])
def test_all_cases_are_measured(model, capsys):
    step.main(
        f"--model {model} --student 2x32x64 --teacher 1x16x32 --vocabulary 120 --turns 2 "
        "--tokens-per-sample 16 --batch 8 --prepared --no-memory --threads 1 --json".split()
    )
    results = json.loads(capsys.readouterr().out)[model]["results"]
    by_case = {r["case"]: r for r in results}
    assert list(by_case) == [
        "plain",
        "ki, no teacher",
        "live teacher",
        "live teacher, bf16",
        "top-10 store",
        "sampled store",
        "after alpha = 0",
    ]
    assert by_case["plain"]["ratio"] == 1.0
    assert by_case["ki, no teacher"]["same_losses_as_plain"]
    assert not by_case["live teacher"]["same_losses_as_plain"]  # it does teach
    for r in results:
        assert r["ms"] > 0
        assert r["loader_ms"] > 0
        assert (r["bound"] > 1) == r["case"].startswith("live")


def test_a_teacher_that_reads_micro_batches_together(capsys):
    step.main(
        "--model masked --student 2x32x64 --teacher 1x16x32 --vocabulary 120 --turns 2 "
        "--tokens-per-sample 16 --batch 8 --micro-batches 4 --cases live --no-memory --threads 1 "
        "--json".split()
    )
    found = json.loads(capsys.readouterr().out)["masked"]
    cases = [r["case"] for r in found["results"]]
    assert cases == ["plain", "live teacher", "live teacher, bf16", "live teacher, 4 at once"]


def test_on_a_gpu_a_stream_of_its_own_is_a_case():
    with_stream = [c for c in step.cases(causal=False, device="cuda") if "stream" in c.options]
    assert [c.name for c in with_stream] == ["live teacher, own stream"]


def test_memory_is_that_of_a_fresh_process_and_the_teacher_goes(tmp_path):
    data = write_data_bin(SMALL, tmp_path / "data")
    step.make_teacher(SMALL, data)
    after = next(c for c in step.cases(causal=False) if c.name.startswith("after"))
    live = next(c for c in step.cases(causal=False) if c.name == "live teacher")
    found = step.in_a_fresh_process(SMALL, data, after, threads=1)
    assert found["peak_mib"] > 0
    assert found["teacher_released"] is True
    assert step.peak_memory(SMALL, data, live)["teacher_released"] is False
