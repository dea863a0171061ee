"""A sample's stored target is the same, whoever reads it, how, and in which order."""

import shutil

import pytest
from fairseq import options, tasks
from fairseq.dataclass.utils import convert_namespace_to_omegaconf

from fairseq_ki.cli.main import main
from fairseq_ki.teachers.stored import STORED

MODELS = {
    "ki_mlm": "--arch roberta --encoder-layers 1 --encoder-embed-dim 16 --encoder-ffn-embed-dim 16 "
    "--encoder-attention-heads 2 --max-positions 32",
    "ki_lm": "--arch gpt_73m --decoder-layers 1 --decoder-embed-dim 16 --decoder-ffn-embed-dim 16 "
    "--decoder-attention-heads 2",
}


@pytest.fixture(scope="module")
def stores(data_bin, teacher, fairseq_train, tmp_path_factory):
    folder = tmp_path_factory.mktemp("stores")
    host = "--task language_modeling --criterion cross_entropy --max-update 2"
    fairseq_train(data_bin, folder / "gpt", host, MODELS["ki_lm"])
    shutil.copy(data_bin / "dict.txt", folder / "gpt")
    for task, checkpoint, extra in (
        ("ki_mlm", teacher, "--mask-epochs 2"),
        ("ki_lm", folder / "gpt" / "checkpoint_last.pt", ""),
    ):
        command = f"logits write {data_bin} --task {task} --teacher {checkpoint} --encoding sampled"
        blocks = f"--tokens-per-sample 32 --samples-per-shard 20 --out {folder / task} {extra}"
        assert main(f"{command} {blocks}".split()) == 0
    return folder


def read(data_bin, store, task, workers, batch, ranks, epoch):
    """{block: its stored rows} over all batches of all ranks in an epoch."""
    parser = options.get_training_parser()
    arguments = (
        f"{data_bin} --user-dir fairseq_ki --task {task} --criterion ki {MODELS[task]} --cpu "
        f"--ki-store {store} --tokens-per-sample 32 --no-save --save-dir {store}-none"
    )
    args = options.parse_args_and_arch(parser, input_args=arguments.split())
    cfg = convert_namespace_to_omegaconf(args)
    made = tasks.setup_task(cfg.task)
    made.build_model(cfg.model)
    made.load_dataset("train", epoch=epoch, combine=True)
    targets = {}
    for rank in range(ranks):
        iterator = made.get_batch_iterator(
            made.dataset("train"),
            max_sentences=batch,
            num_shards=ranks,
            shard_id=rank,
            num_workers=workers,
            disable_iterator_cache=True,  # two ranks are two processes
            epoch=epoch,
        )
        for sample in iterator.next_epoch_itr(shuffle=True):
            if not sample:  # the last batch of a rank may be missing
                continue
            start = 0
            counts = sample["target"].ne(made.pad).sum(dim=1).tolist()
            for block, count in zip(sample["id"].tolist(), counts):
                assert block not in targets
                targets[block] = _plain(sample[STORED], slice(start, start + count))
                start += count
            assert start == len(sample[STORED]["values"])
    return targets


def _plain(stored, rows) -> list:
    """Without the columns that a batch fills up to its widest row."""
    ids, counts = stored["ids"][rows], stored["values"][rows]
    kept = [list(zip(i[c > 0].tolist(), c[c > 0].tolist())) for i, c in zip(ids, counts)]
    return [kept, stored["target_logprob"][rows].tolist(), stored["top1"][rows].tolist()]


@pytest.mark.parametrize("task", ["ki_mlm", "ki_lm"])
def test_whoever_reads(data_bin, stores, task):
    epochs = {}
    for epoch, other in ((1, (2, 8, 1)), (2, (2, 32, 2)), (3, (0, 32, 1))):
        epochs[epoch] = read(data_bin, stores / task, task, 0, 8, 1, epoch)
        assert len(epochs[epoch]) > 100
        assert read(data_bin, stores / task, task, *other, epoch) == epochs[epoch]
    assert epochs[1] == epochs[3]  # two maskings, replayed in turn; a causal model has none
    assert (epochs[1] == epochs[2]) == (task == "ki_lm")
