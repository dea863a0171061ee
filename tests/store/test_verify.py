"""Damage is found by verify, and never becomes wrong numbers in a read."""

import dataclasses
import json
import os
import random
import shutil

import numpy as np
import pytest

from fairseq_ki.store import Manifest, StoreError, StoreReader, verify

ENCODINGS = ["topk", "topp", "sampled", "dense"]


@pytest.fixture
def copy(finished, tmp_path):
    def make(name):
        directory = tmp_path / name
        shutil.copytree(finished[name], directory)
        return directory

    return make


def flip(path, offset, mask):
    with open(path, "r+b") as file:
        file.seek(offset)
        byte = file.read(1)[0]
        file.seek(offset)
        file.write(bytes([byte ^ mask]))


@pytest.mark.parametrize("name", ENCODINGS)
def test_a_whole_store_is_whole(finished, name):
    shards = []
    report = verify(finished[name], on_shard=lambda done, total: shards.append((done, total)))
    assert report.whole
    assert report.problems == report.ignored == []
    assert report.manifest.samples == 222
    assert shards == [(done, 14) for done in range(1, 15)]


def read_all(synthetic, directory):
    """Every sample as (arrays), or None where its read was refused; None if the open was."""
    try:
        reader = StoreReader(directory)
    except StoreError:
        return None
    found = {}
    for split, blocks in ((0, 70), (1, 41)):
        for epoch in (1, 2):
            for block in range(blocks):
                checksum = synthetic.make_rows(reader.plan, split, epoch, block)[0]
                try:
                    rows = reader.read(split, epoch, block, checksum=checksum)
                except StoreError:
                    rows = None
                found[split, epoch, block] = rows
    return found


def assert_equal_rows(found, expected):
    for name in ("ids", "values", "target_logprob", "top1", "tail"):
        one, other = getattr(found, name), getattr(expected, name)
        assert (one is None) == (other is None)
        if one is not None:
            np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("name", ENCODINGS)
def test_a_flipped_byte_is_found_and_never_gives_wrong_numbers(synthetic, finished, copy, name):
    rng = random.Random(name)
    whole = read_all(synthetic, finished[name])
    directory = copy(name)
    files = sorted(directory.iterdir())
    refused = 0
    for trial in range(24):
        # Of every file's parts: anywhere, the header, the index.
        path = rng.choice(files)
        end = [path.stat().st_size, 88, 256][trial % 3]
        offset, mask = rng.randrange(min(end, path.stat().st_size)), rng.randrange(1, 256)
        flip(path, offset, mask)
        report = verify(directory)
        assert not report.whole, (path.name, offset, mask)
        assert all(str(problem) for problem in report.problems)
        found = read_all(synthetic, directory)
        if found is None:
            refused += 1
        else:
            changed = [key for key, rows in found.items() if rows is None]
            refused += bool(changed)
            assert len(changed) <= 2  # an offset ends one record and starts another
            for key, rows in found.items():
                if rows is not None:
                    assert_equal_rows(rows, whole[key])
        flip(path, offset, mask)
    assert refused > 12
    assert verify(directory).whole


def test_every_flip_of_the_manifest_is_found(copy):
    directory = copy("topk")
    path = directory / "manifest.json"
    rng = random.Random(0)
    for _ in range(150):
        offset, mask = rng.randrange(path.stat().st_size), rng.randrange(1, 256)
        flip(path, offset, mask)
        assert not verify(directory).whole, (offset, mask)
        flip(path, offset, mask)


@pytest.mark.parametrize("lost", [1, 8, 1000, 10**9])
def test_a_truncated_shard_is_found_and_refused(copy, lost):
    directory = copy("sampled")
    path = sorted(directory.glob("*.rows"))[5]
    os.truncate(path, max(0, path.stat().st_size - lost))
    report = verify(directory)
    assert any(path.name in problem for problem in report.problems)
    with pytest.raises(StoreError, match=path.name):
        StoreReader(directory)


def test_a_lengthened_shard_is_found_and_refused(copy):
    directory = copy("sampled")
    path = sorted(directory.glob("*.rows"))[5]
    with open(path, "ab") as file:
        file.write(b"\0")
    assert any(path.name in problem for problem in verify(directory).problems)
    with pytest.raises(StoreError, match=path.name):
        StoreReader(directory)


def test_a_missing_shard_is_found_and_refused(copy):
    directory = copy("topp")
    path = sorted(directory.glob("*.rows"))[-1]
    path.unlink()
    assert [path.name in problem for problem in verify(directory).problems] == [True]
    with pytest.raises(StoreError, match=path.name):
        StoreReader(directory)


def test_a_missing_manifest_is_one_problem(copy):
    directory = copy("topp")
    (directory / "manifest.json").unlink()
    report = verify(directory)
    assert report.manifest is None
    assert len(report.problems) == 1
    assert "manifest.json" in report.problems[0]


def test_other_files_are_named_and_ignored(copy):
    directory = copy("topk")
    (directory / "README").write_text("ours")
    (directory / ".x.tmp").write_text("")
    report = verify(directory)
    assert report.whole
    assert report.ignored == [".x.tmp", "README"]
    StoreReader(directory)


def test_a_manifest_in_another_layout_reads_but_is_reported(copy):
    directory = copy("topk")
    path = directory / "manifest.json"
    path.write_text(json.dumps(json.loads(path.read_text())))
    StoreReader(directory)
    assert "canonical layout" in verify(directory).problems[0]


def test_a_wrong_fingerprint_of_the_masks_is_reported(copy):
    directory = copy("topk")
    manifest = Manifest.load(directory)
    masks = (("0" * 64, manifest.masks[0][1]), manifest.masks[1])
    wrong = dataclasses.replace(manifest, masks=masks)
    (directory / "manifest.json").write_bytes(wrong.to_bytes())
    problems = verify(directory).problems
    assert len(problems) == 1
    assert "split 0 (train), mask epoch 1: expected fingerprint 000000" in problems[0]


def test_a_damaged_sample_is_named(copy):
    directory = copy("dense")
    path = directory / "split0001-epoch00002-block000000000020.rows"
    flip(path, path.stat().st_size - 1, 1)
    problems = verify(directory).problems
    assert len(problems) == 2
    assert "SHA-256" in problems[0]
    assert problems[1].startswith("split 1 (train1), mask epoch 2, block 39: ")


def test_numbers_that_no_teacher_gave_are_reported(synthetic, tmp_path, monkeypatch):
    """A writer in another language may have written nonsense under right checksums."""
    encoding = synthetic.ENCODINGS["topk"]
    plan = synthetic.make_plan(encoding)
    with monkeypatch.context() as patch:
        patch.setattr(type(encoding), "check", lambda self, rows: None)
        real = synthetic.make_rows

        def broken(plan, split, epoch, block):
            checksum, rows = real(plan, split, epoch, block)
            if (split, epoch, block) == (1, 1, 6):
                rows.values[-1, 3] = np.nan
            if (split, epoch, block) == (0, 2, 33):
                rows.ids[0, 2] = 511  # fits in 9 bits, not in the vocabulary
            return checksum, rows

        patch.setattr(synthetic, "make_rows", broken)
        synthetic.capture(tmp_path, plan).finalize()
    problems = verify(tmp_path).problems
    assert len(problems) == 2
    assert "split 0 (train), mask epoch 2, block 33: id: expected 0 to 299" in problems[0]
    assert "split 1 (train1), mask epoch 1, block 6: float16 values: expected finite" in problems[1]
