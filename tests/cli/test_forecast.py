"""What the forecast says agrees with the count by hand, and with the paper's shapes."""

import json

import pytest

from fairseq_ki.cli.forecast import Run, forecast
from fairseq_ki.cli.main import main
from fairseq_ki.store import TopK, bytes_per_row

ENCODINGS = {"topk": ({"k": 10}, None), "sampled": ({"draws": 50}, 12.0)}
SMALL = Run(
    "4x192",
    "2x128",
    vocabulary=8000,
    tokens_per_sample=128,
    tokens_per_update=4096,
    updates=1000,
    ki_steps=400,
)


def test_ratios_by_hand():
    found = forecast(SMALL, ENCODINGS)
    rows = 0.15 * 4096
    student = 4096 * 4 * (8 * 192**2 + 4 * 192 * 768 + 4 * 128 * 192)
    student = 3 * (student + rows * (2 * 192 * 8000 + 2 * 192**2))
    layer = 8 * 128**2 + 4 * 128 * 512 + 4 * 128 * 128
    keys_and_values = 4 * 128**2
    teacher = 4096 * (layer + keys_and_values) + rows * (layer - keys_and_values)
    teacher += rows * (2 * 128 * 8000 + 2 * 128**2)
    assert found.student_update_flops == pytest.approx(student)
    assert found.teacher_update_flops == pytest.approx(teacher)
    assert found.ratio_guided == pytest.approx(1 + teacher / student)
    assert found.ratio_guided == pytest.approx(1.068, abs=1e-3)
    assert found.ratio_run == pytest.approx(1 + 0.4 * teacher / student)
    assert found.updates_to_earn == pytest.approx(400 * teacher / student)


def test_a_causal_lm_predicts_every_token():
    found = forecast(Run("gpt_124m", "gpt_73m", causal=True, updates=10, ki_steps=10), ENCODINGS)
    assert found.store_rows == 10 * 2048 * 512
    assert found.ratio_guided == found.ratio_run


def test_guidance_ends_with_the_run():
    long = forecast(Run("4x192", "2x128", updates=100, ki_steps=500), ENCODINGS)
    assert long.ratio_run == pytest.approx(long.ratio_guided)


def test_break_even_of_store_and_live_teacher():
    causal = {**vars(SMALL), "causal": True, "corpus_tokens": 4096 * 100}
    every = forecast(Run(**causal), ENCODINGS)  # the teacher speaks for 4 epochs
    assert (every.guided_epochs, every.mask_epochs) == (4.0, 4)
    assert every.capture_flops == pytest.approx(every.live_teacher_flops)
    assert every.break_even_students == 1
    # ten epochs in the store, of which a student sees four: it takes three students
    causal |= {"mask_epochs": 10}
    three = forecast(Run(**{**causal, "students": 3}), ENCODINGS)
    assert three.break_even_students == 3
    assert three.capture_flops < three.live_teacher_flops
    two = forecast(Run(**{**causal, "students": 2}), ENCODINGS)
    assert two.capture_flops > two.live_teacher_flops


def test_a_capture_does_not_spare_the_last_layer():
    found = forecast(SMALL, ENCODINGS)
    assert found.live_teacher_flops < found.capture_flops < 1.5 * found.live_teacher_flops
    assert found.break_even_students == 2


def test_size_of_a_store():
    topk, sampled = forecast(SMALL, ENCODINGS).stores
    per_row = bytes_per_row(TopK(8000, k=10), 0.15 * 128)
    assert topk.bytes_per_row == per_row
    assert topk.bytes == pytest.approx(per_row * 0.15 * 4096 * 400)
    assert sampled.encoding == "sampled draws 50"
    assert 20 < sampled.bytes_per_row < topk.bytes_per_row


def test_command(capsys):
    command = "forecast --student roberta_large --teacher roberta_base"
    assert main(command.split()) == 0
    said = capsys.readouterr().out
    assert "1.094 x the cost of plain training for 40,000 updates" in said
    assert main([*command.split(), "--json", "--students", "2"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["run"]["students"] == 2
    assert found["ratio_guided"] == pytest.approx(1.0941, abs=1e-4)
    assert [s["encoding"] for s in found["stores"]] == ["topk k 10", "sampled draws 50"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("--updates 0", "--updates: expected 1 or more, found 0"),
        ("--mask-prob 1.5", "--mask-prob: expected above 0, at most 1, found 1.5"),
        ("--distinct 60", "--distinct: expected above 0 and at most --draws 50, found 60"),
        ("--task ki_lm", "roberta_large: expected a causal LM, found a masked LM"),
        ("--k 0", "k"),
    ],
)
def test_refusals(options, message, capsys):
    command = f"forecast --student roberta_large --teacher roberta_base {options}"
    assert main(command.split()) == 2
    assert message in capsys.readouterr().err
