"""What a finished store says of itself, and everything that it may not say."""

import json
import os
import shutil

import pytest

from fairseq_ki.store import (
    DamageError,
    Manifest,
    MismatchError,
    StoreReader,
    UnfinishedError,
    sample_checksum,
)
from fairseq_ki.store.strict_json import canonical_sha256


@pytest.fixture
def directory(finished, tmp_path):
    shutil.copytree(finished["topk"], tmp_path / "store")
    return tmp_path / "store"


def rewrite(directory, change):
    """Change the manifest's content and give it the right checksum again, as an attacker would."""
    path = directory / "manifest.json"
    content = json.loads(path.read_text())
    change(content)
    content.pop("sha256", None)
    content["sha256"] = canonical_sha256(content)
    path.write_text(json.dumps(content))


def test_survives_its_file(finished):
    for directory in finished.values():
        manifest = Manifest.load(directory)
        assert (directory / "manifest.json").read_bytes() == manifest.to_bytes()
        assert manifest.samples == 2 * (70 + 41)
        files = [directory / entry.file for entry in manifest.shards]
        assert manifest.shard_bytes == sum(file.stat().st_size for file in files)


def test_compare_is_that_of_the_plan(finished):
    manifest = Manifest.load(finished["topk"])
    manifest.compare({"vocabulary": 300})
    with pytest.raises(MismatchError, match="vocabulary: expected 301, found 300"):
        manifest.compare({"vocabulary": 301})


def checksums(synthetic, split, mask_epoch, n):
    return [sample_checksum(*synthetic.make_sample(split, mask_epoch, b)) for b in range(n)]


def test_check_samples_tells_other_masks_at_the_start(synthetic, finished):
    manifest = Manifest.load(finished["topk"])
    for split, n in ((0, 64), (1, 41)):
        for epoch in (1, 2):
            manifest.check_samples(split, epoch, checksums(synthetic, split, epoch, n))
    with pytest.raises(
        MismatchError, match=r"split 0 \(train\), mask epoch 2: the store's first 64"
    ):
        manifest.check_samples(0, 2, checksums(synthetic, 0, 1, 64))
    with pytest.raises(ValueError, match="checksums: expected an integer from 64 to 64, found 63"):
        manifest.check_samples(0, 1, checksums(synthetic, 0, 1, 63))


def test_a_newer_version_is_refused_by_its_number(directory):
    def newer(content):
        content.clear()
        content.update({"format": "fairseq-ki store", "version": 2, "something": "new"})

    rewrite(directory, newer)
    with pytest.raises(MismatchError, match="expected format version 1, found 2: a newer release"):
        Manifest.load(directory)


