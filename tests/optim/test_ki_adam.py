"""--optimizer ki_adam against fairseq's own adam: numbers, state, wrappers, checkpoints."""

import io
from types import SimpleNamespace

import pytest
import torch
from fairseq.optim import FP16Optimizer, MemoryEfficientFP16Optimizer, build_optimizer
from fairseq.optim.adam import Adam, FairseqAdam
from omegaconf import OmegaConf

from fairseq_ki.optim.ki_adam import FusedAdam, KIAdam, KIAdamConfig

SHAPES = [(7, 5), (5,), (3, 2, 4), (1,), (64, 33)]
SETTINGS = {"lr": 1e-3, "betas": (0.9, 0.98), "eps": 1e-6, "weight_decay": 0.01}


def parameters(dtype=torch.float32, seed=0):
    torch.manual_seed(seed)
    return [torch.nn.Parameter(torch.randn(shape).to(dtype)) for shape in SHAPES]


def give_gradients(params, seed, scale):
    torch.manual_seed(1000 + seed)
    for p in params:
        p.grad = (scale * torch.randn(p.shape)).to(p.dtype)


def run(optimizer, params, updates, scale, skip=None):
    for update in updates:
        give_gradients(params, update, scale)
        if skip is not None and update % 3 == 0:
            params[skip].grad = None
        for group in optimizer.param_groups:
            group["lr"] = 1e-3 * (1 + update % 7)  # a learning rate that changes each step
        optimizer.step()


def furthest(ours, theirs):
    return max((a - b).abs().max().item() for a, b in zip(ours, theirs, strict=True))


@pytest.mark.parametrize("scale", [1.0, 1e-3, 1e-6, 1e-9])
@pytest.mark.parametrize("weight_decay", [0.0, 0.1])
def test_fifty_updates_are_fairseqs(scale, weight_decay):
    settings = SETTINGS | {"weight_decay": weight_decay}
    ours, theirs = parameters(), parameters()
    run(FusedAdam(ours, **settings), ours, range(50), scale)
    run(Adam(theirs, **settings), theirs, range(50), scale)
    assert furthest(ours, theirs) < 2e-6
    assert furthest(ours, parameters()) > 1e-5  # it moved


def test_torchs_own_epsilon_would_not_do():
    # the reason for this optimizer: with small gradients torch's AdamW goes elsewhere
    ours, torchs = parameters(), parameters()
    run(FusedAdam(ours, **SETTINGS), ours, range(20), 1e-6)
    run(torch.optim.AdamW(torchs, **SETTINGS), torchs, range(20), 1e-6)
    assert furthest(ours, torchs) > 1e-3


def test_a_parameter_without_gradient_counts_its_own_steps():
    ours, theirs = parameters(), parameters()
    ours[4].grad = theirs[4].grad = None
    fused, reference = FusedAdam(ours, **SETTINGS), Adam(theirs, **SETTINGS)
    run(fused, ours, range(20), 1e-6, skip=2)
    run(reference, theirs, range(20), 1e-6, skip=2)
    assert furthest(ours, theirs) < 2e-6
    assert fused.state[ours[2]]["step"] == 13
    assert fused.state[ours[0]]["step"] == 20


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_parameters_keep_a_float32_state(dtype):
    ours, theirs = parameters(dtype), parameters(dtype)
    fused, reference = FusedAdam(ours, **SETTINGS), Adam(theirs, **SETTINGS)
    run(fused, ours, range(10), 1.0)
    run(reference, theirs, range(10), 1.0)
    # the same but for values that lie between two of the type
    close = [torch.isclose(a, b, rtol=0.01).float().mean() for a, b in zip(ours, theirs)]
    assert min(close) == 1.0
    for a, b in zip(ours, theirs):
        torch.testing.assert_close(fused.state[a]["exp_avg"], reference.state[b]["exp_avg"])
        assert fused.state[a]["exp_avg_sq"].dtype == torch.float32


def through_a_file(state):
    """Saved and loaded as a checkpoint is: with weights_only."""
    file = io.BytesIO()
    torch.save(state, file)
    file.seek(0)
    return torch.load(file, weights_only=True)


def test_resume_midway_is_bit_identical():
    straight = parameters()
    run(FusedAdam(straight, **SETTINGS), straight, range(20), 1e-3, skip=1)
    stopped = parameters()
    first = FusedAdam(stopped, **SETTINGS)
    run(first, stopped, range(11), 1e-3, skip=1)
    second = FusedAdam(stopped, lr=1.0)
    second.load_state_dict(through_a_file(first.state_dict()))
    run(second, stopped, range(11, 20), 1e-3, skip=1)
    assert furthest(stopped, straight) == 0.0


@pytest.mark.parametrize(("before", "after"), [(Adam, FusedAdam), (FusedAdam, Adam)])
def test_either_resumes_the_other(before, after):
    straight = parameters()
    run(Adam(straight, **SETTINGS), straight, range(20), 1e-6)
    params = parameters()
    first = before(params, **SETTINGS)
    run(first, params, range(10), 1e-6)
    second = after(params, **SETTINGS)
    second.load_state_dict(through_a_file(first.state_dict()))
    run(second, params, range(10, 20), 1e-6)
    assert furthest(params, straight) < 2e-6


