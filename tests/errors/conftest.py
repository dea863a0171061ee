import sys
from pathlib import Path

import pytest
from hypothesis import settings

sys.path.insert(0, str(Path(__file__).parent))  # the modules beside this file

# The same examples in every run, and no time limit on a machine that others share.
settings.register_profile("errors", derandomize=True, deadline=None)
settings.load_profile("errors")


@pytest.fixture(scope="session")
def zygote():
    from forking import Zygote

    process = Zygote()
    yield process
    process.close()


@pytest.fixture(scope="session")
def world(zygote, data_bin, teacher, masked_lm, fairseq_train, tmp_path_factory):
    """Good inputs of every kind, for the cases to spoil copies of."""
    from world import World

    folder = tmp_path_factory.mktemp("world")
    return World.build(folder, zygote, data_bin, teacher, masked_lm, fairseq_train)
