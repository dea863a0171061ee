"""One frozen teacher: found, checked against the student's task, loaded, and kept from training.

Registered as model ``ki_teacher``, so that it is built as every fairseq model is; it is owned by
a signal source, never by anything fairseq trains (see ``teachers/live.py``).
"""

import logging
import os
from dataclasses import dataclass, field
from typing import Optional  # fairseq reads no `X | None`

import torch
from fairseq import checkpoint_utils, models
from fairseq.data import Dictionary
from fairseq.dataclass import FairseqDataclass
from fairseq.dataclass.utils import convert_namespace_to_omegaconf
from fairseq.models import BaseFairseqModel, register_model
from omegaconf import DictConfig, OmegaConf, open_dict
from torch import Tensor

from fairseq_ki.models._heads import features, head_input, supports_head_input
from fairseq_ki.models._row_features import row_features, supports_row_features

logger = logging.getLogger(__name__)

MASK = "<mask>"

# weights with one row for each symbol of the dictionary
_BY_SYMBOL = ("embed_tokens.weight", "output_projection.weight", "lm_head.weight")


@dataclass
class KITeacherConfig(FairseqDataclass):
    """What it takes to build one teacher."""

    ki_checkpoint: str = field(default="", metadata={"help": "the teacher's fairseq checkpoint"})
    ki_dict: Optional[str] = field(
        default=None,
        metadata={"help": "the teacher's dict.txt, where it is not beside the checkpoint"},
    )
    ki_causal: bool = field(
        default=False, metadata={"help": "the teacher has to be a causal language model"}
    )
    ki_positions: int = field(
        default=0, metadata={"help": "longest sample, in tokens, that the teacher will be shown"}
    )


@register_model("ki_teacher", dataclass=KITeacherConfig)
class KITeacher(BaseFairseqModel):
    """A teacher that is always in eval mode, has no gradients and is in no checkpoint.

    Build it with :func:`load_teacher`. Raises ValueError, with what was expected and found, for
    a checkpoint that cannot teach the task at hand.
    """

    def __init__(self, model: BaseFairseqModel, path: str) -> None:
        super().__init__()
        self.model = model
        self.path = path
        self.requires_grad_(False)
        self.eval()

    @classmethod
    def build_model(cls, cfg: KITeacherConfig, task) -> "KITeacher":
        state = read_checkpoint(cfg.ki_checkpoint)
        saved = saved_config(state, cfg.ki_checkpoint)
        check_kind(state, saved, cfg.ki_checkpoint, cfg.ki_causal)
        dictionary = teacher_dictionary(
            cfg.ki_checkpoint, saved, cfg.ki_dict, mask=not cfg.ki_causal
        )
        check_dictionary(dictionary, task.source_dictionary, cfg.ki_checkpoint)
        model = build_from_state(state, saved, task, cfg.ki_checkpoint, causal=cfg.ki_causal)
        check_positions(model, cfg.ki_positions, cfg.ki_checkpoint)
        return cls(model, cfg.ki_checkpoint)

    def train(self, mode: bool = True) -> "KITeacher":
        """Stay in eval mode: a teacher with dropout would contradict itself."""
        return super().train(False)

    def state_dict(self, *args, **kwargs) -> dict:
        """Empty: checkpoints hold the student alone."""
        return {}

    def forward(self, src_tokens: Tensor, **kwargs):
        return self.model(src_tokens, **kwargs)

    def max_positions(self) -> int:
        return self.model.max_positions()

    @torch.no_grad()
    def head_input(
        self, net_input: dict, rows: Tensor, *, rows_alone: bool = False
    ) -> tuple[Tensor, Tensor, Tensor | None]:
        """Hidden states at the rows, output weight and bias (see ``_heads.head_input``).

        Args:
            net_input: of the batch.
            rows: (B, T) bool.
            rows_alone: spare the last layer the other positions where the model allows it. The
                last digits then depend on what else is in the batch.
        """
        if rows_alone and supports_row_features(self.model):
            hidden = row_features(self.model, net_input["src_tokens"], rows)
            return head_input(self.model, hidden, None)
        return head_input(self.model, features(self.model, net_input), rows)

    def num_parameters(self) -> int:
        return sum(p.numel() for p in self.parameters())


