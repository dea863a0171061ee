"""Deeper models: the teacher's layers again (StackBERT), or new layers that do nothing yet."""

import torch
from torch import Tensor

from fairseq_ki.growth.shapes import Shape

DEPTHS = ("identity", "stack")

# what a layer adds to its input; without them it adds nothing
_ADDED = ("self_attn.out_proj", "fc2")


def deepened(weights: dict[str, Tensor], old: Shape, layers: int, depth: str) -> dict[str, Tensor]:
    """The state dict of a model of ``old``'s width with ``layers`` layers.

    Args:
        weights: state dict of a model of shape ``old``.
        layers: at least ``old.layers``.
        depth: ``stack``: the teacher's layers from first to last, again and again (Gong et al.
            2019), which changes what the model computes. ``identity``: every layer is followed by
            its share of the new ones, which are copies of it that add nothing to their input. With
            pre-norm the model computes what it did. With post-norm the norms of a new layer still
            norm their input, so the norm before the first of them leaves scaling and shifting to
            the last one: what is normed already is the same after another norm, but for the norm's
            epsilon.

    Raises:
        ValueError: for another ``depth``.
    """
    if depth not in DEPTHS:
        raise ValueError(f"expected a way to add layers among {', '.join(DEPTHS)}, found {depth!r}")
    prefix = old.trunk + "layers."
    result = {name: value for name, value in weights.items() if not name.startswith(prefix)}
    for layer in range(layers):
        source = layer % old.layers if depth == "stack" else _source(layer, old.layers, layers)
        copied = {
            name.removeprefix(f"{prefix}{source}."): value.clone()
            for name, value in weights.items()
            if name.startswith(f"{prefix}{source}.")
        }
        if depth == "identity":
            first = _source(layer - 1, old.layers, layers) != source
            last = _source(layer + 1, old.layers, layers) != source
            if not first:
                _add_nothing(copied)
            if not old.pre_norm:
                _leave_affine_to_last(copied, first, last)
        result |= {f"{prefix}{layer}.{name}": value for name, value in copied.items()}
    return result


def _source(layer: int, old: int, new: int) -> int:
    return layer * old // new


def _add_nothing(layer: dict[str, Tensor]) -> None:
    for name in _ADDED:
        layer[name + ".weight"].zero_()
        layer[name + ".bias"].zero_()


def _leave_affine_to_last(layer: dict[str, Tensor], first: bool, last: bool) -> None:
    """Norms of post-norm layers with the same source: only the last one scales and shifts."""
    plain = [] if first else ["self_attn_layer_norm"]
    plain += [] if last else ["final_layer_norm"]
    for name in plain:
        layer[name + ".weight"] = torch.ones_like(layer[name + ".weight"])
        layer[name + ".bias"] = torch.zeros_like(layer[name + ".bias"])
