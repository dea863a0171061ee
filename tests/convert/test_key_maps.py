"""The tables, read in both directions."""

import pytest
import torch

from fairseq_ki.convert import key_maps as maps

TABLES = {
    "roberta": (
        *maps.ROBERTA,
        maps.ROBERTA_TOKEN_TYPES,
        *maps.ROBERTA_LM_HEAD,
        maps.ROBERTA_OUTPUT,
        *maps.classification_head("h"),
    ),
    "gpt2": (*maps.GPT2, maps.GPT2_OUTPUT),
    "biogpt": (*maps.BIOGPT, maps.BIOGPT_OUTPUT),
}
SIZES = {"D": 6, "F": 10, "P": 9, "C": 3, "T": 2}
LAYOUTS = {
    "the same order": maps.Layout(tuple(range(8)), 2, 2, SIZES),
    "another order": maps.Layout((3, 1, 0, 2, 7, 5, 6, 4), 1, 2, SIZES),
    "symbols missing": maps.Layout((None, None, 5, None, 0, 1, 2, 3, 4), 0, 1, SIZES),
}


@pytest.mark.parametrize("layout", LAYOUTS.values(), ids=LAYOUTS)
@pytest.mark.parametrize("table", TABLES.values(), ids=TABLES)
def test_there_and_back(table, layout):
    thirds: dict[str, list] = {}
    hf = {}
    for entry in layout.of_layers(table):
        hf.setdefault(entry.hf, torch.randn(layout.hf_shape(entry)))
    for entry in layout.of_layers(table):
        tensor = hf[entry.hf]
        if entry.form is maps.Form.POSITIONS:
            # what no token uses comes back as zero, unless both begin at the same row
            tensor[: layout.first_position] *= layout.first_position == maps.FIRST_POSITION
        ours = maps.to_fairseq(entry, tensor, layout)
        assert tuple(ours.shape) == layout.fairseq_shape(entry)
        back = maps.to_hf(entry, ours, layout)
        if entry.third is None:
            assert torch.equal(back, tensor), entry
            continue
        thirds.setdefault(entry.hf, []).append(back)
        if len(thirds[entry.hf]) == 3:
            assert torch.equal(maps.join_thirds(entry, thirds[entry.hf]), tensor), entry


def test_symbols_without_a_row_are_never_predicted():
    layout = LAYOUTS["symbols missing"]
    bias = next(e for e in maps.ROBERTA_LM_HEAD if e.form is maps.Form.SYMBOL_BIAS)
    moved = maps.to_fairseq(bias, torch.arange(6.0), layout)
    assert moved.tolist() == [-1e4, -1e4, 5, -1e4, 0, 1, 2, 3, 4]
    assert moved.softmax(0)[0] == 0


@pytest.mark.parametrize("table", TABLES.values(), ids=TABLES)
def test_no_name_is_there_twice(table):
    ours = [entry.fairseq for entry in table]
    assert len(set(ours)) == len(ours)
    whole = [entry.hf for entry in table if entry.third is None]
    assert len(set(whole)) == len(whole)
