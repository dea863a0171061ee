"""The death of another process is told in one line; other errors are left alone."""

import pytest

from fairseq_ki.compat.lost_processes import lost_process

GLOO = (
    "[/pytorch/third_party/gloo/gloo/transport/tcp/pair.cc:553] Connection closed by peer "
    "[127.0.0.1]:27848. This is typically caused by a remote worker crashing."
)
NCCL = (
    "NCCL error in: ProcessGroupNCCL.cpp:1275, remote process exited or there was a network "
    "error, NCCL version 2.21.5"
)


@pytest.mark.parametrize("text", [GLOO, GLOO.replace("closed", "reset"), NCCL])
def test_a_lost_rank(text):
    said = lost_process(RuntimeError(text))
    assert said.startswith("another rank of this run has ended")
    assert text[:40] in said
    assert "\n" not in said
    assert "goes on from the last checkpoint" in said


@pytest.mark.parametrize(
    "text",
    [
        "DataLoader worker (pid 4711) is killed by signal: Killed. ",
        "DataLoader worker (pid(s) 4711, 4712) exited unexpectedly",
    ],
)
def test_a_lost_loader_worker(text):
    said = lost_process(RuntimeError(text))
    assert said.startswith("a loader worker has ended")
    assert "4711" in said
    assert "--num-workers" in said


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError("mat1 and mat2 shapes cannot be multiplied"),
        RuntimeError("The server socket has failed to listen on any local network address"),
        ConnectionResetError(104, "Connection reset by peer"),  # no rank's: some library's own
        ValueError(GLOO),
    ],
)
def test_other_errors_are_left_alone(error):
    assert lost_process(error) is None
