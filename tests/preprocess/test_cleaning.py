import unicodedata

from _cleaning import clean_line, documents, duplicate_key
from hypothesis import given, settings
from hypothesis import strategies as st


@settings(deadline=None)
@given(st.text(st.characters(codec=None)))
def test_clean_lines_are_normal_and_free_of_controls(line: str) -> None:
    cleaned = clean_line(line)
    assert clean_line(cleaned) == cleaned
    assert unicodedata.is_normalized("NFC", cleaned)
    assert not {unicodedata.category(c) for c in cleaned} & {"Cc", "Cs", "Co", "Zl", "Zp"}
    assert cleaned.split() == (cleaned.split(" ") if cleaned else [])
    cleaned.encode("utf-8")


@settings(deadline=None)
@given(st.text(st.characters(categories=["L", "N", "P", "S"])))
def test_cleaning_keeps_what_can_be_seen(line: str) -> None:
    assert clean_line(line) == unicodedata.normalize("NFC", line)


def test_clean_line_example() -> None:
    assert clean_line(" a\u2028b\x00\x07c\u00a0 \t d\ufeffe\u0301 \r") == "a bc d\u00e9"
    assert clean_line("e\x00\u0301") == "\u00e9"  # what dropping brings together is composed


def test_documents_are_parted_by_lines_without_text() -> None:
    lines = ["", "one ", "two", " \x00\u2003", "", "three", "\t"]
    assert list(documents(lines)) == [["one", "two"], ["three"]]


def test_duplicates_agree_in_letters_and_digits_alone() -> None:
    key = duplicate_key(["The Teacher, 2 layers."])
    assert key == duplicate_key(["the", "teacher -- 2", "LAYERS!"])
    assert key == duplicate_key(["\uff34he Teacher 2 layers"])
    assert key != duplicate_key(["The Teacher, 3 layers."])
    assert duplicate_key(["..."]) != duplicate_key(["!!!"])
