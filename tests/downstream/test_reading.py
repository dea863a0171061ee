"""Task files: GLUE's columns as they are distributed, JSON lines, and what is wrong with them."""

import json
import re

import pytest

from fairseq_ki.downstream.reading import find_tasks, read_task
from fairseq_ki.downstream.tasks import TASKS, canonical, task_named

# a header (none for CoLA) and a line of each file of GLUE's distribution, as it is there
GLUE = {
    "CoLA": (None, "gj04\t0\t*\tThe sailors rode the breeze."),
    "SST-2": ("sentence\tlabel", "a fine film \t1"),
    "MRPC": (
        "\ufeffQuality\t#1 ID\t#2 ID\t#1 String\t#2 String",
        '1\t702876\t702977\tHe said "it is so .\tIt is so , he said .',
    ),
    "STS-B": (
        "index\tgenre\tfilename\tyear\told_index\tsource1\tsource2\tsentence1\tsentence2\tscore",
        "0\tmain-captions\tMSRvid\t2012test\t0001\tnone\tnone\tA plane.\tAn air plane.\t3.800",
    ),
    "QQP": (
        "id\tqid1\tqid2\tquestion1\tquestion2\tis_duplicate",
        "133273\t213221\t213222\tHow is life?\tWhat is life?\t0",
    ),
    "QNLI": ("index\tquestion\tsentence\tlabel", "0\tWhen?\tThen.\tnot_entailment"),
    "RTE": ("index\tsentence1\tsentence2\tlabel", "0\tNo weapons.\tWeapons.\tentailment"),
}
OTHER_LABEL = {
    "CoLA": "gj04\t1\t\tOther.", "SST-2": "bad \t0", "MRPC": "0\t1\t2\tA\tB",
    "STS-B": "1\tg\tf\ty\to\ts\ts\tA\tB\t0.5", "QQP": "1\t2\t3\tA\tB\t1",
    "QNLI": "1\tA?\tB\tentailment", "RTE": "1\tA\tB\tnot_entailment",
}  # fmt: skip
EXPECTED = {
    "CoLA": ("The sailors rode the breeze.", None, "0"),
    "SST-2": ("a fine film ", None, "1"),
    "MRPC": ('He said "it is so .', "It is so , he said .", "1"),
    "STS-B": ("A plane.", "An air plane.", 3.8),
    "QQP": ("How is life?", "What is life?", "0"),
    "QNLI": ("When?", "Then.", "not_entailment"),
    "RTE": ("No weapons.", "Weapons.", "entailment"),
}


def write(path, *lines, end="\n"):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(line + end for line in lines), encoding="utf-8", newline="")


def read(data, name, metric=None):
    return read_task(task_named(name, metric), find_tasks(data)[name])


@pytest.mark.parametrize("end", ["\n", "\r\n"])
@pytest.mark.parametrize("name", GLUE)
def test_glue_as_it_is_distributed(tmp_path, name, end):
    header, line = GLUE[name]
    lines = ([header] if header else []) + [line, OTHER_LABEL[name]]
    write(tmp_path / name / "train.tsv", *lines, end=end)
    write(tmp_path / name / "dev.tsv", *lines, end=end)
    write(tmp_path / name / "test.tsv", "index\tsentence", "0\tno label here")
    data = read(tmp_path, canonical(name))
    assert set(data.rows) == {"train", "dev"}  # the public test files have no labels
    row = data.rows["dev"][0]
    assert (row.text, row.text2, row.label) == EXPECTED[name]
    assert row.line == (2 if header else 1)
    assert data.labels == ([] if name == "STS-B" else sorted(data.labels))
    assert len(data.labels) == (0 if name == "STS-B" else 2)


