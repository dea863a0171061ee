"""Stored rows in the batch: the same for every sample, however batches are made and read."""

import shutil
from collections.abc import Iterator

import numpy as np
import pytest
import torch
from fairseq import options, tasks
from fairseq.dataclass.utils import convert_namespace_to_omegaconf

from fairseq_ki.cli.main import main
from fairseq_ki.data.stored_rows import collate_rows
from fairseq_ki.store import ZERO, DamageError, MismatchError, Rows
from fairseq_ki.teachers.stored import STORED

KI = "--task ki_mlm --criterion ki"


@pytest.fixture(scope="module")
def store(data_bin, teacher, tmp_path_factory):
    """Two maskings, in shards that no batch respects; not to be altered."""
    out = tmp_path_factory.mktemp("rows") / "store"
    command = f"logits write {data_bin} --teacher {teacher} --out {out} --tokens-per-sample 32"
    command += " --encoding sampled --draws 20 --mask-epochs 2 --samples-per-shard 19"
    assert main(command.split()) == 0
    return out


def training_task(data, store, tmp_path, extra: str = ""):
    """The task of a training that has just begun."""
    args = options.parse_args_and_arch(
        options.get_training_parser(),
        input_args=f"{data} --user-dir fairseq_ki {KI} --arch roberta_micro_2x128 "
        f"--save-dir {tmp_path} --tokens-per-sample 32 --batch-size 8 --ki-store {store} "
        f"--ki-temperature 1 {extra}".split(),
    )
    cfg = convert_namespace_to_omegaconf(args)
    task = tasks.setup_task(cfg.task)
    task.build_model(cfg.model)
    task.load_dataset("train", epoch=1, combine=True)
    return task


def batches(
    task, workers: int, size: int, ranks: int = 1, resume_after: int | None = None
) -> Iterator[tuple[int, dict]]:
    """(epoch, batch) of three epochs, of all ranks in turn; perhaps interrupted in the second."""
    for rank in range(ranks):

        def iterator(epoch=1, rank=rank):
            task.dataset_to_epoch_iter.clear()
            made = task.get_batch_iterator(
                task.dataset("train"),
                max_sentences=size,
                num_workers=workers,
                num_shards=ranks,
                shard_id=rank,
                epoch=epoch,
            )
            _ = made.first_batch  # fairseq's trainer asks for it, and so warms every cache
            return made

        epochs = iterator()
        for epoch in (1, 2, 3):
            for n, batch in enumerate(epochs.next_epoch_itr(shuffle=True), start=1):
                yield epoch, batch
                if (epoch, n) == (2, resume_after):
                    state = epochs.state_dict()
                    epochs = iterator(epoch=2)
                    epochs.load_state_dict(state)
                    for rest in epochs.next_epoch_itr(shuffle=True):
                        yield epoch, rest
                    break


def targets_of_samples(batches) -> dict:
    """{(epoch, sample): the distribution of each of its rows, as {id: count}}."""
    seen = {}
    for epoch, batch in batches:
        if not batch:
            continue
        stored, start = batch[STORED], 0
        for i, sample in enumerate(batch["id"].tolist()):
            wanted = batch["target"][i].ne(1)
            n = int(wanted.sum())
            rows = [
                {int(k): int(c) for k, c in zip(ids, counts) if c}
                for ids, counts in zip(
                    stored["ids"][start : start + n], stored["values"][start : start + n]
                )
            ]
            head = stored["target_logprob"][start : start + n].tolist()
            top1 = stored["top1"][start : start + n].tolist()
            assert (epoch, sample) not in seen
            seen[epoch, sample] = (rows, head, top1, batch["target"][i][wanted].tolist())
            start += n
        assert start == len(stored["values"])
    return seen


@pytest.fixture(scope="module")
def reference(data_bin, store, tmp_path_factory):
    task = training_task(data_bin, store, tmp_path_factory.mktemp("reference"))
    return targets_of_samples(batches(task, workers=0, size=8))


