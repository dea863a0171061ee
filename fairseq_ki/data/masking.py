"""fairseq's RoBERTa masks, without its caches that forget the epoch."""

from fairseq.data import MaskTokensDataset
from fairseq.data.fairseq_dataset import FairseqDataset


def mask_tokens(
    dataset: FairseqDataset, *args, **kwargs
) -> tuple[MaskTokensDataset, MaskTokensDataset]:
    """(source, target) datasets as ``MaskTokensDataset.apply_mask`` makes them.

    That one puts caches keyed by index alone around the blocks and the masked blocks, so that a
    sample asked for in the last batch of an epoch comes back in the next with the old masks (or
    the old crop of ``--shorten-method random_crop``). The masked datasets have a cache of their
    own, keyed by (seed, epoch, index), which spares masking a sample twice.
    """
    return (
        MaskTokensDataset(dataset, *args, **kwargs, return_masked_tokens=False),
        MaskTokensDataset(dataset, *args, **kwargs, return_masked_tokens=True),
    )
