import json
from pathlib import Path

import proximity
import pytest
from _files import Refusal


@pytest.fixture
def domains(tmp_path: Path) -> list[Path]:
    texts = {
        "cats": "Cat cat CAT cat; dog dog dog the the the the bird bird fish, rare",
        "dogs": "dog dog dog dog cat cat bone bone bone the a an of fur",
        "cars": "wheel wheel wheel road road the engine engine rare",
    }
    paths = []
    for name, text in texts.items():
        paths.append(tmp_path / f"{name}.train.txt")
        paths[-1].write_text(text + "\n")
    return paths


def test_most_frequent_breaks_ties_by_the_alphabet() -> None:
    counts = {"b": 2, "a": 2, "c": 3, "d": 1}
    assert proximity.most_frequent(counts, 2) == {"c", "a"}


def test_words_are_counted_without_case_punctuation_and_stop_words(domains: list[Path]) -> None:
    counts = proximity.count_words(domains[0], {"the"})
    assert counts == {"cat": 4, "dog": 3, "bird": 2, "fish": 1, "rare": 1}


def test_matrix_of_three_domains(
    domains: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "table.json"
    proximity.main([*map(str, domains), "--top", "3", "--json", str(out)])
    # cat dog bird | dog bone cat | wheel engine road: two of three, none, none
    rows = [line.split() for line in capsys.readouterr().out.splitlines()[1:]]
    assert rows == [
        ["cats", "dogs", "cars"],
        ["cats", "100.0", "66.7", "0.0"],
        ["dogs", "66.7", "100.0", "0.0"],
        ["cars", "0.0", "0.0", "100.0"],
    ]
    record = json.loads(out.read_text())
    assert record["top"] == 3
    percents = {tuple(p["domains"]): p["percent"] for p in record["overlap_percent"]}
    assert percents["cats", "dogs"] == pytest.approx(200 / 3)
    assert len(percents) == 3
    with pytest.raises(Refusal, match="--overwrite"):
        proximity.main([*map(str, domains), "--top", "3", "--json", str(out)])


def test_names_repeat_the_path_where_stems_clash() -> None:
    assert proximity.names_of([Path("a/cs.train.txt"), Path("wb.txt.xz")]) == ["cs", "wb"]
    assert proximity.names_of([Path("a/t.txt"), Path("b/t.txt")]) == ["a/t.txt", "b/t.txt"]


def test_refusals(domains: list[Path], tmp_path: Path) -> None:
    with pytest.raises(Refusal, match="10,000 different words"):
        proximity.main([str(path) for path in domains])
    with pytest.raises(Refusal, match="two or more"):
        proximity.main([str(domains[0])])
    with pytest.raises(Refusal, match="found nothing"):
        proximity.main([str(domains[0]), str(tmp_path / "none")])