def set_in(*path):
    *parents, last, value = path

    def change(content):
        for name in parents:
            content = content[name]
        content[last] = value

    return change


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (set_in("format", "a zoo"), "expected format 'fairseq-ki store', found 'a zoo'"),
        (set_in("version", True), "expected format version 1, found True"),
        (set_in("version", 0), "expected format version 1, found 0"),
        (set_in("version", "1"), "expected format version 1, found '1'"),
        (set_in("extra", 1), "expected entries"),
        (set_in("plan", "encoding", "name", "gzip"), "expected one of"),
        (set_in("plan", "encoding", "k", 10**9), "k: expected an integer"),
        (set_in("plan", "vocabulary", 10**12), "vocabulary: expected an integer"),
        (set_in("plan", "byte_order", "big"), "byte_order: expected 'little', found 'big'"),
        (set_in("plan", "dtypes", "id_bits", 16), "dtypes.id_bits: expected 9, found 16"),
        (set_in("plan", "serves_tau", 1.0), "serves_tau: expected 'any', found 1.0"),
        (set_in("plan", "splits", 0, "blocks", 10**15), "blocks"),
        (set_in("plan", "splits", 0, "blocks", 10**10), "samples_per_shard"),
        (set_in("plan", "splits", 0, "blocks", -5), "blocks"),
        (set_in("plan", "max_rows", 10**9), "max_rows"),
        (set_in("plan", "mask_epochs", 3), "number of shards"),
        (set_in("plan", "mask_epochs", 10**6), "mask_epochs"),
        (set_in("shards", 0, "file", "../../etc/passwd"), "found '../../etc/passwd'"),
        (set_in("shards", 0, "file", "/etc/passwd"), "expected file 'split0000-epoch00001-block"),
        (set_in("shards", 1, "file", 7), "expected file"),
        (set_in("shards", 0, "bytes", -1), "bytes"),
        (set_in("shards", 0, "bytes", 1 << 60), "bytes"),
        (set_in("shards", 0, "rows", 1 << 40), "rows"),
        (set_in("shards", 0, "sha256", "0"), "sha256"),
        (set_in("shards", 0, {}), "argument"),
        (set_in("shards", []), "number of shards: expected an integer from 14 to 14, found 0"),
        (set_in("shards", None), "NoneType"),
        (set_in("masks", [[]]), "masks: splits"),
        (set_in("masks", 0, []), "masks: mask epochs"),
        (set_in("masks", 0, 0, "xyz"), "masks: expected 64 hexadecimal digits"),
        (
            set_in("plan", "splits", 0, "name", "a\x1b]0;x\x07"),
            r"printable text.*'a\\x1b\]0;x",
        ),
        (set_in("plan", "splits", 0, "name", "a\nwrote: b"), r"split name: .*found 'a\\nwrote: b'"),
        (set_in("plan", "data", "seed", "\x1b[2J"), r"data setting seed: .*found '\\x1b\[2J'"),
        (set_in("plan", "data", "\x1b[2J", 1), r"name of a data setting: .*found '\\x1b\[2J'"),
        (set_in("plan", "data", "seed", "\ud800"), r"data setting seed: .*found '\\ud800'"),
        (set_in("plan", "capture", {"device": "\u202egpc"}), r"device: .*found '\\u202egpc'"),
        (set_in("plan", "numpy", "2\x9b31m"), r"numpy: expected printable text, found '2\\x9b31m'"),
        (set_in("plan", "\x1b[2J", 1), r"'\\x1b\[2J': expected nothing, found 1"),
        (set_in("shards", 0, {"\x1b[2J": 1}), r"unexpected keyword argument .*\\x1b\[2J"),
        (set_in("samples", 1), "samples: expected 222, found 1"),
        (set_in("rows", "many"), "rows: expected [0-9]+, found 'many'"),
    ],
)
def test_hostile_manifests_are_refused(directory, change, message):
    rewrite(directory, change)
    with pytest.raises(DamageError, match=message) as error:
        StoreReader(directory)
    assert str(error.value).isprintable()


MANIFEST = b"""{"format": "fairseq-ki store", "version": 1, "shards": [], "masks": [], "samples": 1,
"rows": 1, "sha256": "%s", "plan": %s}"""


@pytest.mark.parametrize(
    ("content", "message"),
    [
        *(
            (MANIFEST % (b"0" * 64, b"[" * n + b"]" * n), "expected JSON at most 32 deep|recursion")
            for n in range(100, 1000, 4)
        ),
        (MANIFEST % (b"0" * 64, b"1e999"), r"manifest\.json: .*not JSON compliant"),
        (MANIFEST % (rb"\u001b[2J", b"1"), r"sha256: expected 64 .*found '\\x1b\[2J'"),
        (b"", "expected JSON"),
        (b"[1]", "expected a JSON object, found list"),
        (b"\xff\xfe{}", "expected JSON"),
        (b'{"format": NaN}', "expected JSON"),
        (b'{"a":' * 100000 + b"1" + b"}" * 100000, "expected JSON"),
        (b'{"version": 1' + b"0" * 5000 + b"}", "expected JSON"),
        (b"{}", "expected format"),
    ],
)
def test_what_is_no_manifest_is_refused(tmp_path, content, message):
    (tmp_path / "manifest.json").write_bytes(content)
    with pytest.raises(DamageError, match=message):
        Manifest.load(tmp_path)


@pytest.mark.parametrize("kind", ["link", "device", "fifo", "directory", "huge"])
def test_only_a_regular_file_of_sane_size_is_a_manifest(directory, kind):
    path = directory / "manifest.json"
    moved = path.rename(directory / "elsewhere")
    if kind == "link":
        path.symlink_to(moved)
    elif kind == "device":
        path.symlink_to("/dev/zero")
    elif kind == "fifo":
        os.mkfifo(path)
    elif kind == "directory":
        path.mkdir()
    else:
        path.touch()
        os.truncate(path, 1 << 40)
    with pytest.raises(DamageError, match=r"expected a regular file|expected at most [0-9]+ bytes"):
        Manifest.load(directory)


def test_a_changed_manifest_is_refused(directory):
    path = directory / "manifest.json"
    path.write_text(path.read_text().replace('"mask_prob": 0.15', '"mask_prob": 0.16'))
    with pytest.raises(DamageError, match=r"of its own content, found .* altered or damaged"):
        Manifest.load(directory)


def test_no_store_at_all(tmp_path):
    (tmp_path / "file").write_text("")
    for path in (tmp_path / "nowhere", tmp_path / "file"):
        with pytest.raises(UnfinishedError, match="is the path right"):
            Manifest.load(path)
