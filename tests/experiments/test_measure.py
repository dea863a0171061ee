"""What results.json says of a run."""

import sys

from fairseq_ki.experiments.measure import from_here


def test_commands_are_recorded_as_they_read_anywhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    command = [sys.executable, "-m", "x", f"{tmp_path}/fairseq_ki", f"a:{tmp_path}/b", "/else/c"]
    assert from_here(command) == ["python", "-m", "x", "fairseq_ki", "a:b", "/else/c"]
