"""Runs commands in forks of :mod:`zygote`, and sees what they leave on the disk."""

import hashlib
import json
import os
import shlex
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

ZYGOTE = Path(__file__).parent / "zygote.py"
REPO = Path(__file__).resolve().parents[2]
SECONDS = 60
ENVIRONMENT = {"OMP_NUM_THREADS": "1", "COLUMNS": "200"}  # argparse wraps its messages


@dataclass(frozen=True)
class Done:
    """One command that has ended."""

    status: int
    output: str


class Zygote:
    """The process that forks; started once for many commands."""

    def __init__(self) -> None:
        self.process = subprocess.Popen(
            [sys.executable, str(ZYGOTE)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, **ENVIRONMENT, "PYTHONPATH": str(REPO)},
        )

    def run(self, command: str, cwd: Path, output: Path, **environment: str) -> Done:
        """One command line, without a shell; ``output`` takes what it prints."""
        output.unlink(missing_ok=True)
        request = {
            "argv": shlex.split(command),
            "cwd": str(cwd),
            "output": str(output),
            "environment": environment,
            "seconds": SECONDS,
        }
        self.process.stdin.write(json.dumps(request) + "\n")
        self.process.stdin.flush()
        status = json.loads(self.process.stdout.readline())
        return Done(status, output.read_text(errors="replace"))

    def close(self) -> None:
        # closing its input would not end it: loader workers forked by others have that open too
        self.process.terminate()
        self.process.wait(10)


def snapshot(folder: Path) -> dict[str, str]:
    """Every name below a folder: the target of a link, size and hash of a file."""
    found = {}
    for path in sorted(folder.rglob("*")):
        if path.is_symlink():
            facts = f"link to {os.readlink(path)}"
        elif path.is_file():
            content = path.read_bytes()
            facts = f"{len(content)} bytes, {hashlib.sha256(content).hexdigest()}"
        else:
            facts = "folder" if path.is_dir() else "neither file nor folder"
        found[str(path.relative_to(folder))] = facts
    return found
