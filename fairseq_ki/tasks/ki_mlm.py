"""Task ``ki_mlm``: fairseq's masked_lm with a teacher, and with masks that follow the epoch."""

import logging
from dataclasses import dataclass, field
from typing import Any, Optional  # fairseq reads no `X | None`

import numpy as np
from fairseq.data import (
    MaskTokensDataset,
    NestedDictionaryDataset,
    RightPadDataset,
    SortDataset,
    data_utils,
)
from fairseq.tasks import register_task
from fairseq.tasks.masked_lm import MaskedLMConfig, MaskedLMTask
from omegaconf import II

from fairseq_ki.data.blocks import MaskedBlocks
from fairseq_ki.data.data_bin import check_split
from fairseq_ki.data.masking import mask_tokens
from fairseq_ki.data.whole_words import word_beginnings
from fairseq_ki.tasks._common import KITaskMixin
from fairseq_ki.tasks._options import KITaskConfig, plain

logger = logging.getLogger(__name__)

# what fixes blocks and masks, beside the seed
BLOCK_OPTIONS = (
    "tokens_per_sample",
    "sample_break_mode",
    "shorten_method",
    "shorten_data_split_list",
    "mask_prob",
    "leave_unmasked_prob",
    "random_token_prob",
    "freq_weighted_replacement",
    "mask_whole_words",
    "mask_multiple_length",
    "mask_stdev",
)


@dataclass
class KIMaskedLMConfig(MaskedLMConfig, KITaskConfig):
    """Options of masked_lm and of the teacher."""

    ki_valid_mask_seed: int = field(
        default=1,
        metadata={
            "help": "seed of the masks of validation sets; not --seed, so that runs with other "
            "seeds are compared on the same masks"
        },
    )
    ki_mask_seed: Optional[int] = field(
        default=None,
        metadata={
            "help": "seed of the training masks, default --seed; with --ki-store it has to be "
            "the seed of the capture, so that students of other seeds can share a store"
        },
    )
    bpe: Any = II("bpe")  # what --mask-whole-words asks where words begin
    tpu: bool = II("common.tpu")


@register_task("ki_mlm", dataclass=KIMaskedLMConfig)
class KIMaskedLMTask(KITaskMixin, MaskedLMTask):
    """Train a masked language model (RoBERTa) that inherits from a smaller one.

    Without a teacher it trains as masked_lm does in epoch 1; later masked_lm repeats its masks
    when it has loader workers, and this task does not.
    """

    causal = False
    inputs = "net_input.src_tokens"
    cfg: KIMaskedLMConfig

    @property
    def config(self) -> KIMaskedLMConfig:
        return self.cfg

    def check_teachable(self, model) -> None:
        for option in ("skip_masking", "d2v2_multi", "tpu"):
            if getattr(self.cfg, option, False):
                flag = "--" + option.replace("_", "-")
                raise ValueError(
                    f"--ki-teacher: expected masked blocks that a teacher can read, found {flag}; "
                    f"drop {flag} or the teacher"
                )

    def number_of_sentences(self, sample: dict) -> int:
        return sample["nsentences"]

    def store_settings(self) -> dict:
        settings = {name: plain(getattr(self.cfg, name)) for name in BLOCK_OPTIONS}
        return settings | {"seed": self.mask_seed, "split": self.cfg.train_subset}

    @property
    def mask_seed(self) -> int:
        return self.cfg.seed if self.cfg.ki_mask_seed is None else self.cfg.ki_mask_seed

    def load_dataset(self, split: str, epoch: int = 1, combine: bool = False, **kwargs) -> None:
        """Blocks of tokens with their masks, and stored rows, in fairseq's order of samples."""
        if self.mixture:
            self.datasets[split] = self._mixed_dataset(split, epoch, combine)
            return
        samples, blocks = self.plain_samples(split, epoch, combine)
        dataset = self.with_stored_rows(samples, blocks, split, epoch, combine)
        with data_utils.numpy_seed(self.cfg.seed):
            shuffle = np.random.permutation(len(blocks))
        self.datasets[split] = SortDataset(dataset, sort_order=[shuffle, blocks.source.sizes])

    def plain_samples(
        self, split: str, epoch: int, combine: bool
    ) -> tuple[NestedDictionaryDataset, MaskedBlocks]:
        blocks = self.blocks(split, epoch, combine)
        if self.cfg.d2v2_multi:
            return self._d2v2_multi_dataset(blocks.source), blocks
        target = RightPadDataset(blocks.target, pad_idx=self.pad)
        return self._regular_dataset(blocks.source, target), blocks

    def blocks(self, split: str, epoch: int, combine: bool) -> MaskedBlocks:
        return MaskedBlocks(*self.masked_blocks(split, epoch, combine))

    def masked_blocks(
        self, split: str, epoch: int, combine: bool
    ) -> tuple[MaskTokensDataset, MaskTokensDataset]:
        """(inputs, targets): blocks by their index in the split, with the masks of an epoch."""
        training = split == self.cfg.train_subset
        dictionary = self.source_dictionary
        # the last symbol, where dict.txt lacks it; no text has it
        masked_last = self.mask_idx == len(dictionary) - 1
        check_split(self.cfg.data, split, epoch, combine, len(dictionary) - masked_last)
        return mask_tokens(
            self._load_dataset_split(split, epoch, combine),
            dictionary,
            pad_idx=dictionary.pad(),
            mask_idx=self.mask_idx,
            seed=self.mask_seed if training else self.cfg.ki_valid_mask_seed,
            mask_prob=self.cfg.mask_prob,
            leave_unmasked_prob=self.cfg.leave_unmasked_prob,
            random_token_prob=self.cfg.random_token_prob,
            freq_weighted_replacement=self.cfg.freq_weighted_replacement,
            mask_whole_words=word_beginnings(self.cfg.bpe, dictionary)
            if self.cfg.mask_whole_words
            else None,
            mask_multiple_length=self.cfg.mask_multiple_length,
            mask_stdev=self.cfg.mask_stdev,
            skip_masking=self.cfg.skip_masking,
        )
