"""What the tests of whole trainings share."""

import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def harness():
    """The module kill_harness.py beside this file."""
    path = Path(__file__).parent / "kill_harness.py"
    spec = importlib.util.spec_from_file_location("kill_harness", path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def launcher(harness, tmp_path_factory):
    """Forks trainings from a process that has torch and fairseq loaded."""
    running = harness.Launcher(tmp_path_factory.mktemp("logs"))
    yield running
    running.close()


@pytest.fixture(scope="session")
def trainings(harness, launcher, data_bin, tmp_path_factory) -> dict[str, str]:
    """Options of small trainings by the kind of their teacher."""
    return harness.materials(launcher, data_bin, tmp_path_factory.mktemp("materials"))


@pytest.fixture(scope="session")
def torchrun_train():
    """fairseq-train under torchrun in two processes; the JSON lines that rank 0 printed."""

    def train(data_bin, save_dir, options: str) -> list[dict]:
        command = (
            f"-m torch.distributed.run --nproc-per-node 2 --standalone -m fairseq_cli.train "
            f"{data_bin} {options} --save-dir {save_dir}"
        )
        done = subprocess.run(
            [sys.executable, *command.split()], capture_output=True, text=True, timeout=240
        )
        output = done.stdout + done.stderr
        assert done.returncode == 0, output[-3000:]
        return [
            json.loads(line.split("| train_inner | ")[1])
            for line in output.splitlines()
            if "| train_inner | " in line
        ]

    return train