def test_mnli_has_two_dev_sets(tmp_path):
    first = "index\tpromptID\tpairID\tgenre\tsentence1_binary_parse\tsentence2_binary_parse"
    first += "\tsentence1_parse\tsentence2_parse\tsentence1\tsentence2\tlabel1"
    front = "0\t31193\t31193n\tgovernment\t( a )\t( b )\t(ROOT)\t(ROOT)\tCream skims.\tIt does."
    folder = tmp_path / "MNLI"
    labels = ["neutral", "entailment", "contradiction"]
    write(
        folder / "train.tsv", first + "\tgold_label",
        *(f"{front}\t{label}\t{label}" for label in labels),
    )  # fmt: skip
    for split in ("dev_matched", "dev_mismatched"):
        more = "\tlabel2\tlabel3\tlabel4\tlabel5\tgold_label"
        write(folder / f"{split}.tsv", first + more, front + "\tneutral" * 5 + "\tentailment")
    data = read(tmp_path, "mnli")
    assert data.labels == ["contradiction", "entailment", "neutral"]
    for split in ("dev", "dev_mismatched"):
        row = data.rows[split][0]
        assert (row.text, row.text2, row.label) == ("Cream skims.", "It does.", "entailment")


def test_blank_lines_are_no_rows(tmp_path):
    lines = [GLUE["CoLA"][1], OTHER_LABEL["CoLA"]]
    write(tmp_path / "CoLA" / "train.tsv", *lines, "", end="\n\n")
    write(tmp_path / "CoLA" / "dev.tsv", *lines)
    data = read(tmp_path, "cola")
    assert len(data.rows["train"]) == 2
    assert data.left_out == {"train": 0, "dev": 0}


def test_splits_in_two_forms_are_refused(tmp_path):
    lines = [GLUE["CoLA"][1], OTHER_LABEL["CoLA"]]
    for split in ("train", "dev"):
        write(tmp_path / "CoLA" / f"{split}.tsv", *lines)
    jsonl(tmp_path / "CoLA" / "test.jsonl", row(label="1"))
    jsonl(tmp_path / "CoLA" / "errors.jsonl", row(label="1"))  # is no split
    with pytest.raises(ValueError, match=r"one form, found test\.jsonl beside train\.tsv"):
        read(tmp_path, "cola")


@pytest.mark.parametrize(
    ("name", "line", "found"),
    [
        ("SST-2", "a film\twith a tab\t1", "0 or 1 as label, found 'with a tab'"),
        ("SST-2", "unlabelled\t", "0 or 1 as label, found ''"),
        ("SST-2", "a blank behind\t1 ", "0 or 1 as label, found '1 '"),
        ("RTE", "9\ta\tb\tc\tentailment", "entailment or not_entailment as label, found 'c'"),
        ("MRPC", "yes\t1\t2\tA\tB", "0 or 1 as label, found 'yes'"),
        ("CoLA", "gj04\t1\t\tOne\ttwo.", "4 columns, found 5: a tab in the text"),
    ],
)
def test_a_tab_too_many_makes_no_class_of_its_own(tmp_path, name, line, found):
    header, good = GLUE[name]
    lines = [*([header] if header else []), good, OTHER_LABEL[name]]
    write(tmp_path / name / "train.tsv", *lines, line)
    write(tmp_path / name / "dev.tsv", *lines)
    message = f"train.tsv, line {len(lines) + 1}: expected {found}"
    with pytest.raises(ValueError, match=re.escape(message)):
        read(tmp_path, canonical(name))


def test_short_lines_of_qqp_are_left_out_and_counted(tmp_path):
    header, line = GLUE["QQP"]
    write(tmp_path / "QQP" / "train.tsv", header, line, "7\t8\tcut off", OTHER_LABEL["QQP"])
    write(tmp_path / "QQP" / "dev.tsv", header, line)
    data = read(tmp_path, "qqp")
    assert len(data.rows["train"]) == 2
    assert data.left_out == {"train": 1, "dev": 0}
    rte, line = GLUE["RTE"]
    write(tmp_path / "RTE" / "train.tsv", rte, line, "7\t8")
    write(tmp_path / "RTE" / "dev.tsv", rte, line)
    with pytest.raises(ValueError, match=r"train\.tsv, line 3: expected at least 4 columns"):
        read(tmp_path, "rte")


def jsonl(path, *objects):
    write(path, *(o if isinstance(o, str) else json.dumps(o) for o in objects))


def row(text="a", label="x", **more):
    return {"text": text, "label": label, **more}


