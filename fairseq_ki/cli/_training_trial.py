"""A teacher of one update and two updates of its student, as ``fairseq-train`` runs them."""

import json
import os
import random
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from fairseq.data import Dictionary
from fairseq.data.indexed_dataset import make_builder

from fairseq_ki import compat

PACKAGE = Path(__file__).resolve().parent.parent

# what the console script fairseq-train does, twice; a process of its own keeps the logs, the
# options and the memory of the trial away from the caller
TRAIN = """
import json, sys
from fairseq_cli.train import cli_main
for arguments in json.loads(sys.argv[1]):
    sys.argv = ["fairseq-train", *arguments]
    cli_main()
"""
COMMON = (
    "--arch roberta --encoder-embed-dim 16 --encoder-ffn-embed-dim 16 "
    "--encoder-attention-heads 2 --max-positions 32 --tokens-per-sample 32 --batch-size 4 "
    "--optimizer adam --lr 1e-3 --num-workers 0 --disable-validation --no-epoch-checkpoints "
    "--no-progress-bar --log-format json --log-interval 1 --distributed-world-size 1"
)
TEACHER = "--task masked_lm --criterion masked_lm --encoder-layers 1 --max-update 1"
STUDENT = "--task ki_mlm --criterion ki --encoder-layers 2 --max-update 2 --ki-steps 4"


@dataclass(frozen=True)
class Trial:
    """``failure`` is the last line of a training that failed, and empty otherwise."""

    progress: str
    failure: str


def train() -> Trial:
    """Trains on the GPU if there is one, on the CPU otherwise."""
    with tempfile.TemporaryDirectory() as folder:
        data, teacher, student = (Path(folder) / name for name in ("data", "teacher", "student"))
        write_data_bin(data)
        common = [str(data), "--user-dir", str(PACKAGE), *COMMON.split()]
        checkpoint = str(teacher / "checkpoint_last.pt")
        commands = [
            [*common, *TEACHER.split(), "--save-dir", str(teacher)],
            [*common, *STUDENT.split(), "--ki-teacher", checkpoint, "--save-dir", str(student)],
        ]
        # under torchrun each process would wait for others that run no trial
        alone = {k: v for k, v in os.environ.items() if k not in ("RANK", "WORLD_SIZE")}
        start = time.perf_counter()
        done = subprocess.run(
            [sys.executable, "-c", TRAIN, json.dumps(commands)],
            capture_output=True,
            text=True,
            env=alone,
        )
        seconds = time.perf_counter() - start
        lines = [line for line in (done.stdout + done.stderr).splitlines() if line.strip()]
        if done.returncode != 0:
            return Trial("", lines[-1] if lines else f"exit status {done.returncode}")
        compat.load_checkpoint(student / "checkpoint_last.pt")  # raises if it cannot be used
    logs = [json.loads(x.split("| train_inner | ")[1]) for x in lines if "| train_inner | " in x]
    losses = [f"loss {x['loss']} ki_loss {x['ki_loss']}" for x in logs if "ki_loss" in x]
    if len(losses) != 2:
        return Trial("", f"expected the logs of 2 updates with a teacher, found {len(losses)}")
    return Trial(f"{', then '.join(losses)} ({seconds:.0f} s)", "")


def write_data_bin(folder: Path) -> None:
    """A data-bin of a few sentences of random words."""
    folder.mkdir()
    rng, dictionary = random.Random(0), Dictionary()
    words = [f"w{i}" for i in range(60)]
    for i, word in enumerate(words):
        dictionary.add_symbol(word, n=100 - i)
    dictionary.save(str(folder / "dict.txt"))
    for split in ("train", "valid"):
        builder = make_builder(str(folder / f"{split}.bin"), "mmap", vocab_size=len(dictionary))
        for _ in range(40):
            text = " ".join(rng.choices(words, k=12))
            builder.add_item(dictionary.encode_line(text, add_if_not_exist=False).long())
        builder.finalize(str(folder / f"{split}.idx"))
