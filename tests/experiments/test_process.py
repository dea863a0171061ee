"""Commands in the background: logs, progress, failures, signals, one at a time."""

import io
import os
import signal
import subprocess
import sys
import threading
import time

import pytest

from fairseq_ki.experiments import process
from fairseq_ki.experiments.process import RunError, Terminated, delete_run, run_logged, tail
from fairseq_ki.experiments.progress import Progress


@pytest.fixture(autouse=True)
def _quick(monkeypatch):
    monkeypatch.setattr(process, "POLL_SECONDS", 0.02)


def python(code):
    return [sys.executable, "-c", code]


def progress(total=None):
    return Progress("[1/1] job", total, io.StringIO())


def test_output_is_logged_and_followed(tmp_path):
    watch = progress(20)
    code = (
        """print('{"num_updates": "10", "loss": "3"}'); import sys; print("x", file=sys.stderr)"""
    )
    seconds = run_logged(python(code), tmp_path / "train.log", watch)
    assert seconds > 0
    assert watch.log.updates == 10
    assert set((tmp_path / "train.log").read_text().split("\n")) >= {"x"}


def test_a_log_is_continued(tmp_path):
    log = tmp_path / "train.log"
    log.write_text('{"num_updates": "5", "loss": "3"}\n{"num_upd')
    watch = progress(20)
    run_logged(python("""print('{"num_updates": "6", "loss": "2"}')"""), log, watch)
    assert [r["updates"] for r in watch.log.train] == [5, 6]


def test_failure_shows_the_last_lines(tmp_path):
    code = "import sys; [print(f'line {i}') for i in range(50)]; sys.exit('no memory left')"
    with pytest.raises(RunError) as caught:
        run_logged(python(code), tmp_path / "train.log", progress())
    text = str(caught.value)
    assert "exit status 1" in text
    assert str(tmp_path / "train.log") in text
    assert "no memory left" in text
    assert "line 49" in text
    assert "line 20" not in text


def test_a_command_that_is_not_there(tmp_path):
    with pytest.raises(RunError, match="'no-such-command' cannot be run"):
        run_logged(["no-such-command"], tmp_path / "train.log", progress())


def test_scripts_of_this_python_are_found(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", "/usr/bin:/bin")
    run_logged(["pytest", "--version"], tmp_path / "train.log", progress())


def test_only_one_process_works_in_a_folder(tmp_path):
    sleeper = threading.Thread(
        target=lambda: subprocess.run(
            python(
                f"import fcntl, time; f = open({str(tmp_path / 'lock')!r}, 'w');"
                "fcntl.flock(f, fcntl.LOCK_EX); print('held', flush=True); time.sleep(1.5)"
            ),
            check=True,
        )
    )
    sleeper.start()
    while not (tmp_path / "lock").exists():
        time.sleep(0.02)
    time.sleep(0.2)
    with pytest.raises(RunError, match="expected no process at work there"):
        run_logged(python("pass"), tmp_path / "train.log", progress())
    sleeper.join()
    run_logged(python("pass"), tmp_path / "train.log", progress())


def test_the_lock_outlives_a_killed_driver(tmp_path):
    # the child of a killed driver still trains: it must still be in the way of a second one
    repository = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
    child = "import time; print('up', flush=True); time.sleep(60)"
    code = (
        "import sys, pathlib; from fairseq_ki.experiments.process import run_logged;"
        "from fairseq_ki.experiments.progress import Progress;"
        f"log = pathlib.Path({str(tmp_path)!r}) / 'train.log';"
        f"run_logged([sys.executable, '-c', {child!r}], log, Progress('x', None))"
    )
    log = tmp_path / "train.log"
    driver = subprocess.Popen(python(code), env={**os.environ, "PYTHONPATH": repository})
    while not (log.exists() and "up" in log.read_text()):
        assert driver.poll() is None
        time.sleep(0.05)
    children = f"/proc/{driver.pid}/task/{driver.pid}/children"
    with open(children) as file:
        grandchildren = [int(pid) for pid in file.read().split()]
    driver.kill()
    driver.wait()
    with pytest.raises(RunError, match="still holds lock"):
        run_logged(python("pass"), log, progress())
    with pytest.raises(RunError, match="still holds lock"):
        delete_run(tmp_path)
    assert "up" in log.read_text()
    for pid in grandchildren:
        os.kill(pid, signal.SIGKILL)
    time.sleep(0.2)
    run_logged(python("pass"), log, progress())
    delete_run(tmp_path)
    assert not tmp_path.exists()


def test_signals_stop_the_command(tmp_path):
    log = tmp_path / "train.log"
    code = "import os, time; print(os.getpid(), flush=True); time.sleep(60)"

    def terminate():
        while not (log.exists() and log.read_text().strip()):
            time.sleep(0.02)
        os.kill(os.getpid(), signal.SIGTERM)

    killer = threading.Thread(target=terminate)
    before = signal.getsignal(signal.SIGTERM)
    killer.start()
    with pytest.raises(Terminated, match="SIGTERM"):
        run_logged(python(code), log, progress())
    killer.join()
    assert signal.getsignal(signal.SIGTERM) == before
    assert not os.path.exists(f"/proc/{int(log.read_text())}")


def test_tail(tmp_path):
    (tmp_path / "x.log").write_text("a\n\nb\n   \nc\n")
    assert tail(tmp_path / "x.log", 2) == "    b\n    c"


def test_line_of_a_training():
    watch = progress(600)
    watch.remember('{"num_updates": "100", "loss": "9", "ppl": "512", "ki_rate": "0.9"}')
    watch.feed('{"num_updates": "110", "loss": "9", "ppl": "512", "ki_rate": "0.8"}')
    start = time.monotonic()
    watch._first = (start, 110)
    watch.feed('{"num_updates": "120", "loss": "9", "ppl": "500", "ki_rate": "0.8"}')
    assert "train PPL 500 · rate 0.80" in watch.line(start + 5)
    watch.feed('{"valid_num_updates": "120", "valid_loss": "9.1", "valid_ppl": "548.7"}')
    expected = "update 120/600 · valid PPL 548.7 at 120 · rate 0.80 · 0.50 s/update · 4:00 left"
    assert watch.line(start + 5) == f"[1/1] job: {expected}"


def test_lines_without_a_terminal_come_now_and_then():
    watch = progress()
    watch.feed("copying 3 of 7\n")
    watch.tick()
    assert watch.stream.getvalue() == ""
    watch._last_shown -= 15
    watch.tick()
    watch.tick()
    assert watch.stream.getvalue().count("\n") == 1
    assert "copying 3 of 7" in watch.stream.getvalue()


def test_regression_has_no_perplexity():
    watch = progress(100)
    watch.feed('{"loss": "0.2", "num_updates": "10"}')
    watch.feed('{"valid_loss": "1", "valid_num_updates": "10"}')
    assert watch.standing() == "update 10/100"


def test_line_on_a_terminal_is_rewritten():
    stream = io.StringIO()
    stream.isatty = lambda: True
    watch = Progress("job", 10, stream)
    watch.feed('{"num_updates": "1", "loss": "9", "ppl": "512"}')
    watch.tick()
    watch.tick()
    watch.end("done")
    text = stream.getvalue()
    assert text.count("\r") == 3
    assert text.count("\n") == 1
    assert "update 1/10" in text
