"""Captured samples are those that a training sees, and batches are what a model takes."""

import pytest
import torch
from fairseq import options, tasks
from fairseq.dataclass.utils import convert_namespace_to_omegaconf

from fairseq_ki.capture.samples import SplitSamples
from fairseq_ki.capture.settings import DataSettings, build_task
from fairseq_ki.data.stored_rows import checksum_of

MASKED = "--mask-prob 0.25 --random-token-prob 0.2 --mask-multiple-length 2 --seed 7"
CAUSAL = "--add-bos-token --sample-break-mode complete"


def as_trained(data_bin, task: str, extra: str):
    """{block: (input, target)} of epoch 3, out of the batches that fairseq-train would make."""
    args = options.parse_args_and_arch(
        options.get_training_parser(),
        input_args=f"{data_bin} --user-dir fairseq_ki --task {task} --criterion ki --arch "
        f"{'roberta' if task == 'ki_mlm' else 'gpt_73m'} --tokens-per-sample 32 --batch-size 8 "
        f"{extra}".split(),
    )
    made = tasks.setup_task(convert_namespace_to_omegaconf(args).task)
    made.load_dataset("train", epoch=1, combine=True)
    made.dataset("train").set_epoch(3)
    iterator = made.get_batch_iterator(made.dataset("train"), max_sentences=8, epoch=3)
    seen = {}
    for batch in iterator.next_epoch_itr(shuffle=False):
        lengths = batch["net_input"]["src_lengths"].tolist()
        for i, block in enumerate(batch["id"].tolist()):
            row = slice(0, lengths[i])
            seen[block] = (batch["net_input"]["src_tokens"][i, row], batch["target"][i, row])
    return seen


@pytest.mark.parametrize(
    ("task", "extra", "settings"),
    [
        (
            "ki_mlm",
            MASKED,
            {"mask_prob": 0.25, "random_token_prob": 0.2, "mask_multiple_length": 2},
        ),
        ("ki_lm", CAUSAL, {"add_bos_token": True, "sample_break_mode": "complete"}),
    ],
)
def test_samples_are_those_of_training(data_bin, task, extra, settings):
    data = DataSettings(
        str(data_bin), task=task, seed=7, options={"tokens_per_sample": 32, **settings}
    )
    split = SplitSamples(build_task(data), "train", directory=0, longest=33)
    split.set_epoch(3)
    trained = as_trained(data_bin, task, extra)
    assert sorted(trained) == list(range(len(split)))
    for block, (inputs, target) in trained.items():
        sample = split[block]
        assert torch.equal(sample.inputs, inputs)
        assert torch.equal(sample.targets, target[target.ne(1)])
        assert sample.checksum == checksum_of(inputs, target, 1)


def test_batches_cover_the_blocks_in_order(session):
    split = session.splits[0]
    split.set_epoch(1)
    batches = list(split.batches(range(5, 42), 8))
    assert [len(batch.samples) for batch in batches] == [8, 8, 8, 8, 5]
    assert [s.block for batch in batches for s in batch.samples] == list(range(5, 42))
    for batch in batches:
        for i, sample in enumerate(batch.samples):
            tokens = batch.net_input["src_tokens"][i]
            assert torch.equal(tokens[: len(sample.inputs)], sample.inputs)
            assert (tokens[len(sample.inputs) :] == 1).all()
            assert int(batch.rows[i].sum()) == len(sample.targets)
            assert batch.net_input["src_lengths"][i] == len(sample.inputs)


def test_a_sample_that_is_too_long_is_kept_without_rows(data_bin):
    data = DataSettings(
        str(data_bin), options={"tokens_per_sample": 32, "sample_break_mode": "eos"}
    )
    split = SplitSamples(build_task(data), "train", directory=0, longest=12)
    split.set_epoch(1)
    (batch,) = split.batches(range(30), 30)
    assert batch.net_input["src_tokens"].size(1) == 12
    long = [s for s in batch.samples if len(s.inputs) > 12]
    assert long
    assert all(len(s.targets) == 0 for s in long)
    assert all(s.checksum == split[s.block].checksum for s in batch.samples)
    assert all(len(s.targets) for s in batch.samples if len(s.inputs) <= 12)


def test_whole_words_by_the_name_of_the_encoding(data_bin):
    """--bpe characters has no notion of words; a dictionary without marks is refused by name."""
    data = DataSettings(str(data_bin), options={"mask_whole_words": True})
    with pytest.raises(ValueError, match="--mask-whole-words"):
        SplitSamples(build_task(data), "train", directory=0, longest=32)
