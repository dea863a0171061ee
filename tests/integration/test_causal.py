"""A causal student from start to end: two ranks, and fairseq's own tools without its teacher."""

import math
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from fairseq.models.transformer_lm import TransformerLanguageModel
from fairseq_cli import eval_lm, generate, interactive, validate

MODEL = (
    "--arch gpt_73m --decoder-layers {} --decoder-embed-dim {} --decoder-ffn-embed-dim 32 "
    "--decoder-attention-heads 2"
)
STUDENT, TEACHER = MODEL.format(2, 32), MODEL.format(1, 16)
KI = "--task ki_lm --criterion ki"


@pytest.fixture(scope="module")
def gpt(fairseq_train, data_bin, tmp_path_factory):
    save_dir = tmp_path_factory.mktemp("gpt")
    host = "--task language_modeling --criterion cross_entropy --max-update 30"
    fairseq_train(data_bin, save_dir, host, TEACHER)
    return save_dir / "checkpoint_last.pt"


@pytest.mark.parametrize(
    "backend", ["legacy_ddp", pytest.param("pytorch_ddp", marks=pytest.mark.slow)]
)
def test_two_ranks_equal_one(
    fairseq_train, torchrun_train, data_bin, gpt, student_options, tmp_path, backend
):
    """Over an epoch's end: one rank has sentences left, the other none.

    The ranks have different numbers of rows, and the teacher speaks until update 14.
    """
    extra = (
        f"{KI} --ki-teacher {gpt} --ki-steps 14 --max-update 15 --sample-break-mode eos "
        "--batch-size 12 --required-batch-size-multiple 1 --dropout 0 --attention-dropout 0"
    )
    one = fairseq_train(data_bin, tmp_path / "one", f"{extra} --update-freq 2", STUDENT)
    base = student_options[: student_options.index("--arch")]
    two = torchrun_train(
        data_bin, tmp_path / "two", f"{base} {STUDENT} {extra} --ddp-backend {backend}"
    )
    assert len(two) == 15
    assert float(two[12]["bsz"]) == 12  # 300 sentences are 25 batches
    for a, b in zip(one.train, two):
        assert (a["ki_rate"], a["wpb"], a["bsz"]) == (b["ki_rate"], b["wpb"], b["bsz"])
        for key in ("loss", "ki_loss", "ki_objective", "ki_agreement"):
            assert abs(float(a[key]) - float(b[key])) <= 0.0011, (key, a, b)
    models = [
        torch.load(tmp_path / n / "checkpoint_last.pt", weights_only=True)["model"]
        for n in ("one", "two")
    ]
    for key, value in models[0].items():
        torch.testing.assert_close(models[1][key], value, rtol=0, atol=1e-6)


@pytest.mark.slow
def test_a_teacher_costs_little_memory():
    """Peak of the micro-batch under 1.3 times that of plain cross_entropy."""
    benchmark = Path(__file__).parents[2] / "benchmarks" / "causal_memory.py"
    words = "--batches 2x512 --vocabulary 16000 --layers 1 --teacher-layers 1"
    done = subprocess.run(
        [sys.executable, str(benchmark), *words.split()], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert float(re.search(r"ratio ([\d.]+)", done.stdout)[1]) < 1.3


@pytest.fixture(scope="module")
def student(fairseq_train, data_bin, gpt, tmp_path_factory):
    """A student's checkpoint; its teacher is gone, and fairseq saved its last valid loss."""
    gone = tmp_path_factory.mktemp("gone") / "teacher"
    gone.mkdir()
    shutil.copy(gpt, gone)
    save_dir = tmp_path_factory.mktemp("student")
    common = (
        "--tokens-per-sample 32 --batch-size 8 --optimizer adam --lr 5e-3 --cpu --log-format json "
        "--log-interval 1 --no-progress-bar --num-workers 0"
    )
    extra = f"{KI} --ki-teacher {gone / gpt.name} --ki-steps 40 --max-update 60"
    run = fairseq_train(data_bin, save_dir, extra, STUDENT, common)
    shutil.rmtree(gone.parent)
    shutil.copy(data_bin / "dict.txt", save_dir)
    run.valid_loss = float(run.valid[-1]["loss"])
    return run


@pytest.fixture
def command(student, student_options, monkeypatch, capsys, caplog):
    """Runs a fairseq command as its entry point does; what it printed and logged."""
    package = student_options.split()[1]
    checkpoint = student.save_dir / "checkpoint_last.pt"

    def run(module, data, words: str) -> str:
        words = f"{data} --user-dir {package} --path {checkpoint} --cpu --batch-size 8 {words}"
        monkeypatch.setattr(sys, "argv", [module.__name__, *words.split()])
        caplog.clear()
        with caplog.at_level("INFO"):
            module.cli_main()
        return capsys.readouterr().out + caplog.text

    return run


@pytest.mark.parametrize("task", ["ki_lm", "language_modeling"])
def test_eval_lm_finds_the_validation_loss(command, data_bin, student, task):
    printed = command(eval_lm, data_bin, f"--task {task} --gen-subset valid --tokens-per-sample 32")
    loss = float(re.search(r"Loss \(base 2\): ([\d.]+), Perplexity", printed)[1])
    assert loss == pytest.approx(student.valid_loss, abs=2e-3)


def test_validate_finds_the_validation_loss(command, data_bin, student):
    printed = command(validate, data_bin, "--task ki_lm --valid-subset valid --log-format json")
    loss = float(re.search(r'"valid_loss": "([\d.]+)"', printed)[1])
    assert loss == pytest.approx(student.valid_loss, abs=2e-3)


def test_interactive_goes_on_with_a_prompt(command, data_bin, tmp_path):
    (tmp_path / "prompts").write_text("w3 w10\nw7\n")
    words = f"--task ki_lm --input {tmp_path / 'prompts'} --buffer-size 8 --beam 2 --max-len-b 12"
    printed = command(interactive, data_bin, words)
    prompts = dict(re.findall(r"^S-(\d)\t(.*)$", printed, re.M))
    found = dict(re.findall(r"^H-(\d)\t[-\d.]+\t(.*)$", printed, re.M))
    assert prompts.keys() == found.keys() == {"0", "1"}
    for number, prompt in (("0", "w3 w10"), ("1", "w7")):
        assert found[number].startswith(prompt)
        assert len(found[number].split()) > len(prompt.split())


def test_generate_reproduces_its_sampling(command, data_bin):
    words = (
        "--task ki_lm --gen-subset valid --sample-break-mode eos --tokens-per-sample 32 "
        "--prefix-size 3 --sampling --sampling-topk 5 --beam 1 --max-len-b 20 --seed 7"
    )
    first, second = (
        re.findall(r"^H-(\d+)\t[-\d.]+\t(.*)$", command(generate, data_bin, words), re.M)
        for _ in range(2)
    )
    assert len(first) == 40
    assert first == second


def test_from_pretrained_scores_and_samples(student, data_bin):
    hub = TransformerLanguageModel.from_pretrained(
        str(student.save_dir), "checkpoint_last.pt", str(data_bin)
    )
    hub.eval()
    score = hub.score("w3 w10 w31")
    assert len(score["positional_scores"]) == 3
    assert all(math.isfinite(x) and x < 0 for x in score["positional_scores"].tolist())
    torch.manual_seed(1)
    assert hub.sample("w3 w10", beam=1, max_len_b=12).startswith("w3 w10")
