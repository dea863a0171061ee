"""From a teacher's checkpoint to a checkpoint that a larger student starts from."""

import argparse
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import SimpleNamespace
from typing import IO, Any, NoReturn

import torch
from fairseq import models, options
from fairseq.data import Dictionary
from fairseq.dataclass.utils import convert_namespace_to_omegaconf
from fairseq.models import BaseFairseqModel
from omegaconf import OmegaConf

from fairseq_ki.compat import write_together
from fairseq_ki.growth.grown import grown
from fairseq_ki.growth.promises import Promise, promise
from fairseq_ki.growth.shapes import Shape, shape_of
from fairseq_ki.models._teacher_files import MASK, first_line, read_teacher
from fairseq_ki.models.ki_teacher import load_teacher

# of logits that are promised to be equal, relative to the largest one: many times the rounding of
# float32, a small part of what any wrong weight makes
_ROUNDING = 1e-3


@dataclass(frozen=True)
class Origin:
    """A teacher that students can grow from.

    Args:
        path: of its checkpoint.
        model: in float32, in eval mode.
        symbols: its dictionary as its dict.txt has it.
        dictionary: the same, with ``<mask>`` for a masked LM.
        task: fairseq's options of its task.
    """

    path: str
    model: BaseFairseqModel
    symbols: bytes
    dictionary: Dictionary
    task: Any

    @property
    def causal(self) -> bool:
        return self.shape.causal

    @property
    def shape(self) -> Shape:
        return shape_of(self.model)


@dataclass(frozen=True)
class Student:
    """A larger model with its teacher's weights.

    Args:
        model: in eval mode.
        configuration: fairseq's, in plain containers.
        options: of fairseq-train that build the same model.
        promise: what holds of its logits.
        difference: largest difference of its logits from the teacher's, on random tokens.
        largest: largest absolute value of the teacher's.
    """

    origin: Origin
    model: BaseFairseqModel
    configuration: dict
    options: list[str]
    promise: Promise
    difference: float
    largest: float

    @property
    def shape(self) -> Shape:
        return shape_of(self.model)

    @property
    def longest_sample(self) -> int:
        """In tokens, of a training with its options."""
        task = self.configuration["task"]
        longest = task["tokens_per_sample"]
        if task.get("sample_break_mode") not in (None, "none"):  # then sentences stay whole
            longest = max(longest, self.model.max_positions())
        return longest

    @property
    def architecture(self) -> str:
        """Its ``--arch``."""
        return self.options[self.options.index("--arch") + 1]


def read_origin(path: str, dictionary: str | None = None) -> Origin:
    """Read a fairseq checkpoint, safely, with its dictionary.

    Args:
        path: of a RoBERTa or a transformer_lm.
        dictionary: its dict.txt; default: beside it, else in the data directory it records.

    Raises:
        ValueError: for a file that cannot teach or cannot grow, with what was expected and found.
    """
    files = read_teacher(path, dictionary, causal=True)
    causal = not any(name.endswith("lm_head.dense.weight") for name in files.weights)
    symbols = _as_bytes(files.dictionary)
    if not causal:
        files.dictionary.add_symbol(MASK)
    task = _task(files.dictionary)
    teacher = load_teacher(path, task, dictionary=dictionary, causal=causal, positions=0)
    origin = Origin(path, teacher.model, symbols, files.dictionary, files.task)
    try:
        shape_of(origin.model)
    except ValueError as refusal:
        raise ValueError(f"{path}: {refusal}") from None
    return origin


def grow(
    origin: Origin, options_of_model: Sequence[str], *, depth: str = "identity", seed: int = 1
) -> Student:
    """Build a larger model and give it the teacher's weights.

    Args:
        options_of_model: as fairseq-train takes them: ``--arch``, sizes, positions. Without
            ``--tokens-per-sample`` or positions among them it has the teacher's.
        depth: ``identity`` or ``stack`` (:func:`deepened`).
        seed: of the parts in which weights are divided.

    Raises:
        ValueError: for options that fairseq-train does not take, or sizes that growth cannot
            reach.
    """
    words = [*_positions(origin, options_of_model), *options_of_model]
    configuration = _configuration(origin, words)
    model = _built(configuration, origin)
    old, new = origin.shape, shape_of(model)
    weights = grown(origin.model.state_dict(), old, new, depth=depth, seed=seed)
    model.load_state_dict(weights, strict=True)
    difference, largest = _compared(origin.model, model, new)
    found = promise(old, new, depth)
    if found.equal and not difference <= _ROUNDING * max(1.0, largest):
        raise RuntimeError(
            f"growth promised the teacher's logits, but they differ by {difference:.3g} (the "
            f"largest is {largest:.3g}): a fault of this package, or a custom model"
        )
    plain: Any = OmegaConf.to_container(configuration, resolve=True, enum_to_str=True)
    return Student(origin, model, plain, words, found, difference, largest)


