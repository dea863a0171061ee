"""What can be said of the GPU benchmark without one, and one run where there is one."""

import json

import gpu
import pytest
import step
import torch


def test_without_a_device_it_says_so(monkeypatch, capsys):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert gpu.main([]) == 0
    assert "no CUDA device" in capsys.readouterr().out


def test_peaks_are_found_by_the_names_of_devices():
    assert gpu.peak_tflops("NVIDIA H200") == 989
    assert gpu.peak_tflops("NVIDIA A100-SXM4-80GB") == 312
    assert gpu.peak_tflops("Tesla V100-SXM2-32GB") == 125
    assert gpu.peak_tflops("NVIDIA A1000") is None


def test_utilisation_counts_student_and_teacher(small):
    result = {"ms": 10.0, "bound": 1.1}
    expected = 1.1 * small.student_flops / 0.01 / 2e12
    assert gpu.utilisation(small, result, peak=2) == pytest.approx(expected)
    assert gpu.utilisation(small, result, peak=None) is None


def test_half_precision_is_measured(small):
    """On the CPU, where bf16 runs too."""
    results = gpu.measure(small, "bf16", step.Settings(turns=1, threads=1, memory=False), 1.0)
    assert [r["precision"] for r in results] == ["bf16"] * 7
    assert all(r["utilisation"] > 0 for r in results)
    lines = gpu.text(results).splitlines()
    assert len(lines) == 8
    assert lines[0].startswith("precision | case")


@pytest.mark.gpu
def test_on_a_device(capsys):
    assert gpu.main("--student 2x64 --teacher 1x32 --vocabulary 500 --tokens-per-sample 32 "
                    "--turns 3 --json".split()) == 0  # fmt: skip
    results = json.loads(capsys.readouterr().out)["masked"]["results"]
    assert {r["precision"] for r in results} == {"fp16", "bf16"}
    assert all(r["peak_mib"] > 0 for r in results)
