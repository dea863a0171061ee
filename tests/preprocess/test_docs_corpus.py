import importlib.metadata
import json
from pathlib import Path

import docs_corpus
import pytest
from _files import Refusal

SOURCE = '''
"""Module text."""
raise SystemExit("sources are parsed, never run")
def function():
    """Function text."""
    plain = "not documentation"
class C:
    """Class text."""
    attribute = 1
    """Attribute text."""
add_docstr(f, r"""First line
of {what}.""".format(what="words"))
module.add_newdoc("a", "b", """Other line
of words.""")
print("""Two lines
that are no documentation""")
'''


def test_strings_are_docstrings_and_arguments_of_doc_functions() -> None:
    assert sorted(docs_corpus.strings(SOURCE)) == [
        "Attribute text.",
        "Class text.",
        "First line\nof {what}.",
        "Function text.",
        "Module text.",
        "Other line\nof words.",
    ]


def test_topics_are_the_long_strings_of_a_dictionary() -> None:
    assert list(docs_corpus.topics("topics = {'assert': 'One.\\n\\nTwo.', 'b': 'short'}")) == [
        "One.\n\nTwo."
    ]


def test_python_sources_are_sorted_without_tests_and_repeated_stubs(tmp_path: Path) -> None:
    names = ["b.py", "a.py", "a.pyi", "c.pyi", "tests/d.py", "x/_vendor/e.py", "f.txt", "x/g.py"]
    chosen = docs_corpus.python_sources([tmp_path / name for name in names], tmp_path)
    assert [str(path.relative_to(tmp_path)) for path in chosen] == [
        "a.py",
        "b.py",
        "c.pyi",
        "x/g.py",
    ]


def test_sources_that_do_not_parse_are_counted(tmp_path: Path) -> None:
    (tmp_path / "bad.py").write_text("def (:")
    (tmp_path / "bytes.py").write_bytes(b'"""caf\xe9"""')
    (tmp_path / "good.py").write_text('"""Good."""')
    record: dict = {}
    assert docs_corpus.texts_of(sorted(tmp_path.iterdir()), record) == ["Good."]
    assert record == {"files": 3, "files_not_parsed": 2}


def test_repeated_paragraphs_are_kept_once() -> None:
    first = ["this is said in all of the places where it is needed", "and this in one of them"]
    second = [first[0], "while this is what the second one of the two has to say"]
    pairs = [("a", first), ("b", second), ("c", [first[0], "too short"])]
    assert list(docs_corpus.without_repeats(pairs)) == [("a", first), ("b", second[1:])]


def test_corpus_of_packages_is_deterministic_and_says_what_it_is_made_of(tmp_path: Path) -> None:
    options = ["--packages", "pluggy", "packaging", "--valid-every", "20", "--out-dir"]
    for name in ("one", "two"):
        docs_corpus.main([*options, str(tmp_path / name)])
    for name in ("train.txt", "valid.txt", "corpus.json"):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()
    record = json.loads((tmp_path / "one" / "corpus.json").read_text())
    assert record["sources"]["pluggy"]["version"] == importlib.metadata.version("pluggy")
    kept = [source["documents"] for source in record["sources"].values()]
    assert sum(kept) == record["documents"]["kept"] > 100
    assert all(source["texts"] >= source["texts_of_prose"] for source in record["sources"].values())
    docs_corpus.main([*options, str(tmp_path / "other"), "--seed", "2"])
    one, other = ((tmp_path / name / "train.txt").read_text() for name in ("one", "other"))
    assert one != other


def test_unknown_packages_are_refused(tmp_path: Path) -> None:
    with pytest.raises(Refusal, match="no-such-package"):
        docs_corpus.main(["--packages", "no-such-package", "--out-dir", str(tmp_path)])


def test_this_projects_own_text_is_left_out() -> None:
    assert "fairseq-ki" not in docs_corpus.installed()
