"""When the grown model's logits equal the teacher's."""

from typing import NamedTuple

from fairseq_ki.growth.shapes import Shape


class Promise(NamedTuple):
    """What growth says of the logits of the grown model.

    Args:
        equal: they are the teacher's, to rounding, in eval mode and for samples that fit the
            teacher's positions.
        reasons: why they are not; empty if they are.
    """

    equal: bool
    reasons: tuple[str, ...]


def promise(old: Shape, new: Shape, depth: str) -> Promise:
    """What growth from ``old`` to ``new`` promises.

    Heads, head width, feed-forward width and positions may grow as they like. The model's width
    may too where layer norms see every old unit as often as the others: where it is a multiple of
    the teacher's, or where the rest can be averages (a pre-norm transformer_lm without a norm on
    its embeddings). Layers may be added if they begin as identity.
    """
    reasons = []
    if new.width % old.width and not old.linear_stream:
        reasons.append(
            f"width {new.width} is no multiple of {old.width}, so layer norms see some units "
            "once more than others"
        )
    if new.layers > old.layers and depth != "identity":
        reasons.append(f"{old.layers} layers are stacked to {new.layers}")
    return Promise(not reasons, tuple(reasons))
