"""Masks drawn once are fairseq's two datasets, bit for bit."""

import pytest
import torch
from fairseq.data import Dictionary

from fairseq_ki.data.masked_once import masked_once, replacement_edges
from fairseq_ki.data.masking import mask_tokens

DEFAULTS = {
    "mask_prob": 0.15,
    "leave_unmasked_prob": 0.1,
    "random_token_prob": 0.1,
    "freq_weighted_replacement": False,
    "mask_whole_words": None,
    "mask_multiple_length": 1,
    "mask_stdev": 0.0,
    "seed": 5,
}


@pytest.fixture(scope="module")
def dictionary():
    dictionary = Dictionary()
    for i in range(200):
        dictionary.add_symbol(f"w{i}", n=1000 - i)
    dictionary.add_symbol("<mask>")
    return dictionary


@pytest.fixture(scope="module")
def blocks():
    generator = torch.Generator().manual_seed(0)
    made = [torch.randint(0, 204, (n,), generator=generator) for n in (1, 2, 3, 7, 32, 128) * 20]
    for block in made:
        block[0] = 0  # begins a word
    return made


@pytest.mark.parametrize(
    "changed",
    [
        {},
        {"mask_prob": 0.5, "seed": 2**40 + 1},
        {"random_token_prob": 0.0},
        {"leave_unmasked_prob": 0.0},
        {"random_token_prob": 0.0, "leave_unmasked_prob": 0.0},
        {"random_token_prob": 0.7, "leave_unmasked_prob": 0.3, "freq_weighted_replacement": True},
        {"mask_multiple_length": 3},
        {"mask_multiple_length": 2, "mask_stdev": 1.0},
        {"mask_whole_words": (torch.arange(205) % 3 == 0).byte()},
    ],
    ids=lambda changed: ",".join(changed) or "defaults",
)
def test_the_same_as_two_datasets(dictionary, blocks, changed):
    options = {**DEFAULTS, **changed}
    source, target = mask_tokens(
        blocks, dictionary, pad_idx=1, mask_idx=dictionary.index("<mask>"), **options
    )
    changes, edges = 0, replacement_edges(source)
    for epoch in (1, 2, 90):
        source.set_epoch(epoch)
        target.set_epoch(epoch)
        for block in range(len(blocks)):
            inputs, wanted = masked_once(source, target, block, edges)
            assert torch.equal(inputs, source[block])
            assert torch.equal(wanted, target[block])
            assert inputs.dtype == wanted.dtype == torch.int64
            changes += int((inputs != blocks[block]).sum())
    assert changes > 100


def test_a_text_that_has_the_mask_is_refused_as_by_fairseq(dictionary):
    mask = dictionary.index("<mask>")
    source, target = mask_tokens(
        [torch.tensor([5, mask, 6])], dictionary, pad_idx=1, mask_idx=mask, **DEFAULTS
    )
    with pytest.raises(AssertionError, match="mask_idx"):
        masked_once(source, target, 0, replacement_edges(source))