def test_three_epochs_replay_two_maskings(reference):
    samples = {sample for _, sample in reference}
    assert len(reference) == 3 * len(samples) > 300
    assert all(reference[1, s] == reference[3, s] for s in samples)
    assert sum(reference[1, s][3] != reference[2, s][3] for s in samples) > 0.9 * len(samples)
    for rows, *_ in reference.values():
        assert all(sum(row.values()) == 20 for row in rows)


@pytest.mark.parametrize(
    ("workers", "size", "ranks", "resume_after"),
    [
        (2, 8, 1, None),
        (0, 32, 1, None),
        (2, 32, 2, None),
        (0, 8, 2, None),
        (2, 8, 1, 6),
        (0, 8, 1, 6),
    ],
)
def test_targets_depend_on_sample_and_epoch_alone(
    data_bin, store, tmp_path, reference, workers, size, ranks, resume_after
):
    task = training_task(data_bin, store, tmp_path)
    assert targets_of_samples(batches(task, workers, size, ranks, resume_after)) == reference


def test_no_rows_once_reading_is_switched_off(data_bin, store, tmp_path):
    copy = shutil.copytree(store, tmp_path / "copy")
    task = training_task(data_bin, copy, tmp_path)
    task.reading.off()
    for shard in copy.glob("*.rows"):
        shard.write_bytes(bytes(shard.stat().st_size))
    found = [batch for _, batch in batches(task, workers=2, size=8)]
    assert len(found) > 40
    assert all(batch[STORED] == {} for batch in found)


def test_damage_is_found_in_a_loader_worker(data_bin, store, tmp_path):
    copy = shutil.copytree(store, tmp_path / "copy")
    task = training_task(data_bin, copy, tmp_path)
    for shard in copy.glob("*-epoch00002-*.rows"):
        content = bytearray(shard.read_bytes())
        content[len(content) // 2] ^= 1
        shard.write_bytes(content)
    with pytest.raises(DamageError, match=r"CRC-32|expected a record"):
        for epoch, _ in batches(task, workers=2, size=8):
            assert epoch < 3


def test_rows_of_another_mask_epoch_are_refused(data_bin, store, tmp_path):
    """The masks move on while the rows stay: what a wrong replay would do."""
    task = training_task(data_bin, store, tmp_path)
    samples = task.dataset("train").dataset.dataset  # below the order and the replay of epochs
    samples.dataset.set_epoch(2)
    samples.stores[0].set_epoch(1)
    with pytest.raises(MismatchError, match=r"mask epoch 1: expected checksum 0x.*found 0x"):
        for block in range(len(samples)):
            samples[block]


def rows_of(widths: list[int], kind: str) -> Rows:
    n, width = len(widths), max(widths)
    used = np.arange(width) < np.array(widths)[:, None]
    ids = np.where(used, np.arange(1, width + 1), 0).astype(np.int32)
    if kind == "counts":
        values = np.where(used, 3, 0).astype(np.int32)
    else:
        values = np.where(used, -1.5, ZERO).astype(np.float16)
    head = np.full(n, -2, np.float16)
    return Rows(ids, values, head, ids[:, 0].copy(), None)


@pytest.mark.parametrize("kind", ["counts", "log-probabilities"])
def test_a_batch_is_as_wide_as_its_widest_row(kind):
    batch = collate_rows([rows_of([1, 2], kind), rows_of([4], kind), rows_of([3, 1], kind)])
    assert batch["ids"].shape == batch["values"].shape == (5, 4)
    # padding carries no probability and a valid id
    filling = 0 if kind == "counts" else np.float16(ZERO)
    assert batch["values"][0].tolist() == [3 if kind == "counts" else -1.5] + [filling] * 3
    assert batch["ids"][0].tolist() == [1, 0, 0, 0]
    # fairseq would cast float32 to the model's type
    assert not any(tensor.dtype == torch.float32 for tensor in batch.values())


def test_samples_without_rows(tmp_path):
    empty = rows_of([2], "counts")[0:0]
    batch = collate_rows([empty, rows_of([1], "counts"), empty])
    assert batch["values"].shape == (1, 2)
    assert collate_rows([empty])["values"].shape[0] == 0
    assert collate_rows([]) == {}
