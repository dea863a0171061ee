"""Stores that are refused: of other settings or data, damaged, or of other masks."""

import json
import shutil
from pathlib import Path

import pytest
from trained import CAUSAL, GPT, KI, capture, part_of

from fairseq_ki.data.stored_rows import SplitRows
from fairseq_ki.store import DamageError, MismatchError, UnfinishedError
from fairseq_ki.tasks.ki_mlm import KIMaskedLMTask


def test_one_source_of_logits(fairseq_train, data_bin, teacher, topk, tmp_path):
    named = f"{KI} --ki-steps 4 --ki-store {topk}"
    with pytest.raises(ValueError, match="found --ki-teacher"):
        fairseq_train(data_bin, tmp_path, f"{named} --ki-teacher {teacher}")
    with pytest.raises(ValueError, match=r"--ki-valid-teacher: expected .* found --ki-store"):
        fairseq_train(data_bin, tmp_path, f"{named} --ki-valid-teacher")
    with pytest.raises(ValueError, match=r"--ki-tail: expected a --ki-store"):
        fairseq_train(data_bin, tmp_path, f"{KI} --ki-steps 4 --ki-teacher {teacher} --ki-tail")


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ("--tokens-per-sample 31", r"data.tokens_per_sample: expected 31, found 32"),
        ("--sample-break-mode complete", r"sample_break_mode: expected 'complete', found 'none'"),
        ("--shorten-method truncate", r"shorten_method: expected 'truncate', found 'none'"),
        ("--mask-prob 0.2", r"data.mask_prob: expected 0.2, found 0.15"),
        ("--leave-unmasked-prob 0.2", r"leave_unmasked_prob: expected 0.2, found 0.1"),
        ("--ki-mask-seed 2", r"data.seed: expected 2, found 1"),
        ("--train-subset valid", r"data.split: expected 'valid', found 'train'"),
        ("--ki-tail --ki-temperature 2", "the stored tail mass serves 1.0, found 2.0"),
    ],
)
def test_other_settings_are_refused(fairseq_train, data_bin, topk, tmp_path, changed, message):
    with pytest.raises(MismatchError, match=message):
        fairseq_train(data_bin, tmp_path, f"{KI} --ki-store {topk} --ki-steps 4 {changed}")
    assert not list(tmp_path.glob("*.pt"))


def test_a_temperature_that_draws_do_not_serve_is_refused(
    fairseq_train, data_bin, teacher, tmp_path
):
    store = capture(data_bin, teacher, tmp_path / "store", "--encoding sampled --draws 9")
    with pytest.raises(MismatchError, match="drawn at 1.0 and serves no other, found 2.0"):
        fairseq_train(data_bin, tmp_path / "run", f"{KI} --ki-store {store} --ki-steps 4")


def test_a_causal_student_refuses_a_masked_store(fairseq_train, data_bin, topk, tmp_path):
    with pytest.raises(MismatchError, match="task: expected 'lm', found 'mlm'"):
        fairseq_train(
            data_bin, tmp_path, f"{CAUSAL} --ki-store {topk} --ki-steps 4", GPT.format(2, 32)
        )


def test_another_dictionary_is_refused(fairseq_train, data_bin, topk, tmp_path):
    data = part_of(data_bin, tmp_path / "data", range(300))
    lines = (data / "dict.txt").read_text().splitlines(keepends=True)
    (data / "dict.txt").write_text("".join([lines[1], lines[0], *lines[2:]]))
    with pytest.raises(MismatchError, match="dictionary_sha256: expected"):
        fairseq_train(data, tmp_path / "run", f"{KI} --ki-store {topk} --ki-steps 4")


def test_another_text_is_refused(fairseq_train, data_bin, topk, tmp_path):
    data = part_of(data_bin, tmp_path / "data", range(299, -1, -1))
    with pytest.raises(MismatchError, match="data-bin split: the store has train"):
        fairseq_train(data, tmp_path / "run", f"{KI} --ki-store {topk} --ki-steps 4")


def test_stores_that_do_not_fit_together_are_refused(
    fairseq_train, data_bin, topk, dense, tmp_path
):
    with pytest.raises(MismatchError, match="have to agree in encoding and mask epochs"):
        fairseq_train(data_bin, tmp_path, f"{KI} --ki-store {topk}:{dense} --ki-steps 4")


@pytest.fixture
def copy(topk, tmp_path) -> Path:
    return Path(shutil.copytree(topk, tmp_path / "copy"))


def refused(fairseq_train, data_bin, store, tmp_path, error, message, extra="") -> None:
    with pytest.raises(error, match=message):
        fairseq_train(
            data_bin,
            tmp_path / "run",
            f"{KI} --ki-store {store} --ki-steps 40 --max-epoch 1 {extra}",
        )


@pytest.mark.parametrize("workers", [0, 2])
def test_a_flipped_byte_is_refused(fairseq_train, data_bin, copy, tmp_path, workers):
    shard = max(copy.glob("*.rows"))
    content = bytearray(shard.read_bytes())
    content[-5] ^= 4
    shard.write_bytes(content)
    refused(
        fairseq_train, data_bin, copy, tmp_path, DamageError, "expected CRC-32",
        f"--num-workers {workers}",
    )  # fmt: skip


def test_a_truncated_shard_is_refused(fairseq_train, data_bin, copy, tmp_path):
    shard = max(copy.glob("*.rows"))
    shard.write_bytes(shard.read_bytes()[:-1])
    refused(fairseq_train, data_bin, copy, tmp_path, DamageError, "file size in bytes: expected")


def test_an_unfinished_store_is_refused(fairseq_train, data_bin, copy, tmp_path):
    (copy / "manifest.json").unlink()
    refused(fairseq_train, data_bin, copy, tmp_path, UnfinishedError, "has the capture finished")


def test_a_newer_format_is_refused(fairseq_train, data_bin, copy, tmp_path):
    manifest = json.loads((copy / "manifest.json").read_text())
    (copy / "manifest.json").write_text(json.dumps({**manifest, "version": 2}))
    refused(fairseq_train, data_bin, copy, tmp_path, MismatchError, "expected format version 1")


def test_rows_of_other_masks_are_never_used(
    fairseq_train, data_bin, teacher, tmp_path, monkeypatch
):
    """A store that claims seed 1 and was captured under another, as another numpy might do."""
    honest = KIMaskedLMTask.store_settings
    with monkeypatch.context() as patch:
        patch.setattr(KIMaskedLMTask, "store_settings", lambda self: {**honest(self), "seed": 1})
        store = capture(data_bin, teacher, tmp_path / "store", "--encoding topk --k 5 --seed 2")
    # seen at the start, and, were it not, at the first read
    refused(
        fairseq_train, data_bin, store, tmp_path, MismatchError,
        "samples of split 0 .*mask epoch 1: the store's first 64",
    )  # fmt: skip
    monkeypatch.setattr(SplitRows, "check_first", lambda *_: None)
    refused(
        fairseq_train, data_bin, store, tmp_path, MismatchError,
        r"sample \d+ of split 0 .*: expected checksum 0x",
    )  # fmt: skip
