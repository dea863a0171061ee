"""Seeds that were run apart come out as if they had been run together."""

import dataclasses

import pytest

from fairseq_ki.evaluation import results_file
from fairseq_ki.evaluation.downstream import Downstream
from fairseq_ki.evaluation.joining import joined
from fairseq_ki.evaluation.report import gather
from fairseq_ki.evaluation.summary import as_text

DAYS = "2026-02-01", "2026-02-02", "2026-02-03"


@pytest.fixture
def apart(make_results):
    """Three files of a seed each, the latest first, with one teacher for all seeds."""
    return parts(make_results, served=True)


@pytest.fixture
def alone(make_results):
    """The same, and each seed has a teacher of its own."""
    return parts(make_results, served=False)


def parts(make_results, served):
    found = []
    for seed, day in zip((1, 2, 3), DAYS):
        part = make_results(seeds=(seed,))
        part.created = day
        part.command = ["fairseq-ki", "experiment", "x.yaml", "--seeds", str(seed), "--out", "o"]
        if served:
            (teacher,) = part.arm("teacher")
            of_all = dataclasses.replace(
                teacher, seed=1, command=[*teacher.command[:-1], "1"], fixed_seed=True
            )
            part.runs[part.runs.index(teacher)] = of_all
        found.insert(0, (f"{seed}.json", part))
    return found


def test_seeds_run_apart_are_as_run_together(alone, make_results):
    (found,) = joined(alone)
    assert as_text(found) == as_text(make_results(seeds=(1, 2, 3)))
    assert found.seeds == [1, 2, 3]
    assert found.created == ", ".join(DAYS)
    command = ["fairseq-ki", "experiment", "x.yaml", "--out", "o", "--seeds", "1", "2", "3"]
    assert found.command == command


@pytest.mark.parametrize("known", [True, None])
def test_a_run_that_serves_all_seeds_is_there_once(known, apart):
    """Older files do not say that it does."""
    apart[2][1].arm("teacher")[0].fixed_seed = known
    (found,) = joined(apart)
    (teacher,) = found.arm("teacher")
    assert teacher.fixed_seed
    assert found.run("teacher", 3) is teacher
    assert len(found.arm("ki")) == len(found.arm("self")) == 3


def test_the_latest_file_says_what_is_claimed(apart):
    apart[0][1].title, apart[0][1].report_updates = "New", [400]
    (found,) = joined(apart)
    assert (found.title, found.report_updates) == ("New", [400])


def test_versions_and_machines_of_all_are_named(apart):
    apart[0][1].versions = {"python": "3.12.1", "torch": "2.13.0"}
    (found,) = joined(apart)
    assert found.versions == {"python": "3.11.9; 3.12.1", "torch": "2.13.0"}
    assert found.machine == {"cores": "2"}


def test_the_places_may_differ_where_it_is_known_what_was_run(alone):
    for number, (_, part) in enumerate(alone):
        for run in part.runs:
            run.command += ["--save-dir", f"/home/{number}/{run.folder}"]
    with pytest.raises(
        ValueError, match=r"1\.json but .*was: --save-dir /home/2/.*now: .*/home/1/"
    ):
        joined(alone)
    for run in (run for _, part in alone for run in part.runs):
        run.identity = f"of {run.name}"
    assert joined(alone)[0].seeds == [1, 2, 3]
    alone[1][1].arm("ki")[0].identity = "other"
    with pytest.raises(ValueError, match=r"^2\.json: expected ki as in 1\.json"):
        joined(alone)


def test_other_settings_are_refused(apart):
    apart[1][1].arm("ki")[0].command.append("--fp16")
    with pytest.raises(ValueError, match=r"expected ki .* another: was: without; now: --fp16"):
        joined(apart)


def test_other_data_is_refused(apart):
    apart[1][1].corpus[0]["sha256"] = "decade" * 10
    with pytest.raises(ValueError, match=r"^2\.json: expected the data of 1.*c0ffee.*, decade"):
        joined(apart)


def test_other_teachers_are_refused(apart):
    apart[1][1].arm("teacher")[0].valid["ppl"] = [5.0, 4.0, 3.0, 2.5]
    with pytest.raises(
        ValueError, match=r"2\.json: expected teacher.*ppl .*256\.0\], found .*2\.5"
    ):
        joined(apart)
    apart[1][1].arm("teacher")[0].seed = 5
    with pytest.raises(ValueError, match=r"seed 1, found 5"):
        joined(apart)


def test_what_serves_all_seeds_may_be_a_command(apart):
    for _, part in apart:
        (teacher,) = part.arm("teacher")
        teacher.valid, teacher.metrics = {}, {"f1": float("nan"), "overlap": 5.0}
    assert len(joined(apart)[0].arm("teacher")) == 1
    apart[0][1].arm("teacher")[0].metrics["overlap"] = 6.0
    with pytest.raises(ValueError, match=r"overlap 5\.0, found 6\.0"):
        joined(apart)


def test_unfinished_files_and_other_recipes_are_refused(apart):
    apart[0][1].seeds = [3, 4]
    with pytest.raises(
        ValueError, match=r"3\.json: expected self with seeds \[3, 4\], found \[3\]"
    ):
        joined(apart)
    apart[0][1].seeds = [3]
    apart[1][1].runs = [run for run in apart[1][1].runs if run.name == "teacher"]
    with pytest.raises(ValueError, match=r"2\.json: expected self .*, found none: unfinished"):
        joined(apart)


def test_what_was_tried_with_a_run_that_serves_all_seeds_counts_once(apart):
    for file, part in apart:
        part.downstream = [
            tried("teacher", "../shared/teacher-0a/seed1", f"hash in {file}"),
            tried("ki", f"{part.name}/ki/seed{part.seeds[0]}", file),
        ]
        part.arm("teacher")[0].folder = "/there/shared/teacher-0a/seed1"
    (found,) = joined(apart)
    hashes = [each.checkpoint["sha256"] for each in found.downstream]
    assert hashes == ["hash in 1.json", "1.json", "2.json", "3.json"]


def tried(label, folder, sha):
    return Downstream(label, "", {"path": f"{folder}/checkpoint_last.pt", "sha256": sha}, {}, {})


def test_a_seed_in_two_files_is_refused(apart):
    with pytest.raises(ValueError, match=r"^2\.json: expected other seeds .*, found \[2\]"):
        joined([*apart, apart[1]])


def test_other_experiments_stay_as_they_are(tmp_path, apart, make_results):
    files = []
    for file, results in [*apart, ("more.json", make_results())]:
        if file == "more.json":
            results.name = "more"
        results_file.save(results, tmp_path / file)
        files.append(tmp_path / file)
    assert [len(r.seeds) for r in gather(files, join=True)] == [3, 2]
    assert [len(r.seeds) for r in gather(files)] == [1, 1, 1, 2]
