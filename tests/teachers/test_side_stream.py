"""The order in which streams wait for each other; on CUDA, the same numbers."""

from contextlib import contextmanager
from types import SimpleNamespace

import pytest
import torch

from fairseq_ki.objective.signals import DenseSignal, HeadSignal, MixedSignal, SparseSignal
from fairseq_ki.teachers.side_stream import SideStream, tensors

CPU, CUDA = torch.device("cpu"), torch.device("cuda", 0)


@pytest.fixture
def calls(monkeypatch):
    """What is asked of CUDA, by two streams with names."""
    made = []

    class Stream:
        def __init__(self, name):
            self.name, self.device = name, CUDA

        def wait_stream(self, other):
            made.append(f"{self.name} waits for {other.name}")

    @contextmanager
    def on(stream):
        made.append(f"on {stream.name}")
        yield
        made.append(f"off {stream.name}")

    student = Stream("student")
    cuda = SimpleNamespace(
        Stream=lambda device: Stream("teacher"), current_stream=lambda device: student, stream=on
    )
    monkeypatch.setattr("fairseq_ki.teachers.side_stream.torch", SimpleNamespace(cuda=cuda))
    return made


class Recorded(torch.Tensor):
    def record_stream(self, stream):
        self.stream = stream.name


def test_the_teacher_starts_after_what_was_before_and_is_waited_for(calls):
    side = SideStream(used=True)
    with side.aside(CUDA):
        calls.append("teacher")
    calls.append("student")
    features = torch.ones(2, 3).as_subclass(Recorded)
    weight = torch.ones(5, 3).as_subclass(Recorded)
    side.join(HeadSignal(features, weight, None))
    assert calls == [
        "teacher waits for student",
        "on teacher",
        "teacher",
        "off teacher",
        "student",
        "student waits for teacher",
    ]
    assert features.stream == weight.stream == "student"


def test_one_after_the_other_unless_asked(calls):
    side = SideStream(used=False)
    with side.aside(CUDA):
        pass
    side.join(None)
    assert calls == []


def test_without_cuda_it_says_once_that_it_does_nothing(calls, caplog):
    side = SideStream(used=True)
    for _ in range(2):
        with side.aside(CPU):
            pass
        side.join(None)
    assert [record.getMessage() for record in caplog.records] == [
        "--ki-teacher-stream: expected a CUDA device, found cpu: no effect"
    ]
    assert calls == []


def test_every_tensor_of_every_signal():
    one, two, three, four = (torch.tensor(n) for n in range(4))
    sparse = SparseSignal(one, two, three, four)
    mixed = MixedSignal((HeadSignal(one, two, three), DenseSignal(four)), (0.5, 0.5))
    assert list(tensors((sparse, None, mixed))) == [one, two, three, four, one, two, three, four]
