import pytest

from fairseq_ki.capture.session import CaptureSettings, Session
from fairseq_ki.capture.settings import DataSettings

BLOCKS = {"tokens_per_sample": 32}


@pytest.fixture(scope="session")
def settings(data_bin, teacher):
    """Makes the settings of a capture from what differs from the usual ones."""

    def make(encoding="topk", parameters=None, data=None, options=None, **others):
        parameters = {"k": 5} if encoding == "topk" and parameters is None else parameters
        blocks = DataSettings(data=str(data or data_bin), options={**BLOCKS, **(options or {})})
        return CaptureSettings(
            data=blocks,
            teacher=str(teacher),
            encoding=encoding,
            parameters=parameters or {},
            **others,
        )

    return make


@pytest.fixture(scope="session")
def session(settings) -> Session:
    return Session.open(settings())
