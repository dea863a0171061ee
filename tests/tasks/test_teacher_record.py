"""A run that goes on where no teacher speaks any more is told of a teacher that it did not have."""

import shutil

import pytest
import torch
from trained import KI, capture

from fairseq_ki.tasks._teacher_record import is_among

GONE = {"domain": "", "path": "/a", "sha256": None}


@pytest.mark.parametrize(
    ("teacher", "other", "same"),
    [
        ({}, {}, True),
        ({"path": "/b"}, {}, True),
        ({"sha256": "2"}, {}, False),
        ({"domain": "b"}, {}, False),
        ({"sha256": None}, {}, True),
        ({"sha256": None, "path": "/b"}, {}, False),
        ({}, {"sha256": None}, True),
    ],
)
def test_teachers_are_known_by_content_and_by_place_without_it(teacher, other, same):
    whole = {"domain": "a", "path": "/a", "sha256": "1"}
    assert is_among({**whole, **teacher}, [GONE, {**whole, **other}]) is same


@pytest.fixture
def end(fairseq_train, data_bin, teacher, tmp_path):
    """A run that heard its teacher in 2 of 3 updates, and what goes on with it."""
    copy = tmp_path / "teacher"
    shutil.copytree(teacher.parent, copy)

    def train(words: str, updates: int):
        command = f"{KI} --ki-steps 2 --max-update {updates} {words}"
        return fairseq_train(data_bin, tmp_path / "run", command).train

    train(f"--ki-teacher {copy / teacher.name}", 3)
    return train


def test_a_new_teacher_is_refused(end, second_teacher, data_bin, tmp_path):
    message = r"--ki-teacher .*: expected a teacher that .* found a new one.*; .* drop --ki-teacher"
    with pytest.raises(SystemExit, match=message) as refusal:
        end(f"--ki-teacher {second_teacher}", 4)
    assert "raise --ki-steps above 3" in str(refusal.value)
    store = capture(data_bin, second_teacher, tmp_path / "store", "--encoding topk --k 5")
    with pytest.raises(SystemExit, match="drop --ki-store"):
        end(f"--ki-store {store}", 4)


def test_the_same_teacher_elsewhere_stored_or_deleted(end, data_bin, teacher, tmp_path):
    assert len(end(f"--ki-teacher {teacher}", 4)) == 1
    store = capture(data_bin, teacher, tmp_path / "store", "--encoding topk --k 5")
    assert len(end(f"--ki-store {store}", 5)) == 1
    shutil.rmtree(store)
    assert len(end(f"--ki-store {store}", 6)) == 1


def test_a_checkpoint_without_a_record(end, second_teacher, tmp_path):
    path = tmp_path / "run" / "checkpoint_last.pt"
    state = torch.load(path, weights_only=True)
    del state["extra_state"]["KIMaskedLMTask"]["teachers"]
    torch.save(state, path)
    assert len(end(f"--ki-teacher {second_teacher}", 4)) == 1


@pytest.mark.parametrize("surpassed", [False, True])
def test_a_domain_that_is_added_too_late(
    fairseq_train, data_bin, second_bin, teacher, second_teacher, tmp_path, surpassed
):
    file = tmp_path / "m.yaml"
    rate = "--ki-steps 2"
    if surpassed:  # in an update at the latest in which the untrained student is better
        rate = "--ki-schedule constant --ki-stop-when-surpassed --ki-surpassed-window 1 --lr 1e-2"

    def train(updates: int, words: str = "", **domains):
        lines = [
            f"  {name}: {{data: {data}, teachers: [{{checkpoint: {path}}}]}}\n"
            for name, (data, path) in domains.items()
        ]
        file.write_text("domains:\n" + "".join(lines))
        command = f"{KI} --ki-mixture {file} {rate} --max-update {updates} {words}"
        return fairseq_train(data_bin, tmp_path / "run", command).train

    one = {"one": (data_bin, teacher)}
    end = 60 if surpassed else 3
    assert float(train(end, **one)[-1]["ki_rate"]) == 0
    for new in (second_teacher, teacher):
        with pytest.raises(SystemExit, match=r"m.yaml, line 3: domains.two.teachers") as refusal:
            train(end + 1, "--reset-dataloader", **one, two=(second_bin, new))
        assert "take the teachers out of the file of --ki-mixture" in str(refusal.value)
        assert ("--ki-steps" in str(refusal.value)) is not surpassed
    assert len(train(end + 1, "--reset-dataloader", **one)) == 1
