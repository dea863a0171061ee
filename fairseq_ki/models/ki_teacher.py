"""One frozen teacher: found, checked against the student's task, loaded, and kept from training.

Registered as model ``ki_teacher``, so that it is built as every fairseq model is; it is owned by
a signal source, never by anything fairseq trains (see ``teachers/live.py``).
"""

from dataclasses import dataclass, field
from typing import Optional  # fairseq reads no `X | None`

import torch
from fairseq import models
from fairseq.dataclass import FairseqDataclass
from fairseq.models import (
    ARCH_MODEL_REGISTRY,
    MODEL_DATACLASS_REGISTRY,
    BaseFairseqModel,
    register_model,
)
from omegaconf import OmegaConf, open_dict
from torch import Tensor

from fairseq_ki.models._heads import features, head_input, supports_head_input
from fairseq_ki.models._row_features import row_features, supports_row_features
from fairseq_ki.models._symbols import symbol_rows, weights_by_symbol
from fairseq_ki.models._teacher_files import TeacherFiles, first_line, read_teacher
from fairseq_ki.objective.positions import Positions


@dataclass
class KITeacherConfig(FairseqDataclass):
    """What it takes to build one teacher."""

    ki_checkpoint: str = field(
        default="", metadata={"help": "fairseq checkpoint, or hf:DIRECTORY of transformers"}
    )
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

    Its ids are the student's: embedding and output layer have the rows of the student's symbols,
    in the student's order (see ``_symbols.py``). Build it with :func:`load_teacher`. Raises
    ValueError, with what was expected and found, for a checkpoint that cannot teach the task at
    hand.
    """

    def __init__(self, model: BaseFairseqModel, path: str, dictionary_sha256: str = "") -> None:
        super().__init__()
        self.model = model
        self.path = path
        self.dictionary_sha256 = dictionary_sha256  # of its own symbols, in their own order
        self.requires_grad_(False)
        self.eval()

    @classmethod
    def build_model(cls, cfg: KITeacherConfig, task) -> "KITeacher":
        files = read_teacher(cfg.ki_checkpoint, cfg.ki_dict, cfg.ki_causal)
        _check_kind(files, cfg.ki_causal)
        rows = symbol_rows(files.dictionary, task.source_dictionary, files.path)
        weights = weights_by_symbol(files.weights, rows, len(files.dictionary), files.path)
        model = _build(files, weights, task, cfg.ki_causal)
        _check_positions(model, cfg.ki_positions, files.path)
        teacher = cls(model, files.path, files.dictionary_sha256)
        _check_runs(teacher, files.architecture, task.source_dictionary.eos())
        return teacher

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
        self, net_input: dict, rows: Positions, *, rows_alone: bool = False
    ) -> tuple[Tensor, Tensor, Tensor | None]:
        """Hidden states at the rows, output weight and bias (see ``_heads.head_input``).

        Args:
            net_input: of the batch.
            rows_alone: spare the last layer the other positions where the model allows it; the
                last digits are others then.
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
        path: fairseq checkpoint, or ``hf:`` and a directory of transformers.
        task: the student's task; its dictionary's symbols have to be among the teacher's.
        dictionary: the teacher's dict.txt, or None to look for it (``_teacher_files.py``).
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


def _check_kind(files: TeacherFiles, causal: bool) -> None:
    """Refuse a checkpoint of another kind of model than the task trains."""
    keys = files.weights
    if causal:
        fits = any(k.startswith("decoder.embed_tokens") for k in keys) and not any(
            k.startswith("encoder.") for k in keys
        )
    else:
        fits = any(k.endswith("lm_head.dense.weight") for k in keys)
    if not fits:
        raise ValueError(
            f"teacher {files.path}: expected {_wanted(causal)}, found architecture "
            f"{files.architecture!r}"
        )


def _build(files: TeacherFiles, weights: dict[str, Tensor], task, causal: bool) -> BaseFairseqModel:
    """The teacher's network with its weights, on the CPU in float32.

    The task's own ``build_model`` is not called: it belongs to the student.
    """
    path, name = files.path, files.architecture
    if not isinstance(name, str) or not {name} & {*ARCH_MODEL_REGISTRY, *MODEL_DATACLASS_REGISTRY}:
        raise ValueError(
            f"teacher {path}: expected an architecture of fairseq or fairseq_ki, found {name!r}; "
            "a plug-in that adds others has to be imported before the teacher is read"
        )
    try:
        model = models.build_model(files.model, task, from_checkpoint=True)
    except Exception as e:  # a network can fail in any way on options that it does not expect
        raise ValueError(
            f"teacher {path}: expected options that {name!r} can be built with, found others "
            f"({first_line(e)}); give the original checkpoint"
        ) from e
    if not supports_head_input(model):
        raise ValueError(
            f"teacher {path}: expected {_wanted(causal)} with a plain output projection, found "
            f"{type(model).__name__} ({name!r}) with another head"
        )
    try:
        model.load_state_dict(weights, strict=True, model_cfg=files.model)
    except Exception as e:  # RuntimeError, or whatever fairseq's renaming of old weights meets
        raise ValueError(
            f"teacher {path}: expected weights that fit the architecture that it records "
            f"({name!r}), found others: {' '.join(str(e).split())[:500]}"
        ) from None
    for parameter, weight in model.named_parameters():
        if not weight.isfinite().all():
            raise ValueError(
                f"teacher {path}: expected finite weights, found inf or nan in {parameter}; its "
                "training diverged, so take an earlier checkpoint"
            )
    return model.float()


def _check_runs(teacher: KITeacher, architecture: str | None, token: int) -> None:
    """Ask for one token: text where a number belongs does not hinder building a network."""
    tokens = torch.tensor([[token]])
    net_input = {"src_tokens": tokens, "src_lengths": torch.tensor([1])}
    try:
        teacher.head_input(net_input, Positions.where(torch.ones_like(tokens, dtype=torch.bool)))
    except Exception as e:  # as when it is built
        raise ValueError(
            f"teacher {teacher.path}: expected options that {architecture!r} can compute with, "
            f"found others ({first_line(e)}); give the original checkpoint"
        ) from e


def _wanted(causal: bool) -> str:
    return "a causal language model (transformer_lm)" if causal else "a masked LM (RoBERTa)"


def _check_positions(model: BaseFairseqModel, needed: int, path: str) -> None:
    """Refuse a teacher that has fewer positions than the student's samples have tokens."""
    if model.max_positions() < needed:
        raise ValueError(
            f"teacher {path}: expected at least {needed} positions (the student's longest "
            f"sample), found {model.max_positions()}; lower the student's --tokens-per-sample, "
            "and its --max-positions or --max-target-positions where it has more"
        )
