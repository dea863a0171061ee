"""Rows of a batch by sample and place, as boolean indexing finds them."""

import pytest
import torch

from fairseq_ki.objective.positions import Positions


@pytest.fixture
def mask():
    torch.manual_seed(0)
    mask = torch.rand(7, 11) < 0.3
    mask[2] = False
    mask[5] = True
    return mask


def test_indexing_is_that_of_the_mask(mask):
    rows, values = Positions.where(mask), torch.randn(7, 11, 3)
    assert torch.equal(rows.of(values), values[mask])
    assert torch.equal(rows.mask, mask)
    assert (len(rows), rows.shape, rows.most) == (int(mask.sum()), (7, 11), 11)


def test_slots_count_the_rows_of_each_sample(mask):
    rows = Positions.where(mask)
    assert torch.equal(rows.slots, (mask.cumsum(1) - 1)[mask])


def test_among_some_samples(mask):
    samples = torch.tensor([0, 2, 5])
    rows, values = Positions.where(mask).among(samples), torch.randn(7, 11)
    assert torch.equal(rows.of(values[samples]), values[samples][mask[samples]])
    assert rows.shape == (3, 11)


def test_some_rows(mask):
    rows, values = Positions.where(mask), torch.randn(7, 11)
    places = torch.arange(0, len(rows), 2)
    assert torch.equal(rows.at(places).of(values), values[mask][places])


def test_batches_one_under_the_other(mask):
    wide = torch.rand(3, 14) < 0.5
    joined = Positions.joined([Positions.where(mask), Positions.where(wide)])
    expected = torch.cat([torch.nn.functional.pad(mask, (0, 3)), wide])
    assert torch.equal(joined.mask, expected)
    assert (joined.shape, joined.most) == ((10, 14), max(11, int(wide.sum(1).max())))


def test_no_row_and_no_sample():
    for shape in ((4, 5), (0, 5)):
        rows = Positions.where(torch.zeros(shape, dtype=torch.bool))
        assert (len(rows), rows.most, rows.shape) == (0, 0, shape)
        assert rows.of(torch.zeros(*shape, 2)).shape == (0, 2)
        assert not rows.mask.any()
