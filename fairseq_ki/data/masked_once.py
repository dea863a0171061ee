"""A sample's inputs and targets with its masks drawn once.

fairseq has one dataset for the inputs and one for the targets, which draw the same masks from the
same seed, each for itself. A capture masks as many samples per second as a small teacher can read,
and there drawing them twice takes a tenth of the time of the teacher's forward pass.
"""

import numpy as np
import torch
from fairseq.data import MaskTokensDataset
from torch import Tensor


def replacement_edges(source: MaskTokensDataset) -> np.ndarray:
    """(V,) cumulative weights of the random replacements; empty where there are none.

    ``Generator.choice`` makes them of its ``p`` at every call, which would take the largest part of
    a sample's time.
    """
    if source.random_token_prob == 0.0:
        return np.zeros(0)
    edges = np.cumsum(source.weights)
    return edges / edges[-1]


def masked_once(
    source: MaskTokensDataset, target: MaskTokensDataset, block: int, edges: np.ndarray
) -> tuple[Tensor, Tensor]:
    """``(source[block], target[block])``, bit for bit.

    Args:
        source, target: from ``masking.mask_tokens``.
        edges: ``replacement_edges(source)``.
    """
    if (
        source.skip_masking
        or source.mask_whole_words is not None
        or source.mask_multiple_length > 1
        or source.mask_stdev > 0.0
    ):
        return source[block], target[block]
    # a float remainder, which is another number than that of integers
    rng = np.random.default_rng(int(hash((source.seed, source.epoch, block)) % 1e6))
    item = source.dataset[block].numpy()
    if (item == source.mask_idx).any():
        return source[block], target[block]  # which is refused there
    count = int(source.mask_prob * len(item) + rng.random())
    masked = np.zeros(len(item), bool)
    masked[rng.choice(len(item), count, replace=False)] = True
    wanted = np.where(masked, item, source.pad_idx)
    inputs = np.where(masked, source.mask_idx, item)
    replaced, kept = source.random_token_prob, source.leave_unmasked_prob
    if replaced + kept > 0.0:
        other = masked & (rng.random(len(item)) < replaced + kept)
        # where there is but one of the two, no second number is drawn
        same = other if replaced == 0.0 else np.zeros_like(other)
        if replaced > 0.0 and kept > 0.0:
            same = other & (rng.random(len(item)) < kept / (replaced + kept))
        inputs[same] = item[same]
        random = other & ~same
        if random.any():
            inputs[random] = edges.searchsorted(rng.random(random.sum()), side="right")
    return torch.from_numpy(inputs), torch.from_numpy(wanted)
