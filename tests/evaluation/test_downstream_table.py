"""Downstream tables: pooled seeds, tasks that were not run, averages that say what they miss."""

import dataclasses
import statistics

import pytest

from fairseq_ki.cli.main import main
from fairseq_ki.evaluation import results_file
from fairseq_ki.evaluation.downstream import (
    Downstream,
    NotRun,
    SeedScores,
    SettingScores,
    TaskScores,
    choose,
    counted,
    summary,
    tenths,
)
from fairseq_ki.evaluation.downstream_table import downstream_tables
from fairseq_ki.evaluation.report import gather, write_html, write_markdown


def setting(lr, *values, split="test"):
    runs = [
        SeedScores(seed, {"dev": {"macro_f1": v}, split: {"macro_f1": v / 2}}, 3, 9.0, f"s{seed}")
        for seed, v in enumerate(values, 1)
    ]
    return SettingScores({"lr": lr, "batch_size": 16.0}, runs)


def task(name="rte", glue=True, grid=None, **more):
    grid = grid or [setting(1e-5, 0.5, 0.7)]
    values = TaskScores(
        task=name, title=name.upper(), method="finetune", glue=glue, metrics=["macro_f1"],
        rows={"train": 10, "dev": 4, "test": 4}, train_of=10, truncated={"train": 0},
        left_out={}, labels=["0", "1"], files={"train": "c0ffee"}, how={},
        command=["fairseq-ki", "finetune", name], grid=grid, chosen=choose(grid, "macro_f1"),
    )  # fmt: skip
    return dataclasses.replace(values, **more)


def downstream(label, *tasks, not_run=(), sha256="abc"):
    checkpoint = {"path": f"{label}.pt", "sha256": sha256, "arch": "roberta", "updates": 3}
    return Downstream(
        label, "2026-01-31", checkpoint, {"torch": "2"}, {"cores": "2"}, list(tasks),
        list(not_run), summary(list(tasks)),
    )  # fmt: skip


NO_MNLI = NotRun("mnli", "MNLI", True, "no data")


def cells(table):
    return {row[0]: row[1:] for row in table.rows}


def test_numbers_as_they_are_read():
    assert [tenths(x) for x in (-0.04, 0.0, -0.06, 12.34)] == ["0.0", "0.0", "-0.1", "12.3"]
    assert [counted(n, "line") for n in (0, 1, 2000)] == ["0 lines", "1 line", "2,000 lines"]


def test_a_table_of_nothing_names_no_method_but_the_one_that_was_asked():
    nothing = [downstream("a", not_run=[NO_MNLI])]
    assert [table.title for table in downstream_tables(nothing)] == ["Downstream"]
    (table,) = downstream_tables(nothing, asked="probe-mean")
    assert table.title == "Downstream, linear probe of the mean over tokens"
    assert cells(table) == {"MNLI": ["not run: no data"]}


def test_the_setting_with_the_best_mean_on_dev_is_taken():
    grid = [setting(1e-5, 0.9, 0.1), setting(2e-5, 0.6, 0.6), setting(3e-5, 0.6, 0.6)]
    assert choose(grid, "macro_f1") == 1
    values = summary([task(grid=grid)])["finetune"]["rte"]["test"]["macro_f1"]
    assert values == {"mean": pytest.approx(30), "std": 0, "seeds": 2}


def test_seeds_of_one_label_are_pooled_and_absent_tasks_named():
    found = [
        downstream("alone", task(), not_run=[NO_MNLI]),
        downstream("alone", task(grid=[setting(1e-5, 0.3, 0.5)]), not_run=[NO_MNLI], sha256="b"),
        downstream("alone", task(grid=[setting(1e-5, 0.3, 0.5)]), sha256="b"),  # named twice
        downstream("with KI", task(grid=[setting(1e-5, 0.8)]), not_run=[NO_MNLI]),
    ]
    (table,) = downstream_tables(found)
    assert table.columns == ["task", "alone", "with KI"]
    spread = statistics.stdev([50, 70, 30, 50])
    shown = cells(table)
    assert shown["RTE, dev, macro-F1"] == [f"50.0 ± {spread:.1f}", "80.0"]
    assert shown["MNLI"] == ["not run: no data"] * 2
    assert shown["average of GLUE, dev"] == ["50.0 (1 of 8 tasks)", "80.0 (1 of 8 tasks)"]
    assert "seeds (1 to 4)" in table.note


def test_two_results_of_one_checkpoint_are_seeds_or_refused():
    few, many = (task(how={"max_train": n}) for n in (50, None))
    (table,) = downstream_tables([downstream("a", few), downstream("a", few)])
    assert table.columns == ["task", "a"]
    with pytest.raises(ValueError, match=r"a: .* RTE, .*\(max_train 50; and max_train None\)"):
        downstream_tables([downstream("a", few), downstream("a", many)])
    (table,) = downstream_tables([downstream("a", few), downstream("b", many)])
    assert table.columns == ["task", "a", "b"]
    again = task(grid=[setting(1e-5, 0.5, 0.9)])
    with pytest.raises(ValueError, match=r"\(seeds 1, 2 again\). Give one of"):
        downstream_tables([downstream("a", task()), downstream("a", again)])
    elsewhere = task(files={"train": "0ther"}, grid=again.grid)
    with pytest.raises(ValueError, match=r"found another one \(of other data\)"):
        downstream_tables([downstream("a", task()), downstream("a", elsewhere)])


