"""Both steps of growth: first deeper, then wider."""

from dataclasses import replace

from torch import Generator, Tensor

from fairseq_ki.growth.depths import deepened
from fairseq_ki.growth.shapes import Shape, check_growth
from fairseq_ki.growth.widths import widened


def grown(
    weights: dict[str, Tensor], old: Shape, new: Shape, *, depth: str, seed: int
) -> dict[str, Tensor]:
    """The state dict of a larger model that begins as ``weights``.

    Args:
        weights: state dict of a model of shape ``old``; it is left as it is.
        depth: how layers are added (:func:`deepened`).
        seed: of the random parts in which weights are divided among copies.

    Returns:
        As many tensors as a model of shape ``new`` has, in the type of ``weights``.

    Raises:
        ValueError: for shapes that growth cannot connect (:func:`check_growth`).
    """
    check_growth(old, new)
    deep = deepened(weights, old, new.layers, depth)
    generator = Generator().manual_seed(seed)
    wide = widened(deep, replace(old, layers=new.layers), new, generator)
    dtype = weights[old.trunk + "embed_tokens.weight"].dtype
    return {name: value.to(dtype) for name, value in wide.items()}
