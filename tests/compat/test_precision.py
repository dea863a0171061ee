"""Number formats on the CPU: those that work, work; the others are refused in one line."""

import copy

import pytest
import torch
from fairseq import options
from fairseq.dataclass.utils import convert_namespace_to_omegaconf

from fairseq_ki import compat
from fairseq_ki.compat.precision import check_precision

PLAIN = "--task masked_lm --criterion masked_lm --max-update 25 --no-save"


@pytest.mark.parametrize("option", ["fp16", "memory-efficient-fp16", "amp"])
def test_fp16_on_the_cpu_is_refused(option, fairseq_train, data_bin, tmp_path, monkeypatch):
    with pytest.raises(compat.CompatError, match=f"--{option} needs a CUDA device") as error:
        fairseq_train(data_bin, tmp_path, f"{PLAIN} --{option}")
    assert "\n" not in str(error.value)


def test_fp16_on_a_gpu_is_not(monkeypatch):
    arguments = ["data", "--task", "masked_lm", "--arch", "roberta", "--batch-size", "1", "--fp16"]
    args = options.parse_args_and_arch(options.get_training_parser(), input_args=arguments)
    cfg = convert_namespace_to_omegaconf(args)
    with pytest.raises(compat.CompatError):
        check_precision(cfg)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    check_precision(copy.deepcopy(cfg))


@pytest.mark.parametrize("option", ["--bf16", "--memory-efficient-bf16"])
def test_bf16_trains_on_the_cpu(option, fairseq_train, data_bin, tmp_path):
    plain = fairseq_train(data_bin, tmp_path, PLAIN)
    half = fairseq_train(data_bin, tmp_path, f"{PLAIN} {option}")
    assert half.losses != plain.losses
    assert abs(float(half.losses[-1]) - float(plain.losses[-1])) < 0.05
    assert float(half.losses[-1]) < float(half.losses[0]) - 0.3
