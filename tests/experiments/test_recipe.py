"""Recipes are checked before anything runs, and mistakes are named with their line."""

from pathlib import Path

import pytest
import yaml

from fairseq_ki.checked_yaml import YamlFileError
from fairseq_ki.experiments.options import shortened, words
from fairseq_ki.experiments.recipe import load

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"

GOOD = """\
name: small
data: "{out}/data-bin"
common:
  task: ki_mlm
  log-interval: 10
runs:
  ki:
    role: inherited
    extends: self
    teachers: [teacher]
    options: {ki-teacher: "{runs.teacher}/checkpoint_best.pt", ki-steps: 30, dropout: null}
  self:
    role: alone
    options: {arch: a, lr: 1e-3, dropout: 0.1, max-update: 60, fp16: true}
  teacher:
    options: {arch: b, max-update: "120"}
  fine:
    kind: command
    command: [fairseq-ki, finetune, "{runs.ki}", --seed, "{seed}"]
compare:
  - {inherited: ki, alone: self, paper: {saving: 0.273}}
report-updates: [20, 60]
scales:
  paper:
    common: {log-interval: 100}
    runs: {self: {options: {max-update: 125000, fp16: false}}}
"""


def read(tmp_path, text, **how):
    file = tmp_path / "recipe.yaml"
    file.write_text(text)
    return load(file, **how)


def runs_of(recipe):
    return {run.name: run for run in recipe.runs}


def test_runs_are_ordered_and_inherit_options(tmp_path):
    recipe = read(tmp_path, GOOD)
    assert [run.name for run in recipe.runs] == ["teacher", "ki", "self", "fine"]
    ki = runs_of(recipe)["ki"]
    assert ki.needs == ki.teachers == ("teacher",)
    assert "dropout" not in ki.options
    assert ki.options["arch"] == "a"
    assert ki.options["log-interval"] == 10
    assert runs_of(recipe)["fine"].needs == ("ki",)
    assert recipe.seeds == (1,)


def test_scale(tmp_path):
    runs = runs_of(read(tmp_path, GOOD, scale="paper"))
    assert runs["ki"].options["max-update"] == 125000  # through extends
    assert "fp16" not in runs["self"].options
    assert runs["teacher"].options["log-interval"] == 100
    with pytest.raises(YamlFileError, match=r"a scale among \['paper'\], found 'huge'"):
        read(tmp_path, GOOD, scale="huge")


def test_findings_of_a_scale_join_the_recipes_own(tmp_path):
    own = """\
findings:
  - {claim: It helps., rule: "ki < self"}
  - {claim: "By more than one point.", rule: "ki < 0.9 * self"}
  - {claim: The teacher is worse., rule: "teacher > self"}
  - {claim: Fine., rule: "fine:f1 > 70"}
"""
    scales = """\
scales:
  paper:
    runs: {fine: null}
    findings:
      - {claim: It helps a lot., rule: "ki < self"}
      - {claim: "By more than one point.", rule: "ki < 0.5 * self"}
"""
    text = GOOD[: GOOD.index("scales:")] + own + scales
    assert [f["claim"] for f in read(tmp_path, text).findings] == [
        "It helps.", "By more than one point.", "The teacher is worse.", "Fine."
    ]  # fmt: skip
    at_scale = [(f["claim"], f["rule"]) for f in read(tmp_path, text, scale="paper").findings]
    assert at_scale == [
        ("It helps a lot.", "ki < self"),
        ("By more than one point.", "ki < 0.5 * self"),
        ("The teacher is worse.", "teacher > self"),
    ]
    without = text[: text.index("    findings:\n      -")]  # the scale says nothing itself
    assert len(read(tmp_path, without, scale="paper").findings) == 3
    with pytest.raises(YamlFileError, match="claim"):
        read(tmp_path, without.replace("claim: It helps., ", ""), scale="paper")


def test_shorten_divides_lengths_only(tmp_path):
    recipe = read(tmp_path, GOOD, shorten=25)
    ki = runs_of(recipe)["ki"].options
    assert (ki["max-update"], ki["ki-steps"], ki["log-interval"]) == (3, 2, 1)
    assert ki["lr"] == "1e-3"
    assert runs_of(recipe)["teacher"].options["max-update"] == 5
    assert recipe.report_updates == (1, 3)
    with pytest.raises(ValueError, match="--shorten: expected a number of at least 1, found 0"):
        read(tmp_path, GOOD, shorten=0)


def test_other_data(tmp_path):
    assert {r.data for r in read(tmp_path, GOOD, data="x/bin").runs} == {"x/bin"}


