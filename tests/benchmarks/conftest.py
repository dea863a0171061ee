"""The benchmarks are scripts that import their siblings, so their folder goes on the path."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))


@pytest.fixture
def small():
    """Models and batches that take a moment."""
    from _sides import Problem

    return Problem(
        causal=False,
        student="1x32x64",
        teacher="1x16x32",
        vocabulary=120,
        tokens_per_sample=16,
        batch=8,
        updates=6,
        num_workers=0,
    )
