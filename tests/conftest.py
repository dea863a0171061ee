"""What the tests share: a tiny binarised corpus, fairseq-train in this process, a teacher."""

import contextlib
import io
import json
import logging
import os
import random
import resource
import shutil
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
import torch
from fairseq import checkpoint_utils, options
from fairseq.data import Dictionary
from fairseq.data.indexed_dataset import MMapIndexedDatasetBuilder
from fairseq.dataclass.utils import convert_namespace_to_omegaconf
from fairseq_cli import train as fairseq_train_cli
from sentencepiece import SentencePieceProcessor, SentencePieceTrainer

PACKAGE = Path(__file__).resolve().parent.parent / "fairseq_ki"


@pytest.fixture(autouse=True, scope="session")
def _one_thread():
    # bit-for-bit comparisons, and two cores that other tests may want
    torch.set_num_threads(1)


@pytest.fixture(autouse=True, scope="session")
def _short_farewells():
    # A loader that a test leaves half-way is ended by the garbage collector, in some later test
    # and with its queues gone before it: torch then waits this long for each worker, 5 s.
    torch.utils.data._utils.MP_STATUS_CHECK_INTERVAL = 0.5


def write_data_bin(folder: Path, words: int = 60, lines: dict | None = None, seed: int = 0) -> Path:
    """A data-bin of sentences from a small Markov chain, so that there is something to learn."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = random.Random(seed)
    dictionary = Dictionary()
    for i in range(words):
        dictionary.add_symbol(f"w{i}", n=1000 - i)
    dictionary.save(str(folder / "dict.txt"))
    dictionary = Dictionary.load(str(folder / "dict.txt"))
    for split, count in (lines or {"train": 300, "valid": 40}).items():
        builder = MMapIndexedDatasetBuilder(str(folder / f"{split}.bin"), dtype=np.uint16)
        for _ in range(count):
            word, sentence = rng.randrange(words), []
            for _ in range(rng.randint(6, 18)):
                sentence.append(f"w{word}")
                word = (word * 3 + rng.choice([1, 2])) % words
            builder.add_item(dictionary.encode_line(" ".join(sentence)).long())
        builder.finalize(str(folder / f"{split}.idx"))
    return folder


@pytest.fixture(scope="session")
def data_bin(tmp_path_factory) -> Path:
    return write_data_bin(tmp_path_factory.mktemp("data") / "bin")


@dataclass
class Run:
    """What one training printed and left behind."""

    save_dir: Path
    train: list[dict] = field(default_factory=list)
    valid: list[dict] = field(default_factory=list)

    @property
    def losses(self) -> list[str]:
        return [r["loss"] for r in self.train]

    def state(self, name: str = "checkpoint_last.pt") -> dict:
        return torch.load(self.save_dir / name, weights_only=True)


class _Records(logging.Handler):
    def __init__(self, run: Run):
        super().__init__()
        self.run = run

    def emit(self, record):
        if record.name in ("train_inner", "valid"):
            stats = json.loads(record.getMessage())
            if record.name == "valid":
                self.run.valid.append({k.removeprefix("valid_"): v for k, v in stats.items()})
            else:
                self.run.train.append(stats)


STUDENT = (
    "--arch roberta --encoder-layers 2 --encoder-embed-dim 32 --encoder-ffn-embed-dim 64 "
    "--encoder-attention-heads 2 --max-positions 32"
)
TEACHER = (
    "--arch roberta --encoder-layers 1 --encoder-embed-dim 16 --encoder-ffn-embed-dim 32 "
    "--encoder-attention-heads 2 --max-positions 32"
)
COMMON = (
    "--tokens-per-sample 32 --batch-size 8 --optimizer adam --lr 5e-3 --lr-scheduler fixed "
    "--cpu --log-format json --log-interval 1 --no-progress-bar --num-workers 0 "
    "--disable-validation --no-epoch-checkpoints --dropout 0.1 --attention-dropout 0.1"
)


def train(
    data: Path, save_dir: Path, extra: str, model: str = STUDENT, common: str = COMMON
) -> Run:
    """fairseq-train in this process; ``extra`` comes last and so wins."""
    run = Run(Path(save_dir))
    arguments = (
        f"{data} --user-dir {PACKAGE} {common} {model} --save-dir {save_dir} {extra}"
    ).split()
    parser = options.get_training_parser()
    cfg = convert_namespace_to_omegaconf(options.parse_args_and_arch(parser, input_args=arguments))
    checkpoint_utils.save_checkpoint.__dict__.pop("best", None)
    handler = _Records(run)
    bars = logging.getLogger("fairseq.logging.progress_bar")  # its records bear the tag as name
    bars.addHandler(handler)
    level, bars.level = bars.level, logging.INFO
    try:
        fairseq_train_cli.main(cfg)
    finally:
        bars.removeHandler(handler)
        bars.level = level
    return run


@pytest.fixture(scope="session")
def fairseq_train():
    return train


@pytest.fixture(scope="session")
def student_options() -> str:
    """The options of :func:`train`, for a test that starts fairseq-train itself."""
    return f"--user-dir {PACKAGE} {COMMON} {STUDENT}"


@pytest.fixture(scope="session")
def torchrun_train():
    """fairseq-train under torchrun in two processes; the JSON lines that rank 0 printed."""

    def train(data_bin, save_dir, options: str) -> list[dict]:
        command = (
            f"-m torch.distributed.run --nproc-per-node 2 --standalone -m fairseq_cli.train "
            f"{data_bin} {options} --save-dir {save_dir}"
        )
        done = subprocess.run(
            [sys.executable, *command.split()], capture_output=True, text=True, timeout=240
        )
        output = done.stdout + done.stderr
        assert done.returncode == 0, output[-3000:]
        return [
            json.loads(line.split("| train_inner | ")[1])
            for line in output.splitlines()
            if "| train_inner | " in line
        ]

    return train


@pytest.fixture(scope="session")
def teacher(data_bin, tmp_path_factory) -> Path:
    """A masked LM trained for a few updates by fairseq's own task, with its dict.txt beside it."""
    save_dir = tmp_path_factory.mktemp("teacher")
    train(data_bin, save_dir, "--task masked_lm --criterion masked_lm --max-update 30", TEACHER)
    for other in save_dir.iterdir():
        if other.name != "checkpoint_last.pt":
            os.remove(other)
    shutil.copy(data_bin / "dict.txt", save_dir)
    return save_dir / "checkpoint_last.pt"


