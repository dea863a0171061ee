"""Names numpy 2 has taken away: which of them text can reach."""

import ast
from pathlib import Path

import fairseq
import numpy as np
import torch
from fairseq.data import TokenBlockDataset, data_utils, token_block_dataset

# in functions for speech and images alone
OUT_OF_REACH = {
    ("data/data_utils.py", "compute_mask_indices"),
    ("data/data_utils.py", "compute_mask_indices_v3"),
    ("modules/dynamic_crf_layer.py", "_compute_normalizer"),
}


def names_that_numpy_lacks() -> set[tuple[str, str]]:
    host = Path(fairseq.__file__).parent
    found = set()
    for path in host.rglob("*.py"):
        text = path.read_text()
        if "examples" in path.parts or "np." not in text:
            continue
        for function in ast.walk(ast.parse(text)):
            if not isinstance(function, ast.FunctionDef):
                continue
            for node in ast.walk(function):
                if (
                    isinstance(node, ast.Attribute)
                    and isinstance(node.value, ast.Name)
                    and node.value.id in ("np", "numpy")
                    and not hasattr(np, node.attr)
                ):
                    found.add((str(path.relative_to(host)), function.name))
    return found


def test_every_missing_name_is_known():
    patched = {
        ("data/token_block_dataset.py", "_build_slice_indices"),
        ("data/language_pair_dataset.py", "__init__"),
    }
    assert names_that_numpy_lacks() <= OUT_OF_REACH | patched


def test_sentences_as_blocks():
    """``--sample-break-mode eos``."""
    sentences = [torch.tensor([5, 6, 2]), torch.tensor([7, 2])]
    blocks = TokenBlockDataset(sentences, [3, 2], block_size=None, pad=1, eos=2, break_mode="eos")
    assert [block.tolist() for block in blocks] == [[5, 6, 2], [7, 2]]


def test_numpy_itself_is_untouched():
    assert not hasattr(np, "int")
    assert data_utils.np is np
    assert token_block_dataset.np.arange is np.arange
    assert hasattr(np, "compat") or token_block_dataset.np is not np
