"""Batches are read ahead in groups, and counted as fairseq counts them."""

from types import SimpleNamespace

import torch
from fairseq.data.iterators import CountingIterator, GroupedIterator

from fairseq_ki.data.positions import CollateWithPositions
from fairseq_ki.data.together import read_together
from fairseq_ki.teachers.together import TOGETHER

PAD = 1


def batch(number: int) -> dict:
    tokens = torch.full((2, 4), number + 4)
    return {"net_input": {"src_tokens": tokens}, "target": tokens.where(tokens > 5, PAD)}


def iterator(batches: list[dict], start: int = 0):
    made = [CollateWithPositions(lambda b: b, PAD)(each) for each in batches]
    epochs = SimpleNamespace(next_epoch_itr=lambda: CountingIterator(made[start:], start=start))
    read_together(epochs, 2, PAD)
    return epochs.next_epoch_itr()


def test_groups_of_the_update():
    epoch = iterator([batch(n) for n in range(5)])
    updates = list(GroupedIterator(epoch, 4))
    assert [len(update) for update in updates] == [4, 1]
    groups = [[sample[TOGETHER] for sample in update] for update in updates]
    assert [place for update in groups for _, place in update] == [0, 1, 0, 1, 0]
    assert groups[0][0][0] is groups[0][1][0] is not groups[0][2][0]
    assert len(groups[1][0][0].net_inputs) == 1


def test_what_was_given_is_counted_and_not_what_was_read():
    epoch = iterator([batch(n) for n in range(5)])
    next(epoch)
    assert (epoch.n, len(epoch), epoch.has_next()) == (1, 5, True)


def test_a_resumed_epoch_goes_on():
    epoch = iterator([batch(n) for n in range(5)], start=2)
    assert [int(sample["net_input"]["src_tokens"][0, 0]) for sample in epoch] == [6, 7, 8]


def test_what_is_left_out_is_not_read():
    taken = []
    plain = iterator([batch(n) for n in range(5)])
    plain._itr._plain = SimpleNamespace(take=taken.append)
    plain.take(4)
    assert taken == [4]


def test_a_rank_without_a_batch():
    epoch = iterator([batch(0), {}])
    first, second = epoch
    assert second == {}
    assert len(first[TOGETHER][0].net_inputs) == 1
