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
