"""Samples of several domains: the draw, the batch, and who is read from which store."""

import numpy as np
import pytest
import torch
from fairseq.data import FairseqDataset

from fairseq_ki.data.domains import AllSamples, DomainSamples, DrawnSamples
from fairseq_ki.data.stored_rows import ReadingSwitch
from fairseq_ki.store import Rows
from fairseq_ki.teachers.router import DOMAIN
from fairseq_ki.teachers.stored import STORED

PAD = 1


class Sentences(FairseqDataset):
    """Sample i of ``first`` + i everywhere; its length is given."""

    def __init__(self, first: int, sizes: list[int]):
        self.first, self.sizes, self.epoch = first, np.array(sizes), 1

    def __len__(self):
        return len(self.sizes)

    def __getitem__(self, index):
        return {"target": torch.full((self.sizes[index],), self.first + index)}

    def size(self, index):
        return self.sizes[index]

    def collater(self, samples):
        if not samples:
            return {}
        padded = torch.nn.utils.rnn.pad_sequence
        return {"target": padded([s["target"] for s in samples], True, PAD)}

    def set_epoch(self, epoch):
        self.epoch = epoch


class OneRow:
    """A store's rows of a split: one row, which says from where it was read."""

    def __init__(self, name: int, columns: int):
        self.name, self.columns, self.epoch = name, columns, 1

    def set_epoch(self, epoch):
        self.epoch = epoch

    def read(self, index, source, target):
        assert len(source) == len(target)
        ids = np.full((1, self.columns), index, dtype=np.int32)
        values = np.zeros((1, self.columns), dtype=np.float16)
        return Rows(ids, values, np.zeros(1, np.float16), np.array([self.name], np.int32))


def domains_of(*parts, stores=None, switch=None):
    stores = stores or [()] * len(parts)
    switch = switch or ReadingSwitch()
    return [DomainSamples(d, part, stores[d], "target", switch) for d, part in enumerate(parts)]


def drawn(seed=1, epoch=1, weights=(1.0, 3.0), sizes=(700, 300)):
    parts = [Sentences(1000 * (i + 2), [4 + i] * n) for i, n in enumerate(sizes)]
    return DrawnSamples(domains_of(*parts), weights, seed, epoch)


def tokens(dataset) -> list[int]:
    return [int(dataset[i]["target"][0]) for i in range(len(dataset))]


def test_the_weight_is_the_share_of_the_samples():
    data = drawn()
    assert len(data) == 1000
    share = np.mean([data[i][DOMAIN] for i in range(len(data))])
    assert share == pytest.approx(0.75, abs=3 * (0.75 * 0.25 / 1000) ** 0.5)
    within = [t for t in tokens(data) if t >= 3000]  # every sample of a domain alike
    assert 240 < len(set(within)) <= 300


def test_the_draw_is_of_seed_and_epoch():
    once = tokens(drawn())
    assert tokens(drawn()) == once
    assert tokens(drawn(seed=2)) != once
    second = drawn(epoch=2)
    assert tokens(second) != once
    later = drawn()
    later.set_epoch(2)  # as a run that has trained an epoch, and as one that resumes in it
    assert tokens(later) == tokens(second)


def test_everything_below_is_in_the_epoch():
    store = OneRow(1, 2)
    (one,) = domains_of(Sentences(2, [3, 3]), stores=[(store,)])
    data = DrawnSamples([one], [1.0], 1, 1)
    data.set_epoch(5)
    assert (one.dataset.epoch, store.epoch) == (5, 5)


def test_batches_respect_the_sizes_of_what_was_drawn():
    rng = np.random.default_rng(3)
    parts = [Sentences(1000 * (i + 2), rng.integers(2, 30, 200).tolist()) for i in range(2)]
    data = DrawnSamples(domains_of(*parts), [1.0, 1.0], 1, 1)
    order = data.ordered_indices()
    lengths = np.array([len(data[i]["target"]) for i in range(len(data))])
    assert (np.diff(lengths[order]) >= 0).all()
    kept, left_out = data.filter_indices_by_size(order, 20)
    assert lengths[kept].max() <= 20 < lengths[left_out].min()
    batches = data.batch_by_size(kept, max_tokens=100, required_batch_size_multiple=1)
    assert sorted(i for batch in batches for i in batch) == sorted(kept)
    assert all(len(batch) * lengths[batch].max() <= 100 for batch in batches)
    assert max(len(batch) * lengths[batch].max() for batch in batches) > 80


def test_validation_has_every_sample_once():
    parts = [Sentences(1000 * (i + 2), [5, 3, 5, 3, 5] * 9) for i in range(2)]
    data = AllSamples(domains_of(*parts))
    order = data.ordered_indices()
    short = [i for i in range(90) if data.size(i) == 3]
    assert order.tolist() == short + [i for i in range(90) if data.size(i) == 5]


def test_a_batch_knows_its_domains_and_their_rows():
    """Stores of other widths and numbers; a domain without a store."""
    stores = [(), (OneRow(11, 2),), (OneRow(21, 3), OneRow(22, 5))]
    parts = domains_of(*(Sentences(10 * d + 10, [2, 2, 2]) for d in range(3)), stores=stores)
    batch = parts[0].collater([parts[2][0], parts[0][1], parts[1][2], parts[2][1]])
    assert batch[DOMAIN].tolist() == [2, 0, 1, 2]
    assert batch[DOMAIN].dtype == torch.int64
    assert batch["target"][:, 0].tolist() == [30, 11, 22, 31]
    assert {d: len(rows) for d, rows in batch[STORED].items()} == {1: 1, 2: 2}
    assert batch[STORED][1][0]["top1"].tolist() == [11]
    assert [rows["top1"].tolist() for rows in batch[STORED][2]] == [[21, 21], [22, 22]]
    assert batch[STORED][2][1]["ids"].tolist() == [[0] * 5, [1] * 5]
    assert parts[0].collater([]) == {}


def test_no_store_is_read_once_the_teachers_are_gone():
    switch = ReadingSwitch()
    (one,) = domains_of(Sentences(2, [3]), stores=[(OneRow(1, 2),)], switch=switch)
    read_before = one[0]
    assert len(read_before[STORED]) == 1
    switch.off()
    assert one[0][STORED] == []
    assert one.collater([one[0]])[STORED] == {}
    batch = one.collater([read_before, one[0]])  # switched off while a worker made the batch
    assert len(batch["target"]) == 2


def test_samples_that_only_fill_the_batch():
    """--pad-to-fixed-bsz: more rows than samples, all of them padding."""
    (one,) = domains_of(Sentences(2, [3]))
    one.dataset.collater = lambda samples: {"target": torch.full((4, 3), PAD)}
    assert one.collater([one[0]])[DOMAIN].tolist() == [0, 0, 0, 0]