def test_models_that_differ_in_the_rows_they_saw_are_told_apart():
    some = task(rows={"train": 6, "dev": 4}, train_of=10)
    fewer = task(rows={"train": 5, "dev": 4}, train_of=10)
    (table,) = downstream_tables([downstream("a", some), downstream("b", fewer)])
    assert "RTE: trained on 6 of 10 rows; or trained on 5 of 10 rows." in table.note


def test_a_task_that_one_model_lacks():
    found = [
        downstream("a", task("mnli", grid=[setting(1e-5, 0.5)])),
        downstream("b", task("rte", grid=[setting(1e-5, 0.5)]), not_run=[NO_MNLI]),
    ]
    (table,) = downstream_tables(found)
    shown = cells(table)
    assert shown["MNLI, dev, macro-F1"] == ["50.0", "not run: no data"]
    assert shown["RTE, dev, macro-F1"] == ["not run", "50.0"]


def test_a_whole_average_says_nothing_more():
    tasks = [task(f"t{i}", grid=[setting(1e-5, i / 10)]) for i in range(8)]
    own = task("own", glue=False, grid=[setting(1e-5, 1.0)])
    (table,) = downstream_tables([downstream("a", *tasks, own)])
    assert cells(table)["average of GLUE, dev"] == ["35.0"]


def test_rows_that_train_has_are_taken_out_beside():
    grid = [setting(1e-5, 0.6, split="dev_unseen")]
    rows = {"train": 5, "dev": 4, "dev_unseen": 3}
    one = task(grid=grid, rows=rows, truncated={"dev": 2})
    (table,) = downstream_tables([downstream("a", one)])
    assert [row[0] for row in table.rows[:2]] == [
        "RTE, dev, macro-F1", "RTE, dev without texts of train, macro-F1"
    ]  # fmt: skip
    for fact in ("trained on 5 of 10 rows", "1 of 4 dev texts are in train", "2 texts were cut"):
        assert fact in table.note


def test_probes_have_a_table_of_their_own():
    found = downstream("a", task(), task("cola", method="probe-mean"))
    titles = [table.title for table in downstream_tables([found])]
    assert titles == [
        "Downstream, fine-tuned", "Downstream, linear probe of the mean over tokens"
    ]  # fmt: skip


def test_report_on_folders_of_fine_tuning(tmp_path, capsys):
    pytest.importorskip("matplotlib")
    for label in ("alone", "with KI"):
        folder = tmp_path / label
        folder.mkdir()
        found = downstream(label, task(), not_run=[NO_MNLI])
        results_file.save(found, folder / "downstream.json")
        assert results_file.load_downstream(folder / "downstream.json").tasks == found.tasks
    (section,) = gather([tmp_path / "alone", tmp_path / "with KI" / "downstream.json"])
    write_html([section], tmp_path / "r.html")
    write_markdown([section], tmp_path / "r.md")
    for text in ((tmp_path / "r.html").read_text(), (tmp_path / "r.md").read_text()):
        assert "not run: no data" in text
        assert "60.0 ± 14.1" in text
        assert "fairseq-ki finetune rte" in text
        assert "c0ffee" in text
        assert "with KI.pt, SHA-256 abc" in text
        assert "seed 0" not in text
        assert "lr 1e-05, batch size 16 (best of 1)" in text
    # what is reported on is not written over
    kept = (tmp_path / "alone" / "downstream.json").read_bytes()
    taken = str(tmp_path / "alone" / "downstream.json")
    assert main(["report", str(tmp_path / "alone"), "--out", taken]) == 2
    assert "expected a file of its own, found" in capsys.readouterr().err
    assert (tmp_path / "alone" / "downstream.json").read_bytes() == kept


def test_downstream_json_that_does_not_fit(tmp_path):
    file = tmp_path / "downstream.json"
    results_file.save(downstream("a", task()), file)
    file.write_text(file.read_text().replace('"glue": true', '"glue": 1'))
    with pytest.raises(ValueError, match=r"tasks\[0\]\.glue: expected <class 'bool'>, found 1"):
        results_file.load_downstream(file)
    file.write_text(file.read_text().replace('"glue": 1', '"glue": true'))
    file.write_text(file.read_text().replace('"chosen": 0', '"chosen": 1'))
    with pytest.raises(ValueError, match="rte: expected the chosen setting .* number 1 of 1"):
        results_file.load_downstream(file)
    file.write_text(file.read_text().replace("fairseq_ki.downstream/1", "fairseq_ki.results/1"))
    with pytest.raises(ValueError, match=r"expected format 'fairseq_ki.downstream/1', found"):
        results_file.load_downstream(file)


def test_the_papers_models_stand_beside_those_that_were_fine_tuned():
    found = [downstream("alone", task(), not_run=[NO_MNLI])]
    all_eight = dict.fromkeys(("cola", "mnli", "qnli", "rte", "sst2", "stsb", "mrpc", "qqp"), 80.0)
    (table,) = downstream_tables(found, {"LARGE": all_eight | {"rte": 72.0}, "B": {"rte": 60.0}})
    assert table.columns[-2:] == ["the paper: LARGE", "the paper: B"]
    by_name = cells(table)
    assert by_name["RTE, dev, macro-F1"][1:] == ["72.0", "60.0"]
    assert by_name["RTE, test, macro-F1"][1:] == ["–", "–"]
    assert by_name["MNLI"][1:] == ["80.0", "–"]
    assert by_name["average of GLUE, dev"][1:] == ["79.0", "–"]
