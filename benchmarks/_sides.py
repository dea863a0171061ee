"""Several fairseq Trainers in one process that take turns, update by update.

Each trains a student of its own on the same batches. What disturbs the machine disturbs all of
them alike, so ratios of neighbours repeat where the times of whole processes scatter.
"""

import contextlib
import logging
import math
import statistics
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

try:
    import fairseq_ki
except ModuleNotFoundError:  # from a clone that is not installed
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
    import fairseq_ki

import numpy as np
import torch
from fairseq import checkpoint_utils, options, tasks, utils
from fairseq.data import Dictionary, iterators
from fairseq.data.indexed_dataset import MMapIndexedDatasetBuilder
from fairseq.dataclass.utils import convert_namespace_to_omegaconf
from fairseq.distributed import utils as distributed_utils
from fairseq.logging import metrics
from fairseq.trainer import Trainer

from fairseq_ki.compat.cpu_ranks import connect_ranks
from fairseq_ki.evaluation.flops import Batch, teacher_flops, training_flops
from fairseq_ki.evaluation.model_sizes import model_options, named_sizes

# "processor" counts what this process computes, in all its threads, and not what it waits for
CLOCKS = {"wall": time.perf_counter, "processor": time.process_time}
SPECIAL = 5  # <s> <pad> </s> <unk>, and <mask>, which masked_lm adds


@dataclass(frozen=True)
class Problem:
    """What all sides have in common."""

    causal: bool
    student: str  # an --arch, or LAYERSxWIDTH[xFFN[xHEADS]]
    teacher: str
    vocabulary: int
    tokens_per_sample: int
    batch: int  # samples per update
    updates: int  # for which there is data
    num_workers: int = 1
    optimizer: str = "adam"
    precision: str = "fp32"  # or bf16, fp16
    device: str = "cpu"
    micro_batches: int = 1  # of an update, which its samples are split over

    @property
    def tokens(self) -> int:
        return self.batch * self.tokens_per_sample

    @property
    def flops_batch(self) -> Batch:
        rows = self.tokens if self.causal else 0.15 * self.tokens
        return Batch(self.tokens, self.tokens_per_sample, rows)

    @property
    def student_flops(self) -> float:
        """Of one update, forward and backward."""
        sizes = named_sizes(self.student, self.vocabulary, self.causal)
        return training_flops(sizes, self.flops_batch)

    @property
    def teacher_flops(self) -> float:
        """Of one update, forward, at the loss rows alone where that spares work."""
        sizes = named_sizes(self.teacher, self.vocabulary, self.causal)
        return teacher_flops(sizes, self.flops_batch)

    @property
    def blocks(self) -> list[str]:
        """fairseq's options that fix the samples, for training and for a capture."""
        return ["--tokens-per-sample", str(self.tokens_per_sample), "--sample-break-mode", "none"]