def test_words():
    options = {"a": True, "b": [1, 2], "c": "(0.9, 0.98)", "d": None, "e": False, "f": 0.1}
    expected = ["--a", "--b", "1", "2", "--c", "(0.9, 0.98)", "--f", "0.1"]
    assert words(shortened(options, 1)) == expected


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("name: small", "nam: small", r"line 1: nam: expected one of name, .*found 'nam'"),
        ("name: small\n", "", r"expected the key 'name'"),
        ("    role: alone", "    rol: alone", r"line 13: runs\.self\.rol: expected one of kind,"),
        ("role: alone", "role: lonely", r"line 13: .*teacher, alone, inherited, found 'lonely'"),
        ("extends: self", "extends: selv", r"line 9: runs\.ki\.extends: .*found 'selv'"),
        ("extends: self", "extends: ki", r"runs\.ki\.extends: expected a run or model among"),
        ("{runs.teacher}/", "{runs.teechr}/", r"runs\.ki: expected other runs .*'teechr'"),
        ("{seed}", "{sead}", r"runs\.fine: expected placeholders among {out}.*found {sead}"),
        ("teachers: [teacher]", "needs: [teacher]", r"teachers: \[teacher\], so that their cost"),
        ("  log-interval: 10", "  --log-interval: 10", r"line 5: .*without --, found '--log-"),
        ("  log-interval: 10", "  log_interval: 10", r"line 5: .*fairseq-train has it"),
        ("  log-interval: 10", "  save-dir: x", r"line 5: common\.save-dir: .*does not set itself"),
        ("lr: 1e-3", "lr: {a: 1}", r"line 14: runs\.self\.options\.lr: expected text"),
        ("max-update: 60", "max-update: 6.5", r"max-update: expected a number of updates"),
        (
            "kind: command",
            "kind: comand",
            r"runs\.fine\.kind: expected one of train, evaluate, command",
        ),
        (
            "kind: command",
            "kind: train",
            r"runs\.fine: expected kind: train with options for train",
        ),
        ("alone: self,", "alone: fine,", r"compare\.0\.alone: expected a training run among"),
        ("saving: 0.273", "save: 0.273", r"compare\.0\.paper\.save: expected one of saving"),
        ("saving: 0.273", 'saving: "a"', r"compare\.0\.paper\.saving: expected a number"),
        ("[20, 60]", '[20, "60"]', r"report-updates\.1: expected an integer, found '60'"),
        ("common:", "name: again\ncommon:", r"line 3: expected each key once, found 'name' again"),
        ("common:", "common: [", r"expected YAML"),
        ("  teacher:\n", "  teacher:\n    needs: [ki]\n", r"runs that do not need each other"),
        ("teachers: [teacher]", "teachers: [[1]]", r"ki\.teachers\.0: expected text, found \[1\]"),
        (
            "    role: alone",
            "    paper: {valid_ppl: {a: 1}}",
            r"self\.paper\.valid_ppl\.a: expected PPL by update, .* found 'a': 1",
        ),
        ("    role: alone", "    paper: {valid_ppl: {-5: 1}}", r"valid_ppl.*: expected PPL by"),
        (
            "    role: alone",
            "    paper: {downstream: {a: .nan}}",
            r"downstream\.a: expected a score",
        ),
        ("compare:", "findings: [{claim: a, rule: ''}]\ncompare:", r"findings\.0\.rule: expected"),
        (
            "compare:",
            "findings: [{claim: a, rule: 'x * ki < self'}]\ncompare:",
            r"findings\.0\.rule: expected NUMBER \* CELL, found 'x \* ki < self'",
        ),
        (
            "    kind: command",
            "    measure: {file: a.json, values: {f1: []}}\n    kind: command",
            r"fine\.measure\.values\.f1: expected a path in the file, or a list",
        ),
        ("    role: alone", "    seed: true", r"runs\.self\.seed: expected an integer"),
        ("  ki:\n", "  ki:\n    seed: 1\n", r"line 8: runs\.ki\.seed: .*fixed seed for 'teacher'"),
    ],
)
def test_mistakes_are_named_with_their_line(tmp_path, old, new, message):
    assert old in GOOD
    with pytest.raises(YamlFileError, match=message):
        read(tmp_path, GOOD.replace(old, new, 1))


def test_recipes_of_the_examples_are_good():
    recipes = sorted(EXAMPLES.glob("*/recipe.yaml"))
    assert recipes
    for file in recipes:
        load(file)
        for scale in yaml.safe_load(file.read_text()).get("scales", {}):
            load(file, scale=scale)
