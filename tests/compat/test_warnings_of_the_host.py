"""A start is quiet, and what a user should see is still shown."""

import warnings

import pytest

from fairseq_ki.compat.warnings_of_the_host import silence_warnings


def test_training_warns_of_nothing(fairseq_train, data_bin, tmp_path):
    with warnings.catch_warnings(record=True) as shown:
        warnings.simplefilter("default")
        warnings.simplefilter("ignore", DeprecationWarning)  # as Python itself does
        silence_warnings()
        fairseq_train(
            data_bin, tmp_path, "--task masked_lm --criterion masked_lm --max-update 2 --no-save"
        )
    assert [str(w.message) for w in shown] == []


def test_other_warnings_are_shown():
    silence_warnings()
    with pytest.warns(FutureWarning, match="something else"):
        warnings.warn("something else is deprecated", FutureWarning, stacklevel=1)
