"""Any sample, in any order, from any process, in bounded memory."""

import multiprocessing
import os
import pickle
import random
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from fairseq_ki.store import (
    DamageError,
    MismatchError,
    StoreReader,
    UnfinishedError,
    sample_checksum,
)

ENCODINGS = ["topk", "topp", "sampled", "dense"]


def assert_same_rows(found, expected):
    np.testing.assert_array_equal(found.target_logprob, expected.target_logprob)
    np.testing.assert_array_equal(found.top1, expected.top1)
    assert (found.tail is None) == (expected.tail is None)
    if found.tail is not None:
        np.testing.assert_array_equal(found.tail, expected.tail)
    if expected.ids is None:
        assert found.ids is None
        np.testing.assert_array_equal(found.values, expected.values)
        return
    for row in range(len(expected)):  # as sets: sampled rows may be in another order
        pairs = [
            {(i, v) for i, v in zip(rows.ids[row], rows.values[row]) if v != 0 and v > -65504}
            for rows in (found, expected)
        ]
        assert pairs[0] == pairs[1]


def all_keys(plan):
    return [
        (split, epoch, block)
        for split in range(len(plan.splits))
        for epoch in range(1, plan.mask_epochs + 1)
        for block in range(plan.splits[split].blocks)
    ]


@pytest.mark.parametrize("name", ENCODINGS)
def test_gives_back_what_was_written_in_any_order(synthetic, finished, name):
    reader = StoreReader(finished[name])
    keys = all_keys(reader.plan)
    random.Random(0).shuffle(keys)
    for key in keys:
        checksum, rows = synthetic.make_rows(reader.plan, *key)
        assert_same_rows(reader.read(*key, checksum=checksum), rows)


def test_rows_are_writable_and_of_the_promised_types(synthetic, finished):
    for name in ENCODINGS:
        reader = StoreReader(finished[name])
        checksum, rows = synthetic.make_rows(reader.plan, 0, 1, 3)
        found = reader.read(0, 1, 3, checksum=checksum)
        arrays = [found.values, found.target_logprob, found.top1]
        arrays += [array for array in (found.ids, found.tail) if array is not None]
        assert len(found) == len(rows) > 0
        for array in arrays:
            assert array.flags.writeable
            assert array.flags.owndata or array.base.flags.owndata
        assert found.top1.dtype == np.int32
        assert found.target_logprob.dtype == np.float16
        assert found.values.dtype == (np.int32 if name == "sampled" else np.float16)
        assert found.ids is None or found.ids.dtype == np.int32


def test_refuses_the_rows_of_another_sample_epoch_or_mask(synthetic, finished):
    reader = StoreReader(finished["sampled"])
    positions, targets, inputs = synthetic.make_sample(0, 2, 5)
    right = sample_checksum(positions, targets, inputs)
    assert len(reader.read(0, 2, 5, checksum=right)) == len(positions)
    wrong_inputs = inputs.copy()
    wrong_inputs[0] += 1
    for wrong in (
        synthetic.make_rows(reader.plan, 0, 1, 5)[0],  # the other mask epoch
        synthetic.make_rows(reader.plan, 1, 2, 5)[0],  # the other split
        sample_checksum(positions, targets, wrong_inputs),
    ):
        with pytest.raises(
            MismatchError, match=r"sample 5 of split 0 \(train\), mask epoch 2"
        ) as error:
            reader.read(0, 2, 5, checksum=wrong)
        assert f"{right:#010x}" in str(error.value)
        assert f"{wrong:#010x}" in str(error.value)


@pytest.mark.parametrize(
    ("key", "message"),
    [
        ((2, 1, 0), "split: the store has 0 to 1, found 2"),
        ((-1, 1, 0), "split"),
        ((0, 0, 0), "mask epoch: the store has 1 to 2, found 0"),
        ((0, 3, 0), "mask epoch"),
        ((1, 1, 41), r"block: split 1 \(train1\) has 0 to 40, found 41"),
        ((1, 1, -1), "block"),
    ],
)
def test_refuses_keys_that_the_store_has_not(finished, key, message):
    with pytest.raises(MismatchError, match=message):
        StoreReader(finished["topk"]).read(*key, checksum=0)


def test_refuses_a_directory_without_manifest(tmp_path, synthetic):
    with pytest.raises(UnfinishedError, match=r"found no manifest\.json"):
        StoreReader(tmp_path)
    synthetic.capture(tmp_path, synthetic.make_plan(synthetic.ENCODINGS["topk"]))
    with pytest.raises(UnfinishedError):
        StoreReader(tmp_path)


def test_holds_few_files_open_and_reads_many_shards(synthetic, tmp_path):
    plan = synthetic.make_plan(synthetic.ENCODINGS["topk"], samples_per_shard=1)
    synthetic.capture(tmp_path, plan).finalize()
    before = len(os.listdir("/proc/self/fd"))
    reader = StoreReader(tmp_path)
    keys = all_keys(plan) * 2
    random.Random(1).shuffle(keys)
    most = 0
    for key in keys:
        checksum, rows = synthetic.make_rows(plan, *key)
        assert_same_rows(reader.read(*key, checksum=checksum), rows)
        most = max(most, len(os.listdir("/proc/self/fd")) - before)
    assert 32 < most <= 65
    del reader
    assert len(os.listdir("/proc/self/fd")) == before


