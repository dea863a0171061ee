"""Samples of several domains in one batch, drawn by the weights of the domains."""

from collections.abc import Sequence

import numpy as np
import torch
from fairseq.data import ConcatDataset, ResamplingDataset
from fairseq.data.fairseq_dataset import FairseqDataset

from fairseq_ki.data.stored_rows import ReadingSwitch, SplitRows, WithStoredRows, collate_rows
from fairseq_ki.store import Rows
from fairseq_ki.teachers.router import DOMAIN
from fairseq_ki.teachers.stored import STORED


class DomainSamples(WithStoredRows):
    """One split of one domain's data, below any renumbering of the samples.

    Args:
        domain: its index in the mixture.
        dataset, stores, inputs, switch: as in :class:`WithStoredRows`.
    """

    def __init__(
        self,
        domain: int,
        dataset: FairseqDataset,
        stores: Sequence[SplitRows],
        inputs: str,
        switch: ReadingSwitch,
    ) -> None:
        super().__init__(dataset, stores, inputs, switch)
        self.domain = domain

    def __getitem__(self, index: int) -> dict:
        return {**super().__getitem__(index), DOMAIN: self.domain}

    def collater(self, samples: Sequence[dict]) -> dict:
        """A batch of fairseq's with ``DOMAIN`` and ``STORED``; the samples may be of any domain."""
        batch = super().collater(samples)
        if batch:
            # --pad-to-fixed-bsz adds samples without a target at the end
            batch[DOMAIN] = torch.zeros(len(batch["target"]), dtype=torch.long)
            batch[DOMAIN][: len(samples)] = torch.tensor([sample[DOMAIN] for sample in samples])
        return batch

    def collate_stored(self, samples: Sequence[dict]) -> dict:
        """By domain: the rows in each of its stores."""
        by_domain: dict[int, list[list[Rows]]] = {}
        for sample in samples:
            if sample[STORED]:
                by_domain.setdefault(sample[DOMAIN], []).append(sample[STORED])
        return {
            domain: [collate_rows(of_one_store) for of_one_store in zip(*rows, strict=True)]
            for domain, rows in by_domain.items()
        }


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
