"""What the tests of whole trainings share."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))  # the folder "harness" beside this file


@pytest.fixture(scope="session")
def launcher(tmp_path_factory):
    """Forks trainings from a process that has torch and fairseq loaded."""
    from harness.launcher import Launcher

    running = Launcher(tmp_path_factory.mktemp("logs"))
    yield running
    running.close()


@pytest.fixture(scope="session")
def trainings(launcher, data_bin, tmp_path_factory) -> dict[str, str]:
    """Options of small trainings by the kind of their teacher."""
    from harness.trainings import materials

    return materials(launcher, data_bin, tmp_path_factory.mktemp("materials"))
