"""A mixture that is changed between a run and its resume is refused, unless that is asked for."""

from dataclasses import replace

import pytest

from fairseq_ki.tasks._mixture_file import Domain, TeacherEntry
from fairseq_ki.tasks._mixture_record import check_resumed, mixture_record

KI = "--task ki_mlm --criterion ki"
LIVE = TeacherEntry("big.pt", None, 1.0, "dict.txt", "m.yaml, line 3")
STORED = TeacherEntry(None, "store", 0.5, None, "m.yaml, line 4")
ONE = Domain("one", "data/one", 1.0, (LIVE, STORED), "m.yaml, line 2")
TWO = Domain("two", "data/two", 2.0, (), "m.yaml, line 6")


def test_the_same_mixture_written_otherwise(tmp_path, monkeypatch):
    """Elsewhere in the file, with other names of the same places."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "link").symlink_to("data")
    one = replace(ONE, data=str(tmp_path / "link" / "one"), where="n.yaml, line 9")
    check_resumed(mixture_record([ONE, TWO]), [one, replace(TWO, data="data/../data/two")], "save")
    check_resumed({}, [], "save")


def test_another_working_directory(tmp_path, monkeypatch):
    """Data that are named from there are the same; or all of it was moved there."""
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
    monkeypatch.chdir(tmp_path / "a")
    hub = replace(LIVE, checkpoint="hf:hub", dictionary=None)
    record = mixture_record([replace(ONE, teachers=(hub, STORED))])
    monkeypatch.chdir(tmp_path / "b")
    there = replace(
        ONE,
        data="../a/data/one",
        teachers=(replace(hub, checkpoint="hf:../a/hub"), replace(STORED, store="../a/store")),
    )
    check_resumed(record, [there], "save")
    check_resumed(record, [replace(ONE, teachers=(hub, STORED))], "save")
    with pytest.raises(ValueError, match=r"one.data: expected data/one, found ../data/one\)"):
        check_resumed(record, [replace(there, data="../data/one")], "save")


def test_what_was_moved_and_linked(tmp_path, monkeypatch):
    """At its old place there is a link; or its place is what the link led to."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data" / "one").mkdir(parents=True)
    record = mixture_record([ONE])
    (tmp_path / "data").rename("moved")
    (tmp_path / "data").symlink_to("moved")
    check_resumed(record, [ONE], "save")
    check_resumed(mixture_record([ONE]), [replace(ONE, data="moved/one")], "save")


def test_a_record_of_before(tmp_path, monkeypatch):
    """It has paths as they were named."""
    monkeypatch.chdir(tmp_path)
    old = {
        name: entry["path"] if isinstance(entry, dict) else entry
        for name, entry in mixture_record([ONE, TWO]).items()
    }
    check_resumed(old, [ONE, replace(TWO, data=str(tmp_path / "data" / "two"))], "save")
    with pytest.raises(ValueError, match="one.data: expected data/one, found data/two"):
        check_resumed(old, [replace(ONE, data="data/two"), TWO], "save")


@pytest.mark.parametrize(
    ("mixture", "words"),
    [
        ([TWO, ONE], "domains: expected one, two, found two, one"),
        ([ONE], "domains: expected one, two, found one)"),
        ([], "domains: expected one, two, found none"),
        ([ONE, replace(TWO, name="three")], "domains: expected one, two, found one, three)"),
        ([ONE, replace(TWO, data="data/three")], "two.data: expected data/two, found data/three)"),
        ([ONE, replace(TWO, weight=3.0)], "two.weight: expected 2.0, found 3.0)"),
        (
            [replace(ONE, teachers=(STORED, LIVE)), TWO],
            "one.teachers.0.checkpoint: expected big.pt, found none; one.teachers.0.dict: expected "
            "dict.txt, found none; one.teachers.0.weight: expected 1.0, found 0.5; and 5 more)",
        ),
        (
            [replace(ONE, teachers=(LIVE, replace(STORED, store="other"))), TWO],
            "one.teachers.1.store: expected store, found other)",
        ),
        (
            [replace(ONE, teachers=(LIVE, replace(STORED, weight=1.0))), TWO],
            "one.teachers.1.weight: expected 0.5, found 1.0)",
        ),
        (
            [replace(ONE, teachers=(replace(LIVE, dictionary=None), STORED)), TWO],
            "one.teachers.0.dict: expected dict.txt, found none)",
        ),
        ([ONE, replace(TWO, teachers=(STORED,))], "two.teachers.0.store: expected none, found st"),
    ],
)
def test_another_mixture_is_named_by_what_differs(mixture, words):
    with pytest.raises(ValueError, match=r"^--save-dir save: .*--reset-dataloader") as refusal:
        check_resumed(mixture_record([ONE, TWO]), mixture, "save")
    assert f"found another one ({words}" in str(refusal.value)


def test_a_resumed_run(fairseq_train, data_bin, tmp_path):
    file, save_dir = tmp_path / "mixture.yaml", tmp_path / "run"

    def train(domains: str, updates: int, extra: str = ""):
        file.write_text(f"domains:\n{domains}")
        option = f"--ki-mixture {file}" if domains else ""
        command = f"{KI} {option} --max-update {updates} {extra}"
        return fairseq_train(data_bin, save_dir, command).train

    one, two = (f"  {name}: {{data: {data_bin}}}\n" for name in ("one", "two"))
    train(one, 2)
    written = (save_dir / "checkpoint_last.pt").read_bytes()
    for domains, found in ((one + two, "one, two"), ("", "none")):
        with pytest.raises(ValueError, match=f"domains: expected one, found {found}"):
            train(domains, 4)
    with pytest.raises(ValueError, match="domains: expected one"):  # the place in the data stays
        train(two, 4, "--reset-optimizer")
    assert (save_dir / "checkpoint_last.pt").read_bytes() == written
    train("# the same\n" + one.replace("}", ", weight: 1}"), 3)
    grown = train(one + two, 5, "--reset-dataloader")
    assert [(r["num_updates"], r["epoch"]) for r in grown] == [("4", 1), ("5", 1)]
    assert {"one_loss", "two_loss"} <= set(grown[0])
    assert len(train(one + two, 6)) == 1  # asked for once
