"""What a lineage.json may hold, and what it costs to read one that was made to hurt."""

import json
import time

import pytest

from fairseq_ki.lineage import (
    Lineage,
    LineageError,
    Model,
    Parent,
    costs,
    merged,
    read_lineage,
    tree,
    write_lineage,
)
from fairseq_ki.store import DamageError

BASE = Model("trained", "base", "roberta_base", {"layers": 12, "d_model": 768}, 100, 1e6, 3e9)


def family() -> Lineage:
    """G1 teaches G2 and G3, G2 teaches G3, which was grown from G1."""
    g1 = Lineage("g1", {"g1": BASE})
    by_g1 = Parent("g1", "teacher", "g1/checkpoint_best.pt", "ab", 90, 1e9)
    g2 = merged("g2", Model("trained", "plus", "p", updates=50, flops=5e9, parents=(by_g1,)), [g1])
    grown = Model("grown", "init", "l", flops=0.0, parents=(Parent("g1", "origin", "g1/c.pt"),))
    start = merged("i", grown, [g1])
    parents = (
        Parent("g1", "teacher", "g1/checkpoint_best.pt", flops=1e9),
        Parent("g2", "teacher", "g2/checkpoint_best.pt", flops=2e9),
        Parent("i", "start", "init/init.pt"),
    )
    own = Model("trained", "large", "roberta_large", updates=70, flops=7e9, parents=parents)
    return merged("g3", own, [g1, g2, start])


def test_a_file_is_read_as_it_was_written(tmp_path):
    write_lineage(family(), str(tmp_path))
    assert read_lineage(str(tmp_path / "lineage.json")) == family()
    assert json.loads((tmp_path / "lineage.json").read_text())["model"] == "g3"


def test_a_shared_ancestor_is_counted_once():
    found = costs(family())
    assert found.training == 3e9 + 5e9 + 7e9
    assert found.teaching == 1e9 + 1e9 + 2e9
    assert found.total == found.training + found.teaching
    assert found.unknown == ()


def test_the_tree():
    lines = tree(family()).splitlines()
    assert lines[0] == "large (roberta_large, 70 updates, 7e+09 FLOPs)"
    assert lines[1].startswith("├─ taught by g1/checkpoint_best.pt: base (roberta_base, 12 layers")
    assert lines[1].endswith("3e+09 FLOPs), 1e+09 FLOPs of its passes")
    assert lines[2].startswith("├─ taught by g2/checkpoint_best.pt: plus")
    assert lines[3].startswith("│  └─ taught by g1/checkpoint_best.pt: base")
    assert lines[4].startswith("└─ began as init/init.pt: init (l, no training)")
    assert lines[5].startswith("   └─ grown from g1/c.pt: base")
    assert lines[6].startswith("total: 1.9e+10 FLOPs of 4 models, each counted once (1.5e+10 train")
    assert len(lines) == 7


def test_what_is_not_known_is_said():
    own = Model("trained", "large", flops=7e9, parents=(Parent("s", "teacher", "stores/wb"),))
    lineage = merged("g", own, [Lineage("s", {"s": Model("store", "wb")})])
    assert costs(lineage).unknown == ("s",)
    assert "at least: some are not known" in tree(lineage)
    assert "FLOPs not known" in tree(lineage)


def test_of_two_records_the_longer_run_counts():
    longer = Model("trained", "base", updates=200, flops=6e9)
    known_less = Model("checkpoint", "base", updates=900)
    own = Model("trained", "x", parents=(Parent("g1", "teacher", "c.pt"),))
    families = [Lineage("g1", {"g1": model}) for model in (BASE, longer, known_less)]
    assert merged("x", own, families).models["g1"] == longer


def circle(n: int) -> dict:
    models = {
        f"m{i}": {
            "how": "trained",
            "name": "x",
            "parents": [{"model": f"m{(i + 1) % n}", "role": "teacher", "file": "f"}],
        }
        for i in range(n)
    }
    return {"format": "fairseq-ki lineage", "version": 1, "model": "m0", "models": models}


def one(**changes) -> dict:
    model = {"how": "trained", "name": "x", **changes}
    return {"format": "fairseq-ki lineage", "version": 1, "model": "m", "models": {"m": model}}


