"""Task ``ki_lm``: fairseq's language_modeling (GPT) with a teacher."""

from dataclasses import dataclass

from fairseq.data.fairseq_dataset import FairseqDataset
from fairseq.tasks import register_task
from fairseq.tasks.language_modeling import LanguageModelingConfig, LanguageModelingTask

from fairseq_ki.data.blocks import CausalBlocks
from fairseq_ki.data.data_bin import check_split
from fairseq_ki.tasks._common import KITaskMixin
from fairseq_ki.tasks._options import KITaskConfig, plain

# what fixes blocks
BLOCK_OPTIONS = (
    "tokens_per_sample",
    "sample_break_mode",
    "shorten_method",
    "shorten_data_split_list",
    "add_bos_token",
)


@dataclass
class KILanguageModelingConfig(LanguageModelingConfig, KITaskConfig):
    """Options of language_modeling and of the teacher."""


@register_task("ki_lm", dataclass=KILanguageModelingConfig)
class KILanguageModelingTask(KITaskMixin, LanguageModelingTask):
    """Train a causal language model (transformer_lm) that inherits from a smaller one.

    Without a teacher it trains exactly as language_modeling with cross_entropy does.
    """

    causal = True
    inputs = "source"

    @property
    def config(self) -> KILanguageModelingConfig:
        return self.args

    @property
    def longest_sample(self) -> int:
        # --add-bos-token prepends to every block
        return super().longest_sample + bool(self.args.add_bos_token)

    def check_teachable(self, model) -> None:
        if self.targets != ["future"]:
            raise ValueError(
                "--ki-teacher: expected to predict the next token (the default), found targets "
                f"{', '.join(self.targets)}; drop --self-target and --past-target, or the teacher"
            )
        if self.args.output_dictionary_size >= 0:
            raise ValueError(
                "--ki-teacher: expected the whole dictionary as output, found "
                f"--output-dictionary-size {self.args.output_dictionary_size}; drop it, or the "
                "teacher"
            )
        if getattr(model.decoder, "adaptive_softmax", None) is not None:
            raise ValueError(
                "--ki-teacher: expected a student with one soft-max over all tokens, found "
                "--adaptive-softmax-cutoff; drop it, or the teacher"
            )
        if self.args.tpu:
            raise ValueError("--ki-teacher: expected a CPU or CUDA device, found --tpu")

    def number_of_sentences(self, sample: dict) -> int:
        return sample["target"].size(0)

    def store_settings(self) -> dict:
        settings = {name: plain(getattr(self.args, name)) for name in BLOCK_OPTIONS}
        if self.args.shorten_method == "random_crop":
            settings["seed"] = self.args.seed  # which nothing else of the blocks depends on
        return settings | {"split": self.args.train_subset}

    def load_dataset(self, split: str, epoch: int = 1, combine: bool = False, **kwargs) -> None:
        """fairseq's blocks, with stored rows where there is a store."""
        if self.mixture:
            self.datasets[split] = self._mixed_dataset(split, epoch, combine)
            return
        samples = self.plain_samples(split, epoch, combine)
        self.datasets[split] = self.with_stored_rows(*samples, split, epoch, combine)

    def blocks(self, split: str, epoch: int, combine: bool) -> CausalBlocks:
        check_split(self.args.data, split, epoch, combine, len(self.source_dictionary))
        super().load_dataset(split, epoch=epoch, combine=combine)
        return CausalBlocks(self.datasets[split])

    def plain_samples(
        self, split: str, epoch: int, combine: bool
    ) -> tuple[FairseqDataset, CausalBlocks]:
        blocks = self.blocks(split, epoch, combine)
        return blocks.dataset, blocks

    def get_batch_iterator(self, dataset, *args, **kwargs):
        """fairseq's iterator, whose batches do not depend on where a run was interrupted.

        fairseq draws an order of the samples from the epoch in which it makes the iterator, cuts
        it into batches, and keeps these for all epochs. That epoch is 1, but in a resumed run it
        is the current one: its batches would be others, some samples repeated and some left out.
        """
        keeps_batches = self.can_reuse_epoch_itr(dataset) and not (
            kwargs.get("disable_iterator_cache") or kwargs.get("update_epoch_batch_itr")
        )
        if not keeps_batches or dataset in self.dataset_to_epoch_iter:
            return super().get_batch_iterator(dataset, *args, **kwargs)
        epoch = kwargs.pop("epoch", 1)
        iterator = super().get_batch_iterator(dataset, *args, epoch=1, **kwargs)
        dataset.set_epoch(epoch)
        iterator.epoch = epoch
        return iterator