def test_json_lines_of_a_task_of_ones_own(tmp_path):
    folder = tmp_path / "mine"
    jsonl(folder / "train.jsonl", row(label="10"), "", row("b\u2028c", label=9), row(label="9"))
    jsonl(folder / "dev.jsonl", row(label="9"))
    jsonl(folder / "test.jsonl", row("B", label="10"), row(" a  "))
    with pytest.raises(ValueError, match=r"test\.jsonl, line 2: expected a label .*9, 10.*'x'"):
        read(tmp_path, "mine")
    jsonl(folder / "test.jsonl", row("B", label="10"), row(" a  ", "9"))
    data = read(tmp_path, "mine")
    assert data.labels == ["9", "10"]
    assert data.task.metrics == ("accuracy",)
    assert [r.line for r in data.rows["train"]] == [1, 3, 4]
    assert data.rows["train"][1].text == "b\u2028c"
    assert data.in_train("test") == [False, True]


def test_numbers_with_a_point_are_for_regression(tmp_path):
    jsonl(tmp_path / "mine" / "train.jsonl", row(label=1.5), row(label=2))
    jsonl(tmp_path / "mine" / "dev.jsonl", row(label=1), row(label=1.0))
    with pytest.raises(ValueError, match=r"dev\.jsonl: expected different numbers"):
        read(tmp_path, "mine")  # with which nothing correlates
    jsonl(tmp_path / "mine" / "dev.jsonl", row(label=1), row(label=2))
    jsonl(tmp_path / "mine" / "test.jsonl", row(label=1))
    data = read(tmp_path, "mine")
    assert data.task.regression
    assert data.task.metrics == ("pearson", "spearman")
    assert [r.label for r in data.rows["train"]] == [1.5, 2.0]
    for metric in ("macro_f1", "accuracy"):
        with pytest.raises(ValueError, match=f"a metric for numbers as labels, found {metric}"):
            read(tmp_path, "mine", metric)


def test_a_header_where_there_is_none_is_no_class(tmp_path):
    lines = ["source\tlabel\tmark\tsentence", "gj04\t0\t*\tBad a.", "gj04\t1\t\tGood."]
    write(tmp_path / "CoLA" / "train.tsv", *lines)
    write(tmp_path / "CoLA" / "dev.tsv", *lines[1:])
    with pytest.raises(ValueError, match=r"train\.tsv, line 1: expected no header, .*'label'"):
        read(tmp_path, "cola")


GOOD = [row(), row(label="y")]


@pytest.mark.parametrize(
    ("train", "dev", "message"),
    [
        ([*GOOD, "{"], GOOD, r"train\.jsonl, line 3: expected a JSON object, found '\{'"),
        ([*GOOD, "[1]"], GOOD, r"line 3: expected a JSON object, found \[1\]"),
        ([*GOOD, {"label": "x"}], GOOD, r"line 3: expected a string as 'text', found None"),
        ([*GOOD, row(text2=3)], GOOD, r"line 3: expected a string as 'text2', found 3"),
        ([*GOOD, row(label=True)], GOOD, r"line 3: .* as 'label', found True"),
        ([*GOOD, row(label=None)], GOOD, r"line 3: .* as 'label', found None"),
        ([*GOOD, row(text2="b")], GOOD, r"line 3: expected rows without 'text2'"),
        ([*GOOD, "[" * 100_000], GOOD, r"line 3: expected a JSON object"),
        ([*GOOD, '{"text": "\\ud800", "label": "x"}'], GOOD, r"line 3: expected text, found half"),
        (GOOD, [row(text2="b")], r"dev\.jsonl, line 1: expected rows without 'text2'"),
        (GOOD, [row(label="z")], r"dev\.jsonl, line 1: expected a label .*\(x, y\), found 'z'"),
        (GOOD, [], r"dev\.jsonl: expected labelled rows, found none"),
        ([], GOOD, r"train\.jsonl: expected labelled rows, found none"),
        ([row()], [row()], r"train\.jsonl: expected at least two classes, found one"),
        ([row(label=1.5)], [row(label=1.5)], r"train\.jsonl: expected different numbers"),
        ([row(label=1.5), row(label=2.5)], [row()], r"dev.*line 1: expected a number from"),
        ([*GOOD, row(label=1.0)], GOOD, r"line 3: expected labels of one kind.*1.0, unlike line 1"),
        ([row(label=1.0), row(label="1")], GOOD, r"line 2: .* of one kind.*'1', unlike line 1"),
        ([row(label=1e308), row(label=1.5)], GOOD, r"line 1: expected a number from -1e\+06"),
        ([row(label=1.5), '{"text": "a", "label": NaN}'], GOOD, r"line 2: expected a number"),
    ],
)
def test_what_is_wrong_is_named_with_its_line(tmp_path, train, dev, message):
    jsonl(tmp_path / "mine" / "train.jsonl", *train)
    jsonl(tmp_path / "mine" / "dev.jsonl", *dev)
    with pytest.raises(ValueError, match=message):
        read(tmp_path, "mine")