def parent(**changes) -> dict:
    return one(parents=[{"model": "m", "role": "teacher", "file": "f", **changes}])


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "expected JSON"),
        ("[" * 100_000, "expected JSON"),
        ('{"a":' * 100_000, "expected JSON"),
        ("[1, 2]", "expected a JSON object"),
        ("9" * 10_000, "expected JSON"),
        (json.dumps(one()).replace('"x"', "NaN"), "the number NaN"),
        ({"format": "other"}, "expected format"),
        ({**one(), "version": 2}, "expected format"),
        ({**one(), "models": []}, "expected an object"),
        ({**one(), "model": 3}, "expected printable text"),
        ({**one(), "model": "nobody"}, "none with id nobody"),
        (circle(1), "its own ancestor: m0"),
        (circle(2), "its own ancestor: m0"),
        (circle(900), "its own ancestor: m0"),
        (circle(1001), "at most 1000"),
        (one(how="stolen"), "how: expected one of"),
        (one(name="\x1b[2Jgone"), r"printable text, found '\\x1b"),
        (one(name="x" * 5000), "printable text"),
        (one(flops=-1), "expected a number of at least 0"),
        (one(flops=True), "expected a number of at least 0"),
        (one(updates="7"), "expected a number"),
        (one(unheard_of=1), "expected an object with entries among"),
        (one(sizes=[1]), "sizes: expected an object"),
        (one(sizes={"layers": "many"}), "expected a number"),
        (one(data={"bin": "\x07"}), "printable text"),
        (one(parents={}), "expected a list"),
        (one(parents=[3]), "expected an object with entries among"),
        (parent(role="uncle"), "role: expected one of"),
        (parent(model="n"), "none with id n"),
        (parent(sha256=7), "printable text"),
    ],
)
def test_what_is_not_a_lineage_is_refused(tmp_path, content, message):
    path = tmp_path / "lineage.json"
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    with pytest.raises((LineageError, DamageError), match=message) as refusal:
        read_lineage(str(path))
    assert str(path) in str(refusal.value)
    assert len(str(refusal.value)) < 600


def test_a_number_beyond_all_numbers_is_refused(tmp_path):
    path = tmp_path / "lineage.json"
    path.write_text(json.dumps(one(flops=7)).replace("7", "1e999"))
    with pytest.raises(LineageError, match="expected a number of at least 0"):
        read_lineage(str(path))


def test_a_huge_file_is_not_read(tmp_path):
    path = tmp_path / "lineage.json"
    with open(path, "wb") as file:
        file.truncate(1 << 40)
    with pytest.raises(LineageError, match="at most 8,388,608 bytes"):
        read_lineage(str(path))


def test_a_file_that_was_made_to_fill_a_disk():
    """1,000 generations, each with 150 teachers that are one: 385 MB of indents, from 6.5."""
    models = {"m999": Model("trained", "x", flops=1.0)}
    for i in range(998, -1, -1):
        parents = [Parent(f"m{i + 1}", "start", "f")] + [Parent("m999", "teacher", "f")] * 150
        models[f"m{i}"] = Model("trained", "x", flops=1.0, parents=tuple(parents))
    lines = tree(Lineage("m0", models)).splitlines()
    assert sum(map(len, lines)) < 5e6
    assert lines[-2] == "..."
    assert "FLOPs of 1000 models" in lines[-1]


def test_a_long_chain_and_many_paths_are_quick():
    """Every model is shown once, whatever the number of ways to it (here 2^499)."""
    models = {"m999": Model("trained", "x", flops=1.0)}
    for i in range(998, -1, -1):
        nearest = [f"m{j}" for j in (i + 1, i + 2) if j < 1000]
        parents = tuple(Parent(m, "teacher", "f") for m in nearest)
        models[f"m{i}"] = Model("trained", "x", flops=1.0, parents=parents)
    begun = time.monotonic()
    lineage = Lineage("m0", models)
    assert costs(lineage).training == 1000
    assert len(tree(lineage).splitlines()) == 1 + 999 * 2 - 1 + 1
    assert time.monotonic() - begun < 5