def write_data_bin(problem: Problem, folder: Path, seed: int = 1) -> Path:
    """A data-bin of random tokens whose frequencies follow Zipf's law, as those of text do."""
    folder.mkdir(parents=True, exist_ok=True)
    words = problem.vocabulary - SPECIAL + problem.causal  # a causal LM has no <mask>
    dictionary = Dictionary()
    for rank in range(words):
        dictionary.add_symbol(f"w{rank}", n=max(1, 10**7 // (rank + 1)))
    dictionary.save(str(folder / "dict.txt"))
    frequencies = 1 / np.arange(1, words + 1)
    rng = np.random.default_rng(seed)
    tokens = rng.choice(words, problem.tokens * problem.updates, p=frequencies / frequencies.sum())
    tokens = torch.from_numpy(tokens + dictionary.nspecial)
    dtype = np.uint16 if problem.vocabulary < 65500 else np.int32
    builder = MMapIndexedDatasetBuilder(str(folder / "train.bin"), dtype=dtype)
    for line in tokens.split(512):
        builder.add_item(line)
    builder.finalize(str(folder / "train.idx"))
    return folder


class Side:
    """One Trainer, made as fairseq-train makes it, with its own batches and meters.

    Args:
        name: of its meters.
        problem: what is trained.
        data: a data-bin.
        case: fairseq-train's options that differ from side to side, ``--task`` among them.
        connected: train with the other ranks of this launch, which make the same side.
    """

    def __init__(
        self,
        name: str,
        problem: Problem,
        data: Path,
        case: Sequence[str],
        connected: bool = False,
    ) -> None:
        self.name = name
        self.cuda = problem.device == "cuda"
        self.cfg = training_config(problem, data, case)
        if connected:
            connect_ranks(self.cfg)
            distributed_utils.distributed_init(self.cfg)
        metrics.reset()
        np.random.seed(self.cfg.common.seed)
        utils.set_torch_seed(self.cfg.common.seed)
        self.task = tasks.setup_task(self.cfg.task)
        model = self.task.build_model(self.cfg.model)
        criterion = self.task.build_criterion(self.cfg.criterion)
        self.trainer = Trainer(self.cfg, self.task, model, criterion)
        epoch = self.trainer.get_train_iterator(epoch=1, load_dataset=True)
        self.trainer.begin_epoch(1)
        batches = epoch.next_epoch_itr(fix_batches_to_gpus=False, shuffle=True)
        self._batches = iter(iterators.GroupedIterator(batches, problem.micro_batches))
        self.losses: list[float] = []

    def prepare(self, updates: int) -> float:
        """Take the loader out of the updates to come; returns its seconds per batch."""
        begun = time.perf_counter()
        batches = [next(self._batches) for _ in range(updates)]
        seconds = (time.perf_counter() - begun) / updates
        self._batches = iter(batches)
        return seconds

    def update(self, clock: str = "wall") -> float:
        """Seconds of one update, its batch from the loader included.

        Args:
            clock: one of ``CLOCKS``.
        """
        begun = CLOCKS[clock]()
        with metrics.aggregate(self.name, new_root=True) as meters:
            made = self.trainer.train_step(next(self._batches)) is not None
        if self.cuda:
            torch.cuda.synchronize()
        seconds = CLOCKS[clock]() - begun
        # not what train_step returns, which is rounded; no update is made where fp16 overflows
        self.losses.append(float(meters["loss"].val) if made else math.nan)
        return seconds


def training_config(problem: Problem, data: Path, case: Sequence[str]):
    """fairseq-train's configuration."""
    arguments = [
        str(data), "--user-dir", str(Path(fairseq_ki.__file__).parent), *case,
        *model_options(problem.student, problem.causal),
        *problem.blocks,
        "--dropout", "0.1", "--attention-dropout", "0.1",
        "--batch-size", str(problem.batch // problem.micro_batches),
        "--update-freq", str(problem.micro_batches), "--num-workers", str(problem.num_workers),
        "--optimizer", problem.optimizer, "--adam-betas", "(0.9, 0.98)", "--adam-eps", "1e-6",
        "--weight-decay", "0.01", "--lr", "5e-4", "--clip-norm", "0",
        "--lr-scheduler", "polynomial_decay", "--warmup-updates", "100",
        "--total-num-update", "100000", "--max-update", "100000",
        "--disable-validation", "--save-dir", str(data),
    ]  # fmt: skip
    if not problem.causal:
        arguments += ["--max-positions", str(problem.tokens_per_sample)]
    if problem.device == "cpu":
        arguments += ["--cpu"]
    if problem.precision != "fp32":
        arguments += [f"--{problem.precision}"]
    parser = options.get_training_parser()
    args = options.parse_args_and_arch(parser, input_args=arguments)
    return convert_namespace_to_omegaconf(args)


def make_teacher(problem: Problem, data: Path) -> Path:
    """A checkpoint of a teacher after one update: what it knows costs nothing."""
    task = "language_modeling" if problem.causal else "masked_lm"
    criterion = "cross_entropy" if problem.causal else "masked_lm"
    teacher = replace(
        problem, student=problem.teacher, num_workers=0, precision="fp32", optimizer="adam"
    )
    side = Side("teacher", teacher, data, ["--task", task, "--criterion", criterion])
    side.update()
    path = data / "teacher.pt"  # beside dict.txt
    side.trainer.consolidate_optimizer()
    side.trainer.save_checkpoint(str(path), {"train_iterator": {}})
    checkpoint_utils.save_checkpoint.__dict__.pop("best", None)
    return path


def take_turns(
    sides: Sequence[Side], turns: int, warm_up: int, clock: str = "wall"
) -> dict[str, list[float]]:
    """Seconds per update, by side and turn; who begins changes from turn to turn."""
    seconds: dict[str, list[float]] = {side.name: [] for side in sides}
    for turn in range(warm_up + turns):
        first = turn % len(sides)
        for side in (*sides[first:], *sides[:first]):
            elapsed = side.update(clock)
            if turn >= warm_up:
                seconds[side.name].append(elapsed)
    return seconds


def ratio(measured: Sequence[float], plain: Sequence[float]) -> float:
    """Median of the ratios turn by turn."""
    return statistics.median(m / p for m, p in zip(measured, plain, strict=True))


@contextlib.contextmanager
def quiet():
    """fairseq's logs and prints would bury the table."""
    level = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with contextlib.redirect_stdout(sys.stderr):
            yield
    finally:
        logging.disable(level)


def table(rows: Sequence[Sequence[str]]) -> str:
    """Columns of equal width, numbers to the right."""
    columns = list(zip(*rows, strict=True))
    widths = [max(map(len, column)) for column in columns]
    numbers = [any(cell[:1].isdigit() for cell in column[1:]) for column in columns]
    return "\n".join(
        " | ".join(
            cell.rjust(width) if number else cell.ljust(width)
            for cell, width, number in zip(row, widths, numbers, strict=True)
        ).rstrip()
        for row in rows
    )
