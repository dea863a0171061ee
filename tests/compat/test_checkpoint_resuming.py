"""What training cannot go on from; tests/errors provokes the refusals through the commands."""

import pytest
import torch

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
