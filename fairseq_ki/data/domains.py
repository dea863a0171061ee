"""Samples of several domains in one batch, drawn by the weights of the domains."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from fairseq.data import BaseWrapperDataset, ConcatDataset, ResamplingDataset
from fairseq.data.fairseq_dataset import FairseqDataset

from fairseq_ki.data.blocks import Blocks
from fairseq_ki.data.stored_rows import ReadingSwitch, SplitRows, collate_rows
from fairseq_ki.store import Rows
from fairseq_ki.teachers.router import DOMAIN
from fairseq_ki.teachers.stored import STORED


class DomainSample(NamedTuple):
    """A sample of fairseq's, the index of its domain, and its rows in the domain's stores."""

    domain: int
    sample: dict
    rows: tuple[Rows, ...] | None


class DomainSamples(BaseWrapperDataset):
    """One split of one domain's data, below any renumbering of the samples.

    Args:
        dataset: fairseq's samples, in the order of the blocks.
        domain: its index in the mixture.
        blocks: the same samples as stores know them.
        stores: the rows of this split, one for each store of the domain.
        pad: the padding id.
        switch: tells when no more rows are needed.
    """

    def __init__(
        self,
        dataset: FairseqDataset,
        domain: int,
        blocks: Blocks,
        stores: Sequence[SplitRows],
        pad: int,
        switch: ReadingSwitch,
    ) -> None:
        super().__init__(dataset)
        self.domain = domain
        self.blocks = blocks
        self.stores = stores
        self.pad = pad
        self.switch = switch

    def __getitem__(self, index: int) -> DomainSample:
        rows = None
        if self.stores and self.switch:
            block = self.blocks[index]
            rows = tuple(store.read(index, *block, self.pad) for store in self.stores)
        return DomainSample(self.domain, self.dataset[index], rows)

    def collater(self, samples: Sequence[DomainSample]) -> dict:
        """A batch of fairseq's with ``DOMAIN`` and ``STORED``; the samples may be of any domain."""
        batch = self.dataset.collater([sample.sample for sample in samples])
        if not batch:
            return batch
        # --pad-to-fixed-bsz adds samples without a target at the end
        batch[DOMAIN] = torch.zeros(len(batch["target"]), dtype=torch.long)
        batch[DOMAIN][: len(samples)] = torch.tensor([sample.domain for sample in samples])
        by_domain: dict[int, list[tuple[Rows, ...]]] = {}
        for sample in samples:
            if sample.rows is not None:
                by_domain.setdefault(sample.domain, []).append(sample.rows)
        batch[STORED] = {
            domain: [collate_rows(of_one_store) for of_one_store in zip(*rows, strict=True)]
            for domain, rows in by_domain.items()
        }
        return batch

    def set_epoch(self, epoch: int) -> None:
        super().set_epoch(epoch)
        for store in self.stores:
            store.set_epoch(epoch)


class AllSamples(ConcatDataset):
    """One domain after the other, for validation."""

    def ordered_indices(self) -> np.ndarray:
        # fairseq leaves samples out that do not fill a batch: let that not depend on how a
        # machine sorts equal lengths
        return np.argsort(self.sizes, kind="stable")


class DrawnSamples(ResamplingDataset):
    """As many samples an epoch as all domains have, drawn with replacement from (seed, epoch).

    fairseq's class cannot be batched: its flag batch_by_size hides the method. And it asks the
    dataset below for sizes with indices that are its own, so that sentences too long would stay
    and batches exceed ``--max-tokens``.

    Args:
        domains: at least one sample each.
        weights: one per domain, its share of the samples; above 0, only proportions count.
        seed, epoch: of the first draw.
    """

    def __init__(
        self, domains: Sequence[FairseqDataset], weights: Sequence[float], seed: int, epoch: int
    ) -> None:
        shares = [np.full(len(d), w / len(d)) for d, w in zip(domains, weights, strict=True)]
        super().__init__(ConcatDataset(domains), np.concatenate(shares), seed=seed, epoch=epoch)
        del self.batch_by_size  # the flag; its reader finds the method, which is as true

    def num_tokens_vec(self, indices: np.ndarray) -> np.ndarray:
        return self.sizes[indices]

    def batch_by_size(self, indices: np.ndarray, **limits) -> list:
        return FairseqDataset.batch_by_size(self, indices, **limits)

    def filter_indices_by_size(self, indices: np.ndarray, max_sizes) -> tuple:
        return FairseqDataset.filter_indices_by_size(self, indices, max_sizes)
