"""The library's own report of what it compiled; the variable is read when it is first used."""

import os
import subprocess
import sys

import pytest

from fairseq_ki.compat import kernel_cache

SHAPES_TWICE = """
import os, torch
from fairseq_ki.compat.kernel_cache import bound_kernel_cache
bound_kernel_cache()
os.environ["ONEDNN_VERBOSE"] = "profile_create"
weight = torch.ones(64, 64, dtype=torch.bfloat16)
for _ in range(2):
    for rows in range(2, 202):
        torch.nn.functional.linear(torch.ones(rows, 64, dtype=torch.bfloat16), weight)
"""


def test_what_the_user_says_stays(monkeypatch):
    monkeypatch.setenv("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "7")
    assert not kernel_cache.bound_kernel_cache()
    assert os.environ["ONEDNN_PRIMITIVE_CACHE_CAPACITY"] == "7"


@pytest.mark.parametrize(("asked", "compiled"), [(None, 400), ("1024", 200)])
def test_rare_shapes_are_compiled_again(monkeypatch, asked, compiled):
    monkeypatch.delenv("ONEDNN_PRIMITIVE_CACHE_CAPACITY", raising=False)
    if asked:
        monkeypatch.setenv("ONEDNN_PRIMITIVE_CACHE_CAPACITY", asked)
    done = subprocess.run(
        [sys.executable, "-c", SHAPES_TWICE], check=True, capture_output=True, text=True
    )
    found = done.stdout.count("cache_miss"), done.stdout.count("cache_hit")
    if not any(found):
        pytest.skip("this processor's products do not go through oneDNN")
    assert found == (compiled, 400 - compiled)
