"""Command lines, folders, and what identifies a run."""

import shlex
import sys

import pytest

from fairseq_ki.experiments import driver
from fairseq_ki.experiments.corpus import fingerprint
from fairseq_ki.experiments.mixture import share_of_rows
from fairseq_ki.experiments.plan import USER_DIR, plan
from fairseq_ki.experiments.recipe import load

RECIPE = """\
name: x
data: "{out}/data-bin"
common: {task: ki_mlm, adam-betas: "(0.9, 0.98)"}
runs:
  teacher: {seed: 7, options: {arch: a}}
  ki: {teachers: [teacher], options: {arch: b, ki-teacher: "{runs.teacher}/checkpoint_best.pt"}}
  probe: {kind: command, command: [probe, "{runs.ki}", "{data}", "{folder}", "{seed}", '{"a": 1}']}
"""


@pytest.fixture
def recipe(tmp_path):
    (tmp_path / "recipe.yaml").write_text(RECIPE)
    return load(tmp_path / "recipe.yaml")


def by_name(jobs):
    return {(job.spec.name, job.seed): job for job in jobs}


def test_commands(recipe, tmp_path):
    out = tmp_path / "out"
    jobs = plan(recipe, out, [1, 2])
    # a run with a seed of its own is done once
    names = [(j.spec.name, j.seed) for j in jobs]
    assert names == [("teacher", 7), ("ki", 1), ("probe", 1), ("ki", 2), ("probe", 2)]
    ki = by_name(jobs)["ki", 2]
    assert ki.folder == out / "ki" / "seed2"
    expected = (
        f"{sys.executable} -m fairseq_cli.train {out}/data-bin --user-dir {USER_DIR} "
        f"--task ki_mlm --adam-betas '(0.9, 0.98)' --arch b "
        f"--ki-teacher {out}/teacher/seed7/checkpoint_best.pt --seed 2 "
        f"--save-dir {out}/ki/seed2 --log-format json"
    )
    assert shlex.join(ki.command) == expected
    probe = by_name(jobs)["probe", 1]
    assert probe.command == [
        "probe", str(out / "ki/seed1"), f"{out}/data-bin", str(out / "probe/seed1"), "1", '{"a": 1}'
    ]  # fmt: skip


def test_updates_in_a_command_are_shortened_with_the_rest(tmp_path):
    text = RECIPE.replace('"{folder}"', '"{runs.ki}/checkpoint_1_{updates.400}.pt"')
    (tmp_path / "recipe.yaml").write_text(text)
    for shorten, updates in ((1, 400), (40, 10)):
        recipe = load(tmp_path / "recipe.yaml", shorten=shorten)
        probe = by_name(plan(recipe, tmp_path / "out", [1]))["probe", 1]
        assert probe.command[3].endswith(f"ki/seed1/checkpoint_1_{updates}.pt")
    # the training's own lengths are rounded, and would leave no checkpoint of that name
    with pytest.raises(ValueError, match=r"expected a divisor of 400, since probe .*, found 30"):
        plan(load(tmp_path / "recipe.yaml", shorten=30), tmp_path / "out", [1])


def test_dry_run_prints_every_command_and_needs_no_data(recipe, tmp_path, capsys):
    driver.print_commands(recipe, tmp_path / "out", [1, 2])
    lines = [x for x in capsys.readouterr().out.splitlines() if not x.startswith("#")]
    commands = [job.command for job in plan(recipe, tmp_path / "out", [1, 2])]
    assert [shlex.split(line) for line in lines] == commands
    assert not (tmp_path / "out").exists()


def test_signature_follows_what_decides_the_result(recipe, tmp_path):
    def signatures(recipe, out="out", data="d"):
        jobs = by_name(plan(recipe, tmp_path / out, [1]))
        return {name: job.signature(lambda _: data) for (name, _), job in jobs.items()}

    base = signatures(recipe)
    assert signatures(recipe, out="moved") == base
    other_data = signatures(recipe, data="e")
    assert all(other_data[name] != base[name] for name in base)

    def edited(old, new):
        (tmp_path / "recipe.yaml").write_text(RECIPE.replace(old, new))
        return signatures(load(tmp_path / "recipe.yaml"))

    teacher = edited("{arch: a}", "{arch: c}")
    assert all(teacher[name] != base[name] for name in base)  # what it taught changes too
    student = edited("arch: b", "arch: c")
    assert student["teacher"] == base["teacher"]
    assert student["ki"] != base["ki"]
    assert student["probe"] != base["probe"]


def test_signature_of_any_seed(recipe, tmp_path):
    def signatures(jobs, **how):
        return {job.spec.name: job.signature(lambda _: "d", **how) for job in jobs if job.seed != 1}

    two = plan(recipe, tmp_path / "a", [2])
    three = plan(recipe, tmp_path / "b", [3])
    assert signatures(two)["ki"] != signatures(three)["ki"]
    same = signatures(two, of_any_seed=True)
    assert same == signatures(three, of_any_seed=True)
    assert len(set(same.values())) == 3

    (tmp_path / "recipe.yaml").write_text(RECIPE.replace("seed: 7", "seed: 8"))
    other = signatures(plan(load(tmp_path / "recipe.yaml"), tmp_path, [2]), of_any_seed=True)
    assert all(other[name] != same[name] for name in same)  # a seed of its own counts