@pytest.fixture(scope="session")
def piece_bin(tmp_path_factory) -> Path:
    """A data-bin with the SentencePiece model that it was encoded with: good and bad words."""
    folder = tmp_path_factory.mktemp("pieces") / "bin"
    folder.mkdir()
    rng = random.Random(1)
    words = "fine good great nice warm bad dull poor sad weak the a film song book was is".split()
    lines = [" ".join(rng.choices(words, k=rng.randint(3, 9))) for _ in range(300)]
    model = io.BytesIO()
    SentencePieceTrainer.train(
        sentence_iterator=iter(lines), model_writer=model, vocab_size=60, hard_vocab_limit=False,
        bos_id=0, pad_id=1, eos_id=2, unk_id=3, minloglevel=2,
    )  # fmt: skip
    (folder / "spm.model").write_bytes(model.getvalue())
    pieces = SentencePieceProcessor(model_proto=model.getvalue())
    symbols = [pieces.id_to_piece(i) for i in range(4, pieces.get_piece_size())]
    (folder / "dict.txt").write_text("".join(f"{symbol} 1\n" for symbol in symbols))
    dictionary = Dictionary.load(str(folder / "dict.txt"))
    for split, of_split in {"train": lines, "valid": lines[:30]}.items():
        builder = MMapIndexedDatasetBuilder(str(folder / f"{split}.bin"), dtype=np.uint16)
        for line in of_split:
            text = " ".join(pieces.encode(line, out_type=str))
            builder.add_item(dictionary.encode_line(text, add_if_not_exist=False).long())
        builder.finalize(str(folder / f"{split}.idx"))
    return folder


@pytest.fixture(scope="session")
def masked_lm(piece_bin, tmp_path_factory) -> Path:
    """A masked LM of one of our architectures, pre-trained a little on ``piece_bin``."""
    save_dir = tmp_path_factory.mktemp("masked_lm") / "seed1"
    model = "--arch roberta_micro_2x128 --encoder-layers 1 --encoder-embed-dim 32"
    train(piece_bin, save_dir, "--task ki_mlm --criterion ki --max-update 30", model)
    return save_dir / "checkpoint_last.pt"


@pytest.fixture
def files_up_to():
    """Within ``with files_up_to(size)`` no file grows beyond it: a disk that is full by then."""

    @contextlib.contextmanager
    def limited(size: int):
        before = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
        try:
            yield
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)

    return limited
