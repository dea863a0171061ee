"""What training cannot go on from; tests/errors provokes the refusals through the commands."""

import copy

import pytest
import torch

from fairseq_ki import compat
from fairseq_ki.compat.checkpoint_contents import what_is_out_of_place
from fairseq_ki.compat.checkpoint_resuming import first_not_finite


def model(*names: str) -> torch.nn.Module:
    parts = torch.nn.ModuleDict()
    for name in names:
        holder = parts
        for part in name.split(".")[:-1]:
            holder[part] = holder[part] if part in holder else torch.nn.ModuleDict()
            holder = holder[part]
        holder[name.split(".")[-1]] = torch.nn.Linear(3, 3)
    return parts


def spoil(part: torch.nn.Linear, value: float) -> None:
    with torch.no_grad():
        part.weight[1, 1] = value


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_the_parameter_is_named(value, dtype):
    made = model("encoder.layer", "encoder.lm_head").to(dtype)
    assert first_not_finite(made) is None
    spoil(made["encoder"]["lm_head"], value)
    assert first_not_finite(made) == "encoder.lm_head.weight"
    spoil(made["encoder"]["layer"], value)
    assert first_not_finite(made) == "encoder.layer.weight"


def test_a_classifier_needs_no_head_for_words():
    made = model("encoder.layer", "encoder.lm_head", "classification_heads.x")
    spoil(made["encoder"]["lm_head"], float("nan"))
    assert first_not_finite(made) is None
    spoil(made["classification_heads"]["x"], float("nan"))
    assert first_not_finite(made) == "classification_heads.x.weight"


def test_a_model_without_parameters():
    assert first_not_finite(torch.nn.Identity()) is None


def test_what_fairseq_writes_is_in_place(teacher):
    state = compat.load_checkpoint(teacher)
    assert what_is_out_of_place(state) is None
    for key in list(state):  # older versions wrote fewer parts
        fewer = copy.copy(state)
        del fewer[key]
        assert what_is_out_of_place(fewer) is None


def test_what_is_found_is_shown_as_its_type_where_it_may_be_long():
    found = what_is_out_of_place({"optimizer_history": [{"num_updates": "x" * 10**6}]})
    assert (
        found == "optimizer_history.num_updates: expected a whole number of 0 or more, found a str"
    )
    assert len(what_is_out_of_place({"extra_state": 10**5000})) < 100