def test_is_pickled_without_open_files_and_works_in_a_fresh_process(synthetic, finished, tmp_path):
    reader = StoreReader(finished["topp"])
    checksum, rows = synthetic.make_rows(reader.plan, 1, 2, 40)
    reader.read(1, 2, 40, checksum=checksum)  # a shard is open now
    (tmp_path / "reader.pickle").write_bytes(pickle.dumps(reader))
    program = (
        "import sys, types, pickle, numpy as np\n"
        "package = types.ModuleType('fairseq_ki'); package.__path__ = [sys.argv[1]]\n"
        "sys.modules['fairseq_ki'] = package\n"
        "reader = pickle.load(open(sys.argv[2], 'rb'))\n"
        "rows = reader.read(1, 2, 40, checksum=int(sys.argv[3]))\n"
        "np.save(sys.argv[4], rows.values)\n"
    )
    package = Path(synthetic.__file__).parents[2] / "fairseq_ki"
    subprocess.run(
        [
            sys.executable,
            "-c",
            program,
            package,
            tmp_path / "reader.pickle",
            str(checksum),
            tmp_path / "values.npy",
        ],
        check=True,
    )
    np.testing.assert_array_equal(np.load(tmp_path / "values.npy"), rows.values)


def read_in_child(reader, make_rows, keys, queue):
    for key in keys:
        checksum, rows = make_rows(reader.plan, *key)
        assert_same_rows(reader.read(*key, checksum=checksum), rows)
    queue.put(os.getpid())


def test_two_forked_children_and_the_parent_share_an_open_reader(synthetic, finished):
    reader = StoreReader(finished["sampled"])
    keys = all_keys(reader.plan)
    for key in keys[:50]:
        reader.read(*key, checksum=synthetic.make_rows(reader.plan, *key)[0])
    context = multiprocessing.get_context("fork")
    queue = context.Queue()
    children = [
        context.Process(
            target=read_in_child, args=(reader, synthetic.make_rows, keys[part::2], queue)
        )
        for part in range(2)
    ]
    for child in children:
        child.start()
    for key in reversed(keys):
        checksum, rows = synthetic.make_rows(reader.plan, *key)
        assert_same_rows(reader.read(*key, checksum=checksum), rows)
    for child in children:
        child.join()
        assert child.exitcode == 0
    assert {queue.get(timeout=10), queue.get(timeout=10)} == {child.pid for child in children}


def test_a_shard_truncated_while_open_raises_instead_of_killing(synthetic, tmp_path):
    plan = synthetic.make_plan(synthetic.ENCODINGS["dense"])
    synthetic.capture(tmp_path, plan).finalize()
    reader = StoreReader(tmp_path)
    checksum, _ = synthetic.make_rows(plan, 0, 1, 19)
    reader.read(0, 1, 19, checksum=checksum)
    path = tmp_path / plan.shard_of(0, 1, 19).file
    os.truncate(path, path.stat().st_size - 1)
    with pytest.raises(DamageError, match="truncated"):
        reader.read(0, 1, 19, checksum=checksum)


MEMORY_PROGRAM = """
import resource, sys, types
package = types.ModuleType("fairseq_ki"); package.__path__ = [sys.argv[1]]
sys.modules["fairseq_ki"] = package
import numpy as np
from fairseq_ki import store

directory, samples, rows = sys.argv[2], *map(int, sys.argv[3:])
encoding = store.Dense(8192)
plan = store.Plan(
    encoding=encoding, task="mlm", splits=(store.Split("train", "a" * 64, samples),),
    dictionary_sha256="c" * 64, teacher_sha256="d" * 64, max_rows=rows, samples_per_shard=128,
)
flat = store.Rows(
    ids=None, values=np.full((rows, 8192), -np.log(8192), np.float16),
    target_logprob=np.zeros(rows, np.float16), top1=np.zeros(rows, np.int32),
)
writer = store.StoreWriter(directory, plan)
for shard in writer.pending():
    with writer.shard(shard) as out:
        for block in shard.blocks:
            out.add(block, flat)
writer.finalize()
reader = store.StoreReader(directory)
for block in range(2):
    reader.read(0, 1, block, checksum=block)
def resident():
    return int(open("/proc/self/statm").read().split()[1]) * resource.getpagesize()
before, most, total = resident(), 0, 0
for block in range(samples):
    total += reader.read(0, 1, block, checksum=block).values.nbytes
    most = max(most, resident())
print(total, most - before)
"""


def resident_growth(synthetic, directory, samples, rows):
    """Bytes decoded from a dense store, and by how much resident memory grew meanwhile."""
    package = Path(synthetic.__file__).parents[2] / "fairseq_ki"
    arguments = [package, directory, samples, rows]
    done = subprocess.run(
        [sys.executable, "-c", MEMORY_PROGRAM, *map(str, arguments)],
        check=True,
        capture_output=True,
        text=True,
    )
    return map(int, done.stdout.split())


def test_memory_does_not_grow_with_the_store(synthetic, tmp_path):
    total, growth = resident_growth(synthetic, tmp_path, samples=512, rows=16)
    assert total == 512 * 16 * 8192 * 2  # 128 MiB
    assert growth < 8 << 20


@pytest.mark.slow
def test_two_gigabytes_are_read_in_the_same_memory(synthetic, tmp_path):
    total, growth = resident_growth(synthetic, tmp_path, samples=8192, rows=16)
    assert total == 2 << 30
    assert growth < 8 << 20
