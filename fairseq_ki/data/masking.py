"""fairseq's RoBERTa masks, without its caches that forget the epoch."""

from typing import Any

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

    Raises:
        ValueError: for shares that are none, which fairseq asserts without a word.
    """
    _check_shares(kwargs)
    return (
        MaskTokensDataset(dataset, *args, **kwargs, return_masked_tokens=False),
        MaskTokensDataset(dataset, *args, **kwargs, return_masked_tokens=True),
    )


def _check_shares(options: dict[str, Any]) -> None:
    if not 0.0 < options["mask_prob"] < 1.0:
        raise ValueError(f"--mask-prob: expected above 0 and below 1, found {options['mask_prob']}")
    kept, other = options["leave_unmasked_prob"], options["random_token_prob"]
    if not (kept >= 0.0 and other >= 0.0 and kept + other <= 1.0):
        raise ValueError(
            "--leave-unmasked-prob, --random-token-prob: expected shares of the masked tokens, at "
            f"most 1 together, found {kept} and {other}"
        )
    if options["mask_multiple_length"] < 1 or options["mask_stdev"] < 0.0:
        raise ValueError(
            "--mask-multiple-length, --mask-stdev: expected at least 1 and at least 0, found "
            f"{options['mask_multiple_length']} and {options['mask_stdev']}"
        )
