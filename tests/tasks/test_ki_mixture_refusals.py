"""Mixtures that are refused before any training, with the line."""

import shutil

import pytest
from trained import KI, capture

from fairseq_ki.store import MismatchError, UnfinishedError


@pytest.mark.parametrize(
    ("extra", "message"),
    [
        ("--ki-teacher TEACHER", "--ki-teacher: expected teachers in the file of --ki-mixture"),
        ("--ki-store STORE", "--ki-store: expected teachers in the file"),
        ("--ki-teacher-dict d", "--ki-teacher-dict: expected teachers in the file"),
        ("--ki-tail", "--ki-tail: expected a store in the mixture"),
        ("--skip-masking", "--skip-masking"),
        ("--ki-mixture no.yaml", r"no\.yaml: expected a file"),
    ],
)
def test_options_that_contradict_a_mixture(
    fairseq_train, data_bin, teacher, dense_stores, mixture, tmp_path, extra, message
):
    extra = extra.replace("TEACHER", str(teacher)).replace(
        "STORE", str(dense_stores["first", "one"])
    )
    option = mixture(f"{{checkpoint: {teacher}}}")
    with pytest.raises(ValueError, match=message):
        fairseq_train(data_bin, tmp_path / "run", f"{KI} {option} --ki-steps 4 {extra}")


def test_files_that_are_wrong(
    fairseq_train, data_bin, second_bin, teacher, dense_stores, mixture, tmp_path
):
    """Refused before any training, with the line."""
    extra = f"{KI} --ki-steps 4 --max-update 2 "
    live, stored = f"{{checkpoint: {teacher}}}", f"{{store: {dense_stores['first', 'one']}}}"
    with pytest.raises(ValueError, match=r"line 2: domains\.one\.teachers\.1: .*found none at"):
        fairseq_train(data_bin, tmp_path / "a", extra + mixture(f"{live}, {{checkpoint: no.pt}}"))
    with pytest.raises(UnfinishedError, match=r"line 2: domains\.one\.teachers\.0: "):
        fairseq_train(data_bin, tmp_path / "b", extra + mixture(f"{{store: {tmp_path}}}"))
    with pytest.raises(MismatchError, match=r"line 3: domains\.two\.teachers\.0: .*data-bin split"):
        fairseq_train(data_bin, tmp_path / "c", extra + mixture("", stored))
    twice = capture(data_bin, teacher, tmp_path / "s", "--encoding topk --k 3 --mask-epochs 2")
    with pytest.raises(MismatchError, match=r"line 2: domains\.one: .*mask epochs.*found 1, 2"):
        fairseq_train(data_bin, tmp_path / "d", extra + mixture(f"{stored}, {{store: {twice}}}"))
    tailed = capture(data_bin, teacher, tmp_path / "t", "--encoding topk --k 3 --tail")
    both = mixture(f"{live}, {{store: {tailed}}}")
    with pytest.raises(ValueError, match=r"line 2: domains\.one: expected one teacher for --ki-ta"):
        fairseq_train(data_bin, tmp_path / "e", f"{extra} {both} --ki-tail")
    alone = mixture(f"{{store: {tailed}}}", live)
    run = fairseq_train(data_bin, tmp_path / "f", f"{extra} {alone} --ki-tail --ki-temperature 1")
    assert float(run.train[0]["one_teacher_ppl"]) > 1
    with pytest.raises(ValueError, match="one directory as DATA"):
        fairseq_train(f"{data_bin}:{second_bin}", tmp_path / "g", extra + mixture(live))
    shutil.copytree(data_bin, tmp_path / "half")
    (tmp_path / "half" / "train.idx").unlink()
    file = tmp_path / "half.yaml"
    file.write_text(f"domains:\n  half: {{data: {tmp_path / 'half'}}}\n")
    with pytest.raises(ValueError, match=r"line 2: domains\.half: .*'train'"):
        fairseq_train(data_bin, tmp_path / "h", f"{KI} --max-update 2 --ki-mixture {file}")
    assert not list(tmp_path.glob("[a-eg-h]/*.pt"))
