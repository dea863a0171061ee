"""Starts trainings as forks of :mod:`harness.forks`: in tenths of a second instead of seconds."""

import json
import os
import socket
import subprocess
import sys
from dataclasses import asdict, dataclass
from pathlib import Path

from harness.faults import Fault

INTEGRATION = Path(__file__).resolve().parents[1]
ROOT = INTEGRATION.parents[1]


@dataclass
class Ended:
    """How one process ended."""

    status: int  # exit status, or minus the signal
    seconds: float
    log: str


class Launcher:
    """Starts trainings as forks of one process; to be closed.

    Args:
        folder: takes the logs.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = Path(folder)
        self.count = 0
        self.process = subprocess.Popen(
            [sys.executable, "-m", "harness.forks"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={
                **os.environ,
                "OMP_NUM_THREADS": "1",
                "PYTHONPATH": f"{INTEGRATION}:{ROOT}",
            },
        )

    def close(self) -> None:
        # closing its input would not end it: loader workers forked by others have that open too
        self.process.terminate()
        self.process.wait()

    def run(
        self,
        arguments: str,
        *,
        command: str = "fairseq-train",
        ranks: int = 1,
        faults: dict[int, Fault] | None = None,
        trace: Path | None = None,
        gauge: Path | None = None,
        kill_after: float | None = None,
        slow_reads: float = 0.0,
        timeout: float = 300.0,
    ) -> list[Ended]:
        """Runs a command to its end, whatever that is; one process per rank.

        Args:
            faults: by rank.
            trace: file that rank 0 appends its updates to.
            gauge: file that rank 0 appends its memory and file handles to before each epoch.
            kill_after: seconds until SIGKILL comes from outside, wherever the processes are then.
            slow_reads: seconds that each read of a store takes.
            timeout: seconds after which the processes are killed and reported with status -9.
        """
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        self.count += 1
        specs = []
        for rank in range(ranks):
            env = {}
            if ranks > 1:
                env = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
                env |= {"WORLD_SIZE": str(ranks), "RANK": str(rank)}
            fault = (faults or {}).get(rank)
            specs.append(
                {
                    "command": command,
                    "arguments": arguments.split(),
                    "env": env,
                    "log": str(self.folder / f"{self.count}-{rank}.log"),
                    "trace": str(trace) if trace is not None and rank == 0 else None,
                    "gauge": str(gauge) if gauge is not None and rank == 0 else None,
                    "fault": asdict(fault) if fault else None,
                    "slow_reads": slow_reads,
                }
            )
        request = {"specs": specs, "kill_after": kill_after, "timeout": timeout}
        self.process.stdin.write(json.dumps(request) + "\n")
        self.process.stdin.flush()
        ended = json.loads(self.process.stdout.readline())
        return [
            Ended(status, seconds, Path(spec["log"]).read_text(errors="replace"))
            for (status, seconds), spec in zip(ended, specs)
        ]
