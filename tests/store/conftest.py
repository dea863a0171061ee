import importlib.util
import sys
from pathlib import Path

import pytest
from hypothesis import settings

# The same examples in every run, and no time limit on a machine that others share.
settings.register_profile("store", derandomize=True, deadline=None)
settings.load_profile("store")


@pytest.fixture(scope="session")
def synthetic():
    """The module synthetic_capture.py beside this file."""
    path = Path(__file__).parent / "synthetic_capture.py"
    spec = importlib.util.spec_from_file_location("synthetic_capture", path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def finished(synthetic, tmp_path_factory):
    """Directories of finished stores by encoding; not to be altered."""
    stores = {}
    for name, encoding in synthetic.ENCODINGS.items():
        stores[name] = tmp_path_factory.mktemp(name) / "store"
        synthetic.capture(stores[name], synthetic.make_plan(encoding)).finalize()
    return stores