def load_teacher(
    path: str, task, *, dictionary: str | None, causal: bool, positions: int
) -> KITeacher:
    """Build, load, check and freeze the teacher for a task.

    Args:
        path: fairseq checkpoint.
        task: the student's task; gives the dictionary that the teacher's must equal.
        dictionary: the teacher's dict.txt, or None to look for it (:func:`teacher_dictionary`).
        causal: whether a causal LM is expected, else a masked LM.
        positions: longest sample in tokens, special tokens included.
    """
    cfg = KITeacherConfig(
        ki_checkpoint=path, ki_dict=dictionary, ki_causal=causal, ki_positions=positions
    )
    node = OmegaConf.structured(cfg)
    with open_dict(node):
        node._name = "ki_teacher"
    # the random numbers of building a network must not be missed by the student's dropout:
    # a resumed run builds its teacher in the middle of an update
    with torch.random.fork_rng(devices=[]):
        return models.build_model(node, task)


def read_checkpoint(path: str) -> dict:
    """The checkpoint on the CPU, loaded safely (see ``compat``)."""
    if not os.path.isfile(path):
        raise ValueError(f"teacher checkpoint {path}: expected a file, found none at that path")
    try:
        state = checkpoint_utils.load_checkpoint_to_cpu(path)
    except (KeyError, TypeError, AttributeError) as e:
        # fairseq's upgrade of old checkpoints trips over what is missing
        raise ValueError(
            f"teacher checkpoint {path}: expected what fairseq-train writes, found a file whose "
            f"contents it does not know ({type(e).__name__}: {e}); give the original checkpoint"
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


def saved_config(state: dict, path: str) -> DictConfig:
    """The configuration that the checkpoint was trained with (0.9's ``args`` included)."""
    if state.get("args") is not None:
        return convert_namespace_to_omegaconf(state["args"])
    if state.get("cfg") is not None:
        return state["cfg"]
    raise ValueError(
        f"teacher checkpoint {path}: expected its training options under 'cfg' or 'args', "
        "found neither; it was not written by fairseq-train"
    )


def teacher_dictionary(path: str, saved: DictConfig, given: str | None, mask: bool) -> Dictionary:
    """The teacher's dictionary, from the first of three places that has one.

    A fairseq checkpoint holds no dictionary, only the path of the data it was trained on.

    Args:
        path: the checkpoint.
        saved: its configuration.
        given: ``--ki-teacher-dict``.
        mask: append ``<mask>``, as fairseq's masked_lm does.
    """
    recorded = str(getattr(saved.task, "data", None) or "")
    places = {
        "--ki-teacher-dict": given,
        "beside the checkpoint": os.path.join(os.path.dirname(os.path.abspath(path)), "dict.txt"),
        "the recorded data directory": os.path.join(recorded.split(os.pathsep)[0], "dict.txt")
        if recorded
        else None,
    }
    if given is not None and not os.path.isfile(given):
        raise ValueError(f"--ki-teacher-dict: expected a dict.txt, found no file at {given}")
    for place in places.values():
        if place is not None and os.path.isfile(place):
            dictionary = _loaded_dictionary(place)
            if mask:
                dictionary.add_symbol(MASK)
            return dictionary
    looked = "; ".join(f"{name}: {place or 'not given'}" for name, place in places.items())
    raise ValueError(
        f"teacher checkpoint {path}: expected its dict.txt in one of three places, found none "
        f"({looked}); name it with --ki-teacher-dict"
    )


def _loaded_dictionary(path: str) -> Dictionary:
    try:
        dictionary = Dictionary.load(path)
    except Exception as e:  # fairseq raises that very class for a file that is not text
        raise ValueError(
            f"the teacher's dictionary {path}: expected a dict.txt of fairseq-preprocess (one "
            f"symbol and its count a line), found: {e}"
        ) from e
    logger.info(f"the teacher's dictionary: {path} ({len(dictionary):,} symbols)")
    return dictionary


def check_dictionary(teacher: Dictionary, student: Dictionary, path: str) -> None:
    """Refuse a teacher whose symbols are not the student's, id by id."""
    if teacher.symbols == student.symbols:
        return
    differing = [
        (i, s, t) for i, (s, t) in enumerate(zip(student.symbols, teacher.symbols)) if s != t
    ]
    examples = ", ".join(f"id {i}: expected {s!r}, found {t!r}" for i, s, t in differing[:5])
    raise ValueError(
        f"teacher {path} has another dictionary: expected {len(student)} symbols, found "
        f"{len(teacher)}, of which {len(differing)} differ at the same id"
        + (f" ({examples})" if examples else "")
        + "; teacher and student must share one dictionary, symbol by symbol"
    )


def check_kind(state: dict, saved: DictConfig, path: str, causal: bool) -> None:
    """Refuse a checkpoint of another kind of model than the task trains."""
    keys = state["model"]
    if causal:
        fits = any(k.startswith("decoder.embed_tokens") for k in keys) and not any(
            k.startswith("encoder.") for k in keys
        )
    else:
        fits = any(k.endswith("lm_head.dense.weight") for k in keys)
    if not fits:
        raise ValueError(
            f"teacher {path}: expected {_wanted(causal)}, found architecture {_name(saved)!r}"
        )


def build_from_state(
    state: dict, saved: DictConfig, task, path: str, causal: bool
) -> BaseFairseqModel:
    """The teacher's network with its weights, on the CPU in float32.

    The task's own ``build_model`` is not called: it belongs to the student.
    """
    keys = state["model"]
    expected = len(task.source_dictionary)
    for key, value in keys.items():
        # character and adaptive inputs have no embed_tokens.weight
        if key.endswith(_BY_SYMBOL) and value.size(0) != expected:
            raise ValueError(
                f"teacher {path}: expected {expected} embedding rows (the dictionary's size) in "
                f"{key}, found {value.size(0)}"
            )
    model = models.build_model(saved.model, task, from_checkpoint=True)
    if not supports_head_input(model):
        raise ValueError(
            f"teacher {path}: expected {_wanted(causal)} with a plain output projection, found "
            f"{type(model).__name__} ({_name(saved)!r}) with another head"
        )
    try:
        model.load_state_dict(keys, strict=True, model_cfg=saved.model)
    except RuntimeError as e:
        raise ValueError(
            f"teacher {path}: expected weights that fit the architecture that it records "
            f"({_name(saved)!r}), found others: {e}"
        ) from None
    for name, weight in model.named_parameters():
        if not weight.isfinite().all():
            raise ValueError(
                f"teacher {path}: expected finite weights, found inf or nan in {name}; its "
                "training diverged, so take an earlier checkpoint"
            )
    return model.float()


def _wanted(causal: bool) -> str:
    return "a causal language model (transformer_lm)" if causal else "a masked LM (RoBERTa)"


def _name(saved: DictConfig) -> str | None:
    return getattr(saved.model, "_name", None) or getattr(saved.model, "arch", None)


def check_positions(model: BaseFairseqModel, needed: int, path: str) -> None:
    """Refuse a teacher that has fewer positions than the student's samples have tokens."""
    if model.max_positions() < needed:
        raise ValueError(
            f"teacher {path}: expected at least {needed} positions (the student's longest "
            f"sample), found {model.max_positions()}; lower the student's --tokens-per-sample, "
            "and its --max-positions or --max-target-positions where it has more"
        )
