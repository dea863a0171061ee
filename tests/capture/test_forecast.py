"""Forecasts against what is then written, and the progress of writing."""

import io
import time

import pytest

from fairseq_ki.capture import processes
from fairseq_ki.capture.forecast import duration, forecast, size
from fairseq_ki.capture.progress import Progress
from fairseq_ki.capture.session import Session


@pytest.mark.parametrize(
    ("encoding", "parameters"),
    [("topk", {"k": 5}), ("topp", {"p": 0.6, "k": 30}), ("sampled", {"draws": 40}), ("dense", {})],
)
def test_bytes_are_foretold(settings, tmp_path, encoding, parameters):
    session = Session.open(settings(encoding, parameters, mask_epochs=2, samples_per_shard=50))
    plan = session.plan()
    begun = time.monotonic()
    expected = forecast(session, plan)
    manifest = processes.write_here(tmp_path / "store", session, plan, None)
    elapsed = time.monotonic() - begun
    assert expected.samples == manifest.samples
    assert expected.shards == len(manifest.shards)
    assert expected.rows == pytest.approx(manifest.rows, rel=0.05)
    assert expected.bytes == pytest.approx(manifest.shard_bytes, rel=0.1)
    assert 0 < expected.seconds < 10 * elapsed + 1


def test_more_processes_take_less_time(session):
    alone = forecast(session, session.plan()).seconds
    shared = forecast(session, session.plan(), processes=1000).seconds
    assert shared < alone / 10


def test_numbers_for_people():
    assert [size(n) for n in (0, 999, 1000, 12_345_678, 5e12)] == [
        "0 bytes", "999 bytes", "1.0 kB", "12.3 MB", "5.0 TB",
    ]  # fmt: skip
    assert [duration(s) for s in (0.4, 61, 3600 + 62)] == ["0:00 min", "1:01 min", "1:01:02 h"]


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_terminal_sees_one_line_that_changes(monkeypatch):
    now = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    stream = Terminal()
    progress = Progress("samples", stream)
    progress.start(100, 20)
    for _ in range(4):
        now[0] += 1
        progress.add(10)
    progress.end()
    shown = stream.getvalue().split("\r")[1:]
    assert [line.split()[0] for line in shown] == ["30/100", "40/100", "50/100", "60/100", "60/100"]
    # 10 a second since this session began; what was there before does not make it faster
    assert shown[3].strip() == "60/100 samples · 10.0/s · 0:04 min left"
    assert stream.getvalue().count("\n") == 1


def test_a_log_gets_a_line_now_and_then(monkeypatch):
    now = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    stream = io.StringIO()
    progress = Progress("samples", stream)
    progress.start(1000, 0)
    for _ in range(100):
        now[0] += 1
        progress.add(10)
    progress.end()
    lines = stream.getvalue().splitlines()
    assert 5 <= len(lines) <= 8
    assert all("\r" not in line for line in lines)
    assert lines[-1].startswith("1,000/1,000 samples")
