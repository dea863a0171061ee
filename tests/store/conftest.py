import importlib.util
import sys
from pathlib import Path

import pytest


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
