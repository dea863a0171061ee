"""Sizes of a model from what a person calls it: an ``--arch``, a shape, or a checkpoint."""

import os
import re
from argparse import Namespace

from fairseq.models import (
    ARCH_CONFIG_REGISTRY,
    ARCH_MODEL_NAME_REGISTRY,
    MODEL_DATACLASS_REGISTRY,
)

from fairseq_ki.evaluation.flops import Sizes, read_checkpoint

_SHAPE = re.compile(r"([1-9]\d*)x([1-9]\d*)(?:x([1-9]\d*))?(?:x([1-9]\d*))?")
_HEAD_WIDTH = 64  # of the paper's models, about


def model_options(model: str, causal: bool) -> list[str]:
    """fairseq-train's options for a model.

    Args:
        model: an ``--arch`` of fairseq or of this package; or LAYERSxWIDTH[xFFN[xHEADS]], by
            default with a feed-forward layer of 4 x WIDTH and a head per 64 of width.
        causal: whether a shape is a transformer_lm's, else a RoBERTa's.

    Raises:
        ValueError: for anything else.
    """
    shape = _parse(model)
    if shape is None:
        _architecture(model)
        return ["--arch", model]
    layers, width, ffn, heads = shape
    side, arch = ("decoder", "gpt_micro_2x128") if causal else ("encoder", "roberta")
    sizes = {"layers": layers, "embed-dim": width, "ffn-embed-dim": ffn, "attention-heads": heads}
    options = [(f"--{side}-{name}", str(value)) for name, value in sizes.items()]
    return ["--arch", arch, *(part for option in options for part in option)]


def named_sizes(model: str, vocabulary: int, causal: bool | None = None) -> Sizes:
    """What the FLOP count needs of a model.

    Args:
        model: as in :func:`model_options`, or the path of a fairseq checkpoint.
        vocabulary: entries of the dictionary, for all but checkpoints, which have their own.
        causal: whether a causal LM is meant; needed for a shape, checked for the others.

    Raises:
        ValueError: for a model that is not known or of the other kind; says what is expected.
    """
    shape = _parse(model)
    if shape is not None:
        if causal is None:
            raise ValueError(f"{model}: expected to be told if it is a causal LM or a masked LM")
        layers, width, ffn, _ = shape
        return Sizes(layers, width, ffn, vocabulary, dense_head=not causal)
    if os.path.isfile(model):
        sizes, _ = read_checkpoint(model)
        if sizes.vocabulary != vocabulary:
            raise ValueError(
                f"{model}: expected a vocabulary of {vocabulary:,}, found {sizes.vocabulary:,}"
            )
    else:
        sizes = _architecture(model, vocabulary)
    if causal is not None and sizes.dense_head == causal:
        kinds = ("a causal LM", "a masked LM")
        expected, found = kinds if causal else reversed(kinds)
        raise ValueError(f"{model}: expected {expected}, found {found}")
    return sizes


def _parse(model: str) -> tuple[int, int, int, int] | None:
    match = _SHAPE.fullmatch(model)
    if match is None:
        return None
    layers, width = int(match[1]), int(match[2])
    heads = int(match[4]) if match[4] else max(1, width // _HEAD_WIDTH)
    if width % heads:
        raise ValueError(f"{model}: expected a width that {heads} heads divide, found {width}")
    return layers, width, int(match[3]) if match[3] else 4 * width, heads


def _architecture(name: str, vocabulary: int = 0) -> Sizes:
    kind = ARCH_MODEL_NAME_REGISTRY.get(name)
    if kind not in ("roberta", "transformer_lm"):
        raise ValueError(
            f"model {name!r}: expected an --arch of a RoBERTa or a transformer_lm, "
            "LAYERSxWIDTH[xFFN[xHEADS]] such as 12x768, or a fairseq checkpoint; "
            f"found {'an --arch of ' + kind if kind else 'none of these'}"
        )
    args = Namespace()
    ARCH_CONFIG_REGISTRY[name](args)
    # an --arch of a model's own name leaves its sizes to the model's dataclass
    defaults = MODEL_DATACLASS_REGISTRY.get(kind)
    side = "encoder" if kind == "roberta" else "decoder"
    layers, width, ffn = (
        getattr(args if hasattr(args, option) else defaults, option)
        for option in (f"{side}_{size}" for size in ("layers", "embed_dim", "ffn_embed_dim"))
    )
    return Sizes(layers, width, ffn, vocabulary, dense_head=kind == "roberta")