ADAM_ONLY = {"use_old_adam": True, "fp16_adam_stats": False, "tpu": False}


def fairseq_config(name="ki_adam", **common):
    return OmegaConf.create(
        {
            "optimizer": {
                "_name": name,
                "adam_betas": "(0.9, 0.98)",
                "adam_eps": 1e-6,
                "weight_decay": 0.01,
                "lr": [1e-3],
                **(ADAM_ONLY if name == "adam" else {}),
            },
            "common": {
                "fp16_init_scale": 4,
                "fp16_scale_window": 100,
                "fp16_scale_tolerance": 0.0,
                "threshold_loss_scale": None,
                "min_loss_scale": 1e-4,
                "model_parallel_size": 1,
                **common,
            },
            "distributed_training": {"distributed_world_size": 1},
            "optimization": {"update_freq": [1]},
        }
    )


def test_the_wrapper_is_fairseqs_interface():
    params = parameters()
    optimizer = build_optimizer(fairseq_config().optimizer, params)
    assert isinstance(optimizer, KIAdam)
    assert isinstance(optimizer.optimizer, FusedAdam)
    assert optimizer.optimizer_config == SETTINGS
    optimizer.set_lr(0.25)
    assert optimizer.get_lr() == 0.25
    give_gradients(params, 0, 1.0)
    optimizer.step()
    optimizer.zero_grad()
    assert all(p.grad is None for p in params)
    # the checkpoint's settings give way to those of the command line, as in fairseq
    state = through_a_file(optimizer.state_dict())
    assert state["param_groups"][0]["lr"] == 0.25
    optimizer.load_state_dict(state, {"lr": 0.5, "eps": 1e-7})
    assert (optimizer.param_groups[0]["lr"], optimizer.param_groups[0]["eps"]) == (0.5, 1e-7)
    # the name that fairseq compares when it resumes a run of --optimizer adam
    assert type(optimizer).__name__ == FairseqAdam.__name__


@pytest.mark.parametrize("flat", [True, False])
@pytest.mark.parametrize("wrapper", [FP16Optimizer, MemoryEfficientFP16Optimizer])
def test_fp16_wrappers(wrapper, flat, monkeypatch):
    """fp16 parameters with loss scaling; one flat float32 copy of them for FP16Optimizer."""
    # fairseq keys the flat copy by the CUDA device's index, which is None for the CPU
    monkeypatch.setattr(torch.cuda, "current_device", lambda: None)
    results = []
    for name in ("ki_adam", "adam"):
        params = parameters(torch.float16)
        config = fairseq_config(name, fp16_no_flatten_grads=not flat)
        optimizer = wrapper.build_optimizer(config, params)
        for update in range(16):
            optimizer.zero_grad()
            torch.manual_seed(update)
            loss = sum((p.float() * torch.randn(p.shape)).sum() for p in params)
            optimizer.backward(loss)
            optimizer.clip_grad_norm(1.0)
            optimizer.set_lr(1e-2)
            optimizer.step()
            if update == 7:
                state = through_a_file(optimizer.state_dict())
                optimizer = wrapper.build_optimizer(config, params)
                optimizer.load_state_dict(state)
        results.append(params)
    if wrapper is FP16Optimizer and flat:
        assert optimizer.has_flat_params
    for ours, theirs, start in zip(*results, parameters(torch.float16)):
        torch.testing.assert_close(ours, theirs, rtol=2e-3, atol=2e-4)
        assert not torch.equal(ours, start)


@pytest.mark.parametrize("betas", ["(0.9)", "0.9, 1.0", "(0.9, nope)", "(0.9, 0.98, 1)", 3])
def test_wrong_betas_are_refused(betas):
    cfg = KIAdamConfig(adam_betas=betas)
    cfg.lr = [1e-3]
    with pytest.raises(ValueError, match=r"--adam-betas: expected two numbers .* found"):
        KIAdam(cfg, parameters())


def test_betas_are_not_evaluated_as_code():
    cfg = SimpleNamespace(adam_betas="(print(1), 0.9)", adam_eps=1e-8, weight_decay=0.0, lr=[1.0])
    with pytest.raises(ValueError, match="two numbers"):
        KIAdam(cfg, parameters())


def test_sparse_gradients_are_refused():
    embedding = torch.nn.Embedding(5, 3, sparse=True)
    embedding(torch.tensor([1])).sum().backward()
    with pytest.raises(ValueError, match="dense gradients"):
        FusedAdam(embedding.parameters()).step()


def test_training_with_either_and_resuming_with_the_other(fairseq_train, data_bin, tmp_path):
    """Through fairseq-train: the same losses as --optimizer adam, across a change of optimizer."""
    task = "--task masked_lm --criterion masked_lm --weight-decay 0.01 --adam-eps 1e-6"
    straight = fairseq_train(data_bin, tmp_path / "straight", f"{task} --max-update 8")
    moved = tmp_path / "moved"
    first = fairseq_train(data_bin, moved, f"{task} --max-update 4")
    second = fairseq_train(data_bin, moved, f"{task} --max-update 8 --optimizer ki_adam")
    assert first.losses + second.losses == straight.losses
    assert isinstance(second.state()["last_optimizer_state"]["state"][0]["step"], int)
    back = fairseq_train(data_bin, moved, f"{task} --max-update 9")
    assert len(back.losses) == 1
