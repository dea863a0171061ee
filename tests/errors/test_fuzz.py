"""Damaged and random files: found out, or harmless, never a crash and never another number.

Damaged stores and manifests are in tests/store/test_verify.py, any bytes as text in
tests/preprocess/test_text_corpus.py.
"""

import json
import random
import string
import tempfile
from pathlib import Path

import pytest
import torch
import yaml
from hypothesis import example, given, settings
from hypothesis import strategies as st
from yaml_parsers import PARSERS

from fairseq_ki import compat
from fairseq_ki.evaluation import results_file
from fairseq_ki.store import Manifest


def same(first, second) -> bool:
    """Equal in structure, types and every number."""
    if type(first) is not type(second):
        return False
    if isinstance(first, torch.Tensor):
        return first.dtype == second.dtype and torch.equal(first, second)
    if isinstance(first, dict):
        return list(first) == list(second) and all(same(first[k], second[k]) for k in first)
    if isinstance(first, (list, tuple)):
        return len(first) == len(second) and all(map(same, first, second))
    return same(vars(first), vars(second)) if hasattr(first, "__dict__") else first == second


def damaged(content: bytes, count: int, seed: int):
    """Contents with one bit flipped, some bytes overwritten, or the end cut off."""
    rng = random.Random(seed)
    for _ in range(count):
        changed, at = bytearray(content), rng.randrange(len(content))
        kind = rng.choice(("flip", "flip", "overwrite", "cut"))
        if kind == "flip":
            changed[at] ^= 1 << rng.randrange(8)
        elif kind == "overwrite":
            changed[at : at + 8] = rng.randbytes(len(changed[at : at + 8]))
        else:
            del changed[at:]
        if changed != content:
            yield bytes(changed)


def test_a_damaged_checkpoint_is_found_out_or_reads_as_before(world, tmp_path):
    source, path = Path(world.names["teacher"]), tmp_path / "c.pt"
    honest, refusals = compat.load_checkpoint(source), []
    for content in damaged(source.read_bytes(), 250, seed=1):
        path.write_bytes(content)
        try:
            assert same(honest, compat.load_checkpoint(path))
        except compat.CheckpointError as refusal:
            refusals.append(str(refusal))
    assert len(refusals) > 150
    assert all("c.pt" in said for said in refusals)


yaml_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | st.dates(),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                "name data runs seeds common compare options role kind extends teachers command "
                "needs domains weight teacher weights schedule report-updates scales tables".split()
            )
            | st.text(string.ascii_letters, max_size=4),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)


@pytest.mark.parametrize("parser", PARSERS)
@settings(max_examples=60)
@example(content="runs: {a: {options: {arch: [1, {}]}}}\nname: x\ndata: ''")
@example(content="&a [*a]")
@example(content="%YAML 9.9\n---\n")
@example(content="a: 0b2\nb: 1_:3\nc: .inf\nd: 12:99:99")
@given(content=st.binary(max_size=60) | yaml_values.map(yaml.safe_dump) | st.text(max_size=60))
def test_any_file_is_read_or_refused_by_its_name(parser, content):
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "file.yaml"
        path.write_bytes(
            content if isinstance(content, bytes) else content.encode("utf-8", "replace")
        )
        said = "file.yaml"  # what is read needs to say nothing
        try:
            PARSERS[parser](path)
        except ValueError as refusal:
            said = str(refusal)
        assert "file.yaml" in said


@pytest.mark.parametrize(
    "load", [Manifest.load, lambda folder: results_file.load(folder / "results.json")]
)
@settings(max_examples=60)
@given(
    content=st.binary(max_size=60)
    | st.recursive(
        st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=5),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(
                st.sampled_from(["format", "plan", "runs", "name"]), inner, max_size=3
            )
        ),
        max_leaves=10,
    ).map(json.dumps),
    honest=st.booleans(),
)
def test_any_json_is_read_or_refused_by_its_name(load, content, honest):
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        data = content if isinstance(content, bytes) else content.encode()
        if honest and data.startswith(b"{"):  # past the first check
            data = b'{"format": "fairseq_ki.results/1", ' + data[1:]
        for file in ("manifest.json", "results.json"):
            (folder / file).write_bytes(data)
        with pytest.raises(ValueError, match=name):
            load(folder)
