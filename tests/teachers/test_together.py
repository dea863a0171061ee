"""A teacher asked about several micro-batches at once says what it says of each alone."""

import pytest
import torch

from fairseq_ki.objective.positions import Positions
from fairseq_ki.objective.signals import HeadSignal
from fairseq_ki.teachers.together import Together

PAD = 1
CPU = torch.device("cpu")


def net_input(samples: int, length: int) -> dict:
    tokens = torch.randint(4, 60, (samples, length))
    return {"src_tokens": tokens, "src_lengths": torch.full((samples,), length), "flag": None}


@pytest.fixture
def batches():
    torch.manual_seed(0)
    inputs = [net_input(3, 8), net_input(2, 11), net_input(3, 5)]
    masks = [torch.rand_like(each["src_tokens"].float()) < 0.4 for each in inputs]
    masks[1][:] = False  # a micro-batch without rows
    return inputs, [Positions.where(mask) for mask in masks]


class Teacher:
    """Says of each row its token and the sum of its sample's, pads not counted."""

    def __init__(self):
        self.seen = []

    def __call__(self, net_input, rows):
        tokens = net_input["src_tokens"]
        self.seen.append(tokens.shape)
        assert tokens.shape == rows.shape == (len(net_input["src_lengths"]), tokens.size(1))
        sums = (tokens * tokens.ne(PAD)).sum(1, keepdim=True).expand_as(tokens)
        features = torch.stack([rows.of(tokens), rows.of(sums)], 1).float()
        return HeadSignal(features, torch.eye(2), None)


def test_asked_once_for_all(batches):
    inputs, positions = batches
    teacher, together = Teacher(), Together(inputs, positions, PAD)
    for place in (1, 0, 2):
        alone = Teacher()(inputs[place], positions[place]).features
        assert torch.equal(together.answer(place, teacher, CPU).features, alone)
    assert teacher.seen == [(8, 11)]


def test_an_answer_is_given_once(batches):
    teacher, together = Teacher(), Together(*batches, PAD)
    assert together.answer(0, teacher, CPU) is not None
    assert together.answer(0, teacher, CPU) is None
    assert len(teacher.seen) == 1
