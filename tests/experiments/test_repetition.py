"""``for`` and ``include``: what they write out, and where their mistakes are named."""

import pytest

from fairseq_ki.checked_yaml import YamlFileError
from fairseq_ki.experiments.recipe import load
from fairseq_ki.experiments.recipe_file import RecipeFile
from fairseq_ki.experiments.repetition import repeated

BASE = """\
name: base
data: d
common: {task: ki_mlm}
models: {small: {arch: s, lr: 1e-3}}
runs:
  teacher: {seed: 1, folder: shared, extends: small}
  self: {extends: small}
scales:
  big:
    models: {small: {arch: b}}
"""
RECIPE = """\
include: base.yaml
name: own
runs:
  self: null
  "ki_{h}":
    for: [{h: 4, steps: 22}, {h: 6, steps: 35}]
    extends: small
    teachers: [teacher]
    options: {ki-steps: "{steps}", ki-teacher: "{runs.teacher}/c.pt"}
compare:
  - {for: {h: [4, 6]}, inherited: "ki_{h}", alone: teacher}
scales:
  huge:
    extends: big
    runs: {"ki_{h}": {for: [{h: 8, steps: 55}]}}
    compare: []
"""


@pytest.fixture
def write(tmp_path):
    (tmp_path / "base.yaml").write_text(BASE)

    def written(text):
        (tmp_path / "recipe.yaml").write_text(text)
        return tmp_path / "recipe.yaml"

    return written


def test_values_fill_keys_and_text(write):
    recipe = load(write(RECIPE))
    runs = {run.name: run for run in recipe.runs}
    assert list(runs) == ["teacher", "ki_4", "ki_6"]
    assert runs["ki_6"].options["ki-steps"] == 35
    assert runs["ki_6"].options["ki-teacher"] == "{runs.teacher}/c.pt"  # filled in by the plan
    assert [c.inherited for c in recipe.compare] == ["ki_4", "ki_6"]
    assert recipe.name == "own"


def test_scales_extend_scales_and_change_what_is_repeated(write):
    runs = {run.name: run for run in load(write(RECIPE), "huge").runs}
    assert list(runs) == ["teacher", "ki_8"]
    assert runs["ki_8"].options["arch"] == "b"
    with pytest.raises(YamlFileError, match=r"scales\.huge\.extends: expected a scale among"):
        load(write(RECIPE.replace("extends: big", "extends: huge")), "huge")


def test_combinations(write):
    source = RecipeFile(write('"{a}{b}": {for: {a: [x, y], b: [1, 2]}, v: "{b}", w: "{a}-{c}"}\n'))
    assert repeated(source, source.data) == {
        f"{a}{b}": {"v": b, "w": f"{a}-{{c}}"} for a in "xy" for b in (1, 2)
    }


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('"ki_{h}":\n    for', '"ki":\n    for', r"line 5: runs\.ki: .*with a \{name\} of its for"),
        ("for: [{h: 4, steps: 22}, {h: 6, steps: 35}]", "for: 4", r"line 6: runs.*a list of map"),
        ('ki-steps: "{steps}"', "ki-steps: many", r"recipe\.yaml, line 9: .*a number of updates"),
        ("include: base.yaml", "include: none.yaml", r"line 1: include: expected the path"),
        ("include: base.yaml", "include: recipe.yaml", r"do not include each other"),
        (
            "    teachers: [teacher]",
            "    folder: shared\n    teachers: [self]",
            r"other runs among",
        ),
        ("extends: small", "extends: big", r"line 7: .*a run or model among"),
    ],
)
def test_mistakes(write, old, new, message):
    assert old in RECIPE
    with pytest.raises(YamlFileError, match=message):
        load(write(RECIPE.replace(old, new, 1)))


def test_mistakes_of_the_included_file_name_it(write, tmp_path):
    file = write(RECIPE)
    (tmp_path / "base.yaml").write_text(BASE.replace("seed: 1", "sead: 1"))
    with pytest.raises(YamlFileError, match=r"base\.yaml, line 6: runs\.teacher\.sead"):
        load(file)


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ("tables: [{title: t, columns: [a, b], rows: [{label: x, cells: [y]}]}]", "a run among"),
        ("tables: [{title: t, columns: [a, b], rows: [{label: x, cells: []}]}]", "1 of them"),
        ("tables: [{title: t, columns: [a, b], rows: [{label: x, cells: ['ki_4@']}]}]", "NAME@32%"),
        ("findings: [{claim: c, rule: ki_4}]", "two cells or more"),
        ("findings: [{claim: c, rule: 'ki_4 < ki_5'}]", r"findings\.0\.rule: .*'ki_5'"),
        ("curves: [ki_5]", r"curves\.0: expected a training run"),
    ],
)
def test_tables_findings_and_curves_name_runs(write, more, message):
    with pytest.raises(YamlFileError, match=message):
        load(write(RECIPE + more + "\n"))
