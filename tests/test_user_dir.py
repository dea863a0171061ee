"""``--user-dir fairseq_ki`` in fresh processes: from a clone, installed, already imported."""

import shutil
import subprocess
import sys
from pathlib import Path

import fairseq

REPO = Path(__file__).resolve().parent.parent
TRAIN = (
    "--task ki_mlm --criterion ki --arch roberta --encoder-layers 1 --encoder-embed-dim 16 "
    "--encoder-ffn-embed-dim 16 --encoder-attention-heads 2 --max-positions 32 --cpu "
    "--tokens-per-sample 32 --batch-size 8 --optimizer adam --lr 1e-3 --max-update 1 "
    "--disable-validation --no-save --num-workers 0"
).split()


def run(code_or_module: list[str], cwd: Path, **env) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, *code_or_module],
        cwd=cwd,
        env={"PATH": "/usr/bin:/bin", "OMP_NUM_THREADS": "1", **env},
        capture_output=True,
        text=True,
        timeout=120,
    )


def test_from_a_clone(data_bin):
    done = run(["-m", "fairseq_cli.train", str(data_bin), "--user-dir", "fairseq_ki", *TRAIN], REPO)
    assert done.returncode == 0, done.stderr[-2000:]
    assert "done training" in done.stdout + done.stderr


def test_installed_beside_fairseq_and_called_from_elsewhere(data_bin, tmp_path):
    site = tmp_path / "site"
    packages = Path(fairseq.__file__).parent.parent
    for name in ("fairseq", "fairseq_cli"):
        shutil.copytree(packages / name, site / name, ignore=shutil.ignore_patterns("examples"))
    shutil.copytree(REPO / "fairseq_ki", site / "fairseq_ki")
    done = run(
        ["-m", "fairseq_cli.train", str(data_bin), "--user-dir", "fairseq_ki", *TRAIN],
        tmp_path,
        PYTHONPATH=str(site),
    )
    assert done.returncode == 0, done.stderr[-2000:]


def test_already_imported_and_light(data_bin):
    """Importing the package by hand first works, and drags in nothing heavy."""
    code = f"""
import sys
import fairseq.tasks, fairseq.models, fairseq.criterions, fairseq.optim, fairseq_cli.train
before = set(sys.modules)
import fairseq_ki
heavy = {{"transformers", "matplotlib", "pandas", "sklearn", "scipy", "safetensors", "tokenizers"}}
found = heavy & {{name.split(".")[0] for name in set(sys.modules) - before}}
assert not found, found
user_dir = ["--user-dir", {str(REPO / "fairseq_ki")!r}]
sys.argv = ["fairseq-train", {str(data_bin)!r}, *user_dir, *{TRAIN}]
fairseq_cli.train.cli_main()
"""
    done = run(["-c", code], REPO)
    assert done.returncode == 0, done.stderr[-2000:]


def test_through_hydra(data_bin, teacher, tmp_path):
    (tmp_path / "ki.yaml").write_text(
        f"""# @package _group_
common: {{cpu: true, user_dir: {REPO / "fairseq_ki"}, log_format: json, log_interval: 1}}
task: {{_name: ki_mlm, data: {data_bin}, tokens_per_sample: 32, ki_teacher: {teacher}}}
criterion: {{_name: ki, ki_steps: 2}}
dataset: {{batch_size: 8, num_workers: 0, disable_validation: true}}
optimizer: {{_name: adam, adam_betas: "(0.9,0.98)"}}
lr_scheduler: {{_name: fixed}}
optimization: {{max_update: 3, lr: [0.001]}}
checkpoint: {{no_save: true}}
model: {{_name: roberta, encoder_layers: 1, encoder_embed_dim: 16, encoder_ffn_embed_dim: 16,
        encoder_attention_heads: 2, max_positions: 32}}
"""
    )
    program = Path(sys.executable).parent / "fairseq-hydra-train"
    done = run([str(program), "--config-dir", str(tmp_path), "--config-name", "ki"], tmp_path)
    output = done.stdout + done.stderr
    assert "done training" in output, output[-2000:]
    assert [line for line in output.splitlines() if '"ki_rate": "0.5"' in line]