def check_free(out: str) -> None:
    """Refuse to overwrite a checkpoint, before any work is done for it."""
    if os.path.lexists(out):
        raise ValueError(f"--out {out}: expected no such file, found one; name another, or move it")


def write_student(student: Student, out: str, notes: dict[str, Any]) -> None:
    """Write the checkpoint for ``--finetune-from-model``, and dict.txt beside it.

    Args:
        notes: plain values that the checkpoint is to keep beside the weights.

    Raises:
        ValueError: if ``out`` is there, or another dict.txt beside it, or the disk is full.
    """
    check_free(out)
    folder = os.path.dirname(os.path.abspath(out))
    os.makedirs(folder, exist_ok=True)
    beside = os.path.join(folder, "dict.txt")
    files: dict[str, Callable[[IO[bytes]], Any]] = {}
    if os.path.isfile(beside):
        with open(beside, "rb") as file:
            if file.read().split() != student.origin.symbols.split():
                raise ValueError(
                    f"{beside}: expected the dictionary of {student.origin.path}, found another "
                    "one, which the grown model would be taken to have; give --out a folder of "
                    "its own"
                )
    else:
        files[beside] = lambda file: file.write(student.origin.symbols)
    state = _state(student, notes)
    files[out] = lambda file: torch.save(state, file)
    write_together(files)


def _task(dictionary: Dictionary) -> SimpleNamespace:
    """What fairseq's models ask of a task when they are built."""
    return SimpleNamespace(source_dictionary=dictionary, target_dictionary=dictionary)


def _as_bytes(dictionary: Dictionary) -> bytes:
    lines = zip(dictionary.symbols[dictionary.nspecial :], dictionary.count[dictionary.nspecial :])
    return "".join(f"{symbol} {count}\n" for symbol, count in lines).encode()


def _positions(origin: Origin, given: Sequence[str]) -> list[str]:
    """The teacher's length of samples and positions, each where it is not asked for.

    A length that is asked for gets the positions that it needs, and positions bound the length.
    """
    name = "--max-target-positions" if origin.causal else "--max-positions"
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.error = _refuse  # type: ignore[method-assign]
    parser.add_argument("--tokens-per-sample", type=int)
    parser.add_argument(name, type=int, dest="positions")
    asked, _ = parser.parse_known_args(list(given))
    length = asked.tokens_per_sample
    words = []
    if length is None:
        own = getattr(origin.task, "tokens_per_sample", None) or 512
        length = own if asked.positions is None else min(own, asked.positions)
        words += ["--tokens-per-sample", str(length)]
    if asked.positions is None:
        words += [name, str(max(length, origin.model.max_positions()))]
    return words


def _configuration(origin: Origin, words: list[str]) -> Any:
    """fairseq's configuration of a training with these options."""
    parser = options.get_training_parser()
    # fairseq's own would print every option that it has
    parser.error = _refuse  # type: ignore[method-assign]
    # the checkpoint is validated as those of the training that follows
    kind = ["--task", "ki_lm" if origin.causal else "ki_mlm", "--criterion", "ki"]
    data = str(getattr(origin.task, "data", None) or ".")
    args = options.parse_args_and_arch(parser, input_args=[data, *kind, *words])
    return convert_namespace_to_omegaconf(args)


def _refuse(message: str) -> NoReturn:
    raise ValueError(f"expected options of a model as fairseq-train has them: {message}")


def _built(configuration: Any, origin: Origin) -> BaseFairseqModel:
    task = _task(origin.dictionary)
    try:
        with torch.random.fork_rng(devices=[]):
            return models.build_model(configuration.model, task).eval()
    except Exception as e:  # fairseq asserts what it wants of options
        raise ValueError(f"expected options that a model can be built with: {first_line(e)}") from e


@torch.no_grad()
def _compared(old: BaseFairseqModel, new: BaseFairseqModel, shape: Shape) -> tuple[float, float]:
    """(largest difference, largest value) of the logits on random tokens."""
    generator = torch.Generator().manual_seed(0)
    length = min(16, old.max_positions())
    tokens = torch.randint(4, shape.vocabulary, (2, length), generator=generator)
    was, now = old(tokens)[0], new(tokens)[0]
    return float((was - now).abs().max()), float(was.abs().max())


def _state(student: Student, notes: dict[str, Any]) -> dict:
    """What fairseq-train writes, before the first update."""
    history = {
        "criterion_name": "none",
        "optimizer_name": "none",
        "lr_scheduler_state": {},
        "num_updates": 0,
    }
    return {
        "args": None,
        "cfg": student.configuration,
        "model": student.model.state_dict(),
        "criterion": None,
        "optimizer_history": [history],
        "task_state": {},
        "extra_state": {
            "train_iterator": {
                "version": 2, "epoch": 1, "iterations_in_epoch": 0, "shuffle": True,
            },
            "grown": notes,
        },
    }  # fmt: skip
