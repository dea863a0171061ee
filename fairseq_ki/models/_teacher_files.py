"""What a teacher is made of, from the disk: weights, configuration, dictionary."""

import hashlib
import logging
import os
from argparse import Namespace
from dataclasses import dataclass

from fairseq import checkpoint_utils
from fairseq.data import Dictionary
from omegaconf import DictConfig
from torch import Tensor

logger = logging.getLogger(__name__)

MASK = "<mask>"
HUGGING_FACE = "hf:"  # before a directory of transformers


@dataclass(frozen=True)
class TeacherFiles:
    """One checkpoint, or directory of transformers, read.

    Args:
        path: as the user named it.
        weights: by name.
        model, task: fairseq's options of both.
        dictionary: the teacher's, with ``<mask>`` for a masked LM.
    """

    path: str
    weights: dict[str, Tensor]
    model: DictConfig | Namespace
    task: DictConfig | Namespace
    dictionary: Dictionary

    @property
    def architecture(self) -> str | None:
        """Its ``--arch``, as far as it is recorded."""
        return getattr(self.model, "_name", None) or getattr(self.model, "arch", None)

    @property
    def dictionary_sha256(self) -> str:
        """Of the symbols in their order."""
        return hashlib.sha256("\n".join(self.dictionary.symbols).encode()).hexdigest()


def read_teacher(path: str, dictionary: str | None, causal: bool) -> TeacherFiles:
    """Read and check a fairseq checkpoint, or a model of transformers, and find its dictionary.

    Args:
        path: of the checkpoint, or ``hf:`` and a directory.
        dictionary: its dict.txt, if that is given.
        causal: no ``<mask>`` belongs to the dictionary, which fairseq's masked_lm appends.

    Raises:
        ValueError: for a file that fairseq-train did not write, or without a dictionary; for a
            directory that cannot be expressed exactly in fairseq.
    """
    if path.startswith(HUGGING_FACE):
        return _read_directory(path, dictionary, causal)
    state = _read_checkpoint(path)
    model, task = _saved_options(state, path)
    found = _find_dictionary(path, task, dictionary)
    if not causal:
        found.add_symbol(MASK)
    return TeacherFiles(path, state["model"], model, task, found)


def _read_directory(path: str, dictionary: str | None, causal: bool) -> TeacherFiles:
    """A model of transformers, as the checkpoint that ``convert from-hf`` would write.

    Its dictionary is its tokenizer's; one that is given names the same rows in the same order.
    """
    try:
        # here alone: nothing that fairseq-train loads for every run may need the extra
        from fairseq_ki.convert.from_hf import load_directory
    except ImportError as e:
        raise ValueError(
            f"teacher {path}: expected the packages that read it, found no {e.name}; "
            "pip install 'fairseq_ki[hf]'"
        ) from e
    loaded = load_directory(path.removeprefix(HUGGING_FACE))
    if loaded.kind == "classifier":
        raise ValueError(
            f"teacher {path}: expected a language model, found a classifier; take the model that "
            "it was fine-tuned from"
        )
    for note in loaded.notes:
        logger.info(f"teacher {path}: {note}")
    found = loaded.dictionary
    if dictionary is not None:
        found = _given_dictionary(dictionary)
        if not causal:
            found.add_symbol(MASK)
    cfg = loaded.state["cfg"]
    return TeacherFiles(path, loaded.state["model"], cfg.model, cfg.task, found)


def _read_checkpoint(path: str) -> dict:
    """The checkpoint on the CPU, loaded safely (see ``compat``)."""
    if not os.path.isfile(path):
        raise ValueError(f"teacher checkpoint {path}: expected a file, found none at that path")
    try:
        state = checkpoint_utils.load_checkpoint_to_cpu(path)
    except (ValueError, OSError):
        raise
    except Exception as e:
        # fairseq's upgrade of old checkpoints trips over what is missing, hydra over options
        # of unknown architectures, each in its own way
        raise ValueError(
            f"teacher checkpoint {path}: expected what fairseq-train writes, found a file whose "
            f"contents it does not know ({first_line(e)}); give the original checkpoint"
        ) from e
    weights = state["model"]
    if not isinstance(weights, dict) or not all(
        isinstance(name, str) and isinstance(value, Tensor) for name, value in weights.items()
    ):
        raise ValueError(
            f"teacher checkpoint {path}: expected tensors by name under 'model', found something "
            "else; it was not written by fairseq-train"
        )
    return state


def _saved_options(state: dict, path: str) -> tuple:
    """Options of model and task (0.9 had ``args``, which fairseq's upgrade makes ``cfg`` of)."""
    saved = state.get("cfg")
    if saved is None:
        raise ValueError(
            f"teacher checkpoint {path}: expected its training options under 'cfg' or 'args', "
            "found neither; it was not written by fairseq-train"
        )
    parts = []
    for name in ("model", "task"):
        part = saved.get(name) if isinstance(saved, DictConfig) else None
        if not isinstance(part, (DictConfig, Namespace)):
            raise ValueError(
                f"teacher checkpoint {path}: expected the options of its {name} under "
                f"'cfg', found {'none' if part is None else type(part).__name__}; it was not "
                "written by fairseq-train"
            )
        parts.append(part)
    return tuple(parts)


def _find_dictionary(path: str, task: DictConfig | Namespace, given: str | None) -> Dictionary:
    """The teacher's dictionary: the one that is given, else the first that is found.

    A fairseq checkpoint holds no dictionary, only the path of the data it was trained on.
    """
    if given is not None:
        return _given_dictionary(given)
    recorded = str(getattr(task, "data", None) or "").split(os.pathsep)[0]
    folders = {
        "beside the checkpoint": os.path.dirname(os.path.abspath(path)),
        "the recorded data directory": recorded,
    }
    for folder in filter(None, folders.values()):
        if os.path.isfile(file := os.path.join(folder, "dict.txt")):
            return _load_dictionary(file)
    looked = "; ".join(f"{place}: {folder or 'none'}" for place, folder in folders.items())
    raise ValueError(
        f"teacher checkpoint {path}: expected its dict.txt in one of three places, found none "
        f"(given: none; {looked}); name it with --ki-teacher-dict, dict in a mixture, or --dict"
    )


def _given_dictionary(path: str) -> Dictionary:
    if not os.path.isfile(path):
        raise ValueError(f"the teacher's dictionary {path}: expected a dict.txt, found no file")
    return _load_dictionary(path)


def _load_dictionary(path: str) -> Dictionary:
    try:
        dictionary = Dictionary.load(path)
    except Exception as e:  # fairseq raises that very class for a file that is not text
        raise ValueError(
            f"the teacher's dictionary {path}: expected a dict.txt of fairseq-preprocess (one "
            f"symbol and its count a line), found: {e}"
        ) from e
    logger.info(f"the teacher's dictionary: {path} ({len(dictionary):,} symbols)")
    return dictionary


def first_line(error: Exception) -> str:
    """Class and message; fairseq's and hydra's messages may hold a whole configuration."""
    text = str(error).strip().splitlines()
    return f"{type(error).__name__}: {text[0][:200] if text else 'no message'}"
