"""--ki-teacher-batches: the teacher reads several micro-batches at once, and teaches the same."""

import pytest
import torch

from fairseq_ki.models.ki_teacher import KITeacher

COMMON = "--ki-steps 20 --ki-temperature 1 --batch-size 4 --update-freq 4 --dropout 0"

GPT = (
    "--arch gpt_73m --decoder-layers 1 --decoder-embed-dim 16 --decoder-ffn-embed-dim 32 "
    "--decoder-attention-heads 2"
)


@pytest.fixture
def seen(monkeypatch):
    """Samples that the teacher was shown, forward pass by forward pass."""
    passes = []
    head_input = KITeacher.head_input

    def counting(self, net_input, rows, **kwargs):
        passes.append(len(net_input["src_tokens"]))
        return head_input(self, net_input, rows, **kwargs)

    monkeypatch.setattr(KITeacher, "head_input", counting)
    return passes


def test_the_same_losses(fairseq_train, data_bin, tmp_path, teacher, seen):
    taught = f"--task ki_mlm --criterion ki --ki-teacher {teacher} {COMMON}"
    compare(fairseq_train, data_bin, tmp_path, taught, {}, seen)


def test_the_same_losses_of_a_causal_lm(fairseq_train, data_bin, tmp_path, seen):
    host = "--task language_modeling --criterion cross_entropy --max-update 8"
    fairseq_train(data_bin, tmp_path / "gpt", host, GPT)
    seen.clear()
    checkpoint = tmp_path / "gpt" / "checkpoint_last.pt"
    taught = f"--task ki_lm --criterion ki --ki-teacher {checkpoint} {COMMON}"
    taught += " --sample-break-mode eos"  # micro-batches of several lengths
    compare(fairseq_train, data_bin, tmp_path, taught, {"model": GPT}, seen)


def compare(fairseq_train, data_bin, tmp_path, taught, model, seen):
    alone = fairseq_train(data_bin, tmp_path / "alone", f"{taught} --max-update 8", **model)
    one_by_one = list(seen)
    seen.clear()
    together = f"{taught} --max-update 8 --ki-teacher-batches 2"
    both = fairseq_train(data_bin, tmp_path / "both", together, **model)
    assert sum(seen) == sum(one_by_one)  # every sample once
    assert (max(one_by_one), max(seen)) == (4, 8)
    for key in ("loss", "ki_objective", "ki_loss"):
        mine, plain = ([float(log[key]) for log in run.train] for run in (both, alone))
        assert mine == pytest.approx(plain, rel=1e-3), key


def test_a_resumed_run_ends_with_the_same_weights(fairseq_train, data_bin, tmp_path, teacher):
    taught = f"--task ki_mlm --criterion ki --ki-teacher {teacher} {COMMON} --ki-teacher-batches 2"
    straight = fairseq_train(data_bin, tmp_path / "straight", f"{taught} --max-update 9")
    for updates in (2, 5, 9):
        broken = fairseq_train(data_bin, tmp_path / "broken", f"{taught} --max-update {updates}")
    for key, value in straight.state()["model"].items():
        assert torch.equal(value, broken.state()["model"][key]), key
