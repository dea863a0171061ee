"""A checkpoint with configuration objects is made plain by hand, once."""

import argparse
import enum
import pathlib

import numpy as np
import pytest
import torch
from fairseq import checkpoint_utils
from omegaconf import OmegaConf

from fairseq_ki import compat
from fairseq_ki.compat.plain_copy import main, plain


class Choice(enum.Enum):
    LEFT = "left"


class Meter:
    """As fairseq of long ago kept them in its checkpoints."""


def test_a_checkpoint_with_objects_becomes_one_that_fairseq_loads(teacher, tmp_path, capsys):
    state = compat.load_checkpoint(teacher)
    cfg = OmegaConf.create(state["cfg"], flags={"allow_objects": True})
    extra = {**state["extra_state"], "score": np.float64(0.5), "meters": {"loss": Meter()}}
    old, new = tmp_path / "old.pt", tmp_path / "new.pt"
    torch.save({**state, "cfg": cfg, "extra_state": extra}, old)
    with pytest.raises(compat.UnsafeCheckpointError, match="plain_copy"):
        compat.load_checkpoint(old)

    assert main([str(old), str(new)]) == 0
    read = compat.load_checkpoint(new)
    assert read["cfg"] == state["cfg"]
    assert read["extra_state"]["score"] == 0.5
    assert read["extra_state"]["meters"] == {"loss": None}
    assert "Meter" in capsys.readouterr().err
    models, _, _ = checkpoint_utils.load_model_ensemble_and_task([str(new)])
    torch.testing.assert_close(models[0].state_dict(), dict(state["model"]), check_device=False)


def test_what_becomes_of_each_kind_of_value():
    value, dropped = plain(
        {
            "a": Choice.LEFT,
            "b": pathlib.Path("x") / "y",
            "c": np.arange(2),
            "d": argparse.Namespace(e=np.int64(4), f=[1.5, None, True, "s"]),
            "g": print,
            "h": torch.float16,
        }
    )
    assert value["a"] == "left"
    assert value["b"] == "x/y"
    assert value["c"].tolist() == [0, 1]
    assert value["d"] == argparse.Namespace(e=4, f=[1.5, None, True, "s"])
    assert value["g"] is None
    assert value["h"] is torch.float16
    assert dropped == ["builtins.builtin_function_or_method"]