def test_labels_of_thousands_of_digits_are_in_order_of_their_spelling(tmp_path):
    long = "1" * 5000
    jsonl(tmp_path / "mine" / "train.jsonl", row(label=long), row(label="9"), row(label="01"))
    jsonl(tmp_path / "mine" / "dev.jsonl", row(label="9"))
    assert read(tmp_path, "mine").labels == ["01", long, "9"]


def test_the_mark_of_utf_8_is_no_text(tmp_path):
    for split in ("train", "dev"):
        jsonl(tmp_path / "mine" / f"{split}.jsonl", "\ufeff" + json.dumps(row()), row(label="y"))
    assert [r.text for r in read(tmp_path, "mine").rows["train"]] == ["a", "a"]


def test_bytes_that_are_no_text(tmp_path):
    jsonl(tmp_path / "mine" / "train.jsonl", *GOOD)
    with open(tmp_path / "mine" / "train.jsonl", "ab") as file:
        file.write(b'{"text": "\xff"}\n')
    jsonl(tmp_path / "mine" / "dev.jsonl", *GOOD)
    with pytest.raises(ValueError, match=r"train\.jsonl, line 3: expected UTF-8"):
        read(tmp_path, "mine")


def test_folders(tmp_path):
    with pytest.raises(ValueError, match="expected a folder with one folder a task, found none"):
        find_tasks(tmp_path / "nowhere")
    jsonl(tmp_path / "cola" / "train.jsonl", *GOOD)
    (tmp_path / "notes").mkdir()
    assert set(find_tasks(tmp_path)) == {"cola"}
    with pytest.raises(ValueError, match=r"cola: expected dev\.jsonl beside train\.jsonl"):
        read(tmp_path, "cola")
    with pytest.raises(ValueError, match=r"one task; give the folder above it, and --tasks cola"):
        find_tasks(tmp_path / "cola")
    write(tmp_path / "RTE" / "train.tsv", GLUE["RTE"][0])
    with pytest.raises(ValueError, match=r"one task; give the folder above it, and --tasks RTE"):
        find_tasks(tmp_path / "RTE")
    (tmp_path / "RTE" / "train.tsv").unlink()
    write(tmp_path / "CoLA" / "train.tsv", GLUE["CoLA"][1])
    with pytest.raises(ValueError, match="one folder for cola, found CoLA and cola"):
        find_tasks(tmp_path)


def test_paraphrases_need_the_class_that_f1_counts(tmp_path):
    for split in ("train", "dev"):
        jsonl(tmp_path / "mrpc" / f"{split}.jsonl", *(row(text2="b", label=x) for x in "yn"))
    with pytest.raises(ValueError, match=r"the classes 0 and 1, of which F1 counts 1, found"):
        read(tmp_path, "mrpc")


def test_names_of_tasks():
    spelt = ["CoLA", "SST-2", "STS-B", "ACL-ARC", "citation_intent", "ChemProt", "My Task"]
    names = ["cola", "sst2", "stsb", "citation_intent", "citation_intent", "chemprot", "My Task"]
    assert list(map(canonical, spelt)) == names
    assert sum(task.glue for task in TASKS.values()) == 8