def test_fingerprint_of_data(data_bin, tmp_path):
    first = fingerprint(str(data_bin))
    assert len(first["sha256"]) == 64
    assert "description" not in first
    copy = tmp_path / "bin"
    copy.mkdir()
    for file in data_bin.iterdir():
        (copy / file.name).write_bytes(file.read_bytes())
    (copy / "preprocess.log").write_text("noise")
    assert fingerprint(str(copy))["sha256"] == first["sha256"]
    (copy / "corpus.json").write_text('{"made_by": "me", "splits": {"train": {"lines": 3}}}')
    described = fingerprint(str(copy))
    assert described["description"] == {"made by": "me", "train": "lines 3"}
    assert described["sha256"] == first["sha256"]
    (copy / "train.bin").write_bytes(b"x")
    assert fingerprint(str(copy))["sha256"] != first["sha256"]
    both = fingerprint(f"{data_bin}:{copy}")
    assert both["sha256"] not in (first["sha256"], described["sha256"])


def test_data_that_is_not_there(tmp_path):
    with pytest.raises(ValueError, match=r"nowhere: expected a data-bin .*dict\.txt"):
        fingerprint(str(tmp_path / "nowhere"))


SHARED = """\
name: x
data: "bins/wb"
common: {task: ki_mlm}
runs:
  teacher: {seed: 7, folder: shared, options: {arch: a}}
  self: {folder: shared, options: {arch: b}}
  ki:
    folder: shared
    teachers: [teacher]
    options: {arch: b, ki-teacher: "{runs.teacher}/checkpoint_best.pt"}
  own: {options: {arch: b}}
  seen: {kind: evaluate, of: self, data: "{corpora}/cs"}
  both:
    teachers: [teacher]
    files:
      mixture.yaml:
        domains:
          wb: {data: "{data}", weight: 3.0}
          cs:
            data: "{corpora}/cs"
            teachers: [{checkpoint: "{runs.teacher}/checkpoint_best.pt"}]
    options: {arch: b, ki-mixture: "{folder}/mixture.yaml"}
"""


def shared_jobs(tmp_path, text=SHARED, seeds=(1,), **how):
    (tmp_path / "recipe.yaml").write_text(text)
    return by_name(plan(load(tmp_path / "recipe.yaml", **how), tmp_path / "out", list(seeds)))


def test_shared_runs_are_named_by_what_they_do(tmp_path):
    jobs = shared_jobs(tmp_path, seeds=(1, 2))
    folders = {key: job.folder for key, job in jobs.items()}
    assert folders["self", 1].parent == folders["self", 2].parent
    assert folders["self", 1].parent.parent == tmp_path / "shared"
    assert folders["own", 1] == tmp_path / "out" / "own" / "seed1"
    renamed = SHARED.replace("name: x", "name: y")
    assert shared_jobs(tmp_path, renamed)["ki", 1].folder == folders["ki", 1]

    def moved(text=SHARED, **how):
        other = {key: job.folder for key, job in shared_jobs(tmp_path, text, **how).items()}
        keys = [("teacher", 7), ("self", 1), ("ki", 1)]
        return {name for name, seed in keys if other[name, seed] != folders[name, seed]}

    assert moved(SHARED.replace("arch: a", "arch: c")) == {"teacher", "ki"}  # and what it taught
    assert moved(SHARED.replace("seed: 7", "seed: 7, role: teacher")) == set()
    assert moved(data="other/wb") == {"teacher", "self", "ki"}


def test_evaluations(tmp_path):
    jobs = shared_jobs(tmp_path)
    seen = jobs["seen", 1]
    assert seen.data == "bins/cs"
    words = shlex.join(seen.command)
    assert "-m fairseq_cli.validate bins/cs" in words
    assert f"--path {jobs['self', 1].folder}/checkpoint_last.pt" in words
    assert "--task ki_mlm" in words


def test_mixtures(tmp_path):
    jobs = shared_jobs(tmp_path)
    both = jobs["both", 1]
    assert both.corpora == ["bins/wb", "bins/cs"]
    domains = both.files["mixture.yaml"]["domains"]
    teacher = jobs["teacher", 7].folder
    assert domains["cs"]["teachers"][0]["checkpoint"] == f"{teacher}/checkpoint_best.pt"
    assert f"--ki-mixture {both.folder}/mixture.yaml" in shlex.join(both.command)
    assert share_of_rows(both.files, str(teacher)) == 0.25
    assert share_of_rows({}, str(teacher)) == 1
    heavier = shared_jobs(tmp_path, SHARED.replace("weight: 3.0", "weight: 4.0"))["both", 1]
    assert heavier.signature(str) != both.signature(str)
    with pytest.raises(ValueError, match="so that their cost is counted"):
        shared_jobs(tmp_path, SHARED.replace("  both:\n    teachers: [teacher]", "  both:"))
