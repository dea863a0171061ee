"""Prepared tasks as fairseq's own task reads them: separators, cuts, labels, subsets."""

import json

import pytest
from fairseq.tasks.sentence_prediction import SentencePredictionConfig, SentencePredictionTask

from fairseq_ki.downstream.preparing import fitted, planned, prepare, subset
from fairseq_ki.downstream.pretrained import read_pretrained
from fairseq_ki.downstream.reading import Row, read_task
from fairseq_ki.downstream.tasks import task_named


@pytest.fixture(scope="module")
def pretrained(masked_lm, piece_bin):
    return read_pretrained(masked_lm, piece_bin, None)


def task_folder(folder, **splits):
    folder.mkdir(exist_ok=True)
    for split, rows in splits.items():
        lines = (json.dumps(dict(zip(("text", "label", "text2"), row))) for row in rows)
        (folder / f"{split}.jsonl").write_text("".join(line + "\n" for line in lines))
    return folder


def binarised(name, folder, pretrained, max_train=None):
    data = read_task(task_named(name), folder)
    return prepare(planned(data, pretrained, folder.parent / "data", max_train), pretrained)


def as_fairseq_reads(prepared, split="valid"):
    cfg = SentencePredictionConfig(
        data=str(prepared.folder), num_classes=prepared.classes, init_token=0, separator_token=2,
        no_shuffle=True, regression_target=prepared.scale is not None, seed=1,
    )  # fmt: skip
    task = SentencePredictionTask.setup_task(cfg)
    dataset = task.load_dataset(split)
    batch = dataset.collater([dataset[i] for i in range(len(dataset))])
    return task.source_dictionary, batch


def test_one_text(pretrained, tmp_path):
    rows = [("a fine film", "pos"), ("bad", "neg")]
    folder = task_folder(
        tmp_path / "mine", train=rows, dev=[("  bad   film ", "pos"), ("a", "neg")]
    )
    prepared = binarised("mine", folder, pretrained)
    dictionary, batch = as_fairseq_reads(prepared)
    pieces = ["<s>", *pretrained.spm.encode("bad film", out_type=str), "</s>"]
    tokens = batch["net_input"]["src_tokens"][0]
    assert [dictionary[i] for i in tokens] == pieces
    assert prepared.data.labels == ["neg", "pos"]
    assert batch["target"].view(-1).tolist() == [1, 0]
    record = json.loads((tmp_path / "data" / "prepared.json").read_text())
    assert record["labels"] == ["neg", "pos"]
    assert record["rows"] == {"train": 2, "dev": 2}


def test_pairs_with_roberta_s_separators_and_numbers_as_labels(pretrained, tmp_path):
    rows = [("a", 0.0, "film"), ("bad", 5.0, "poor")]
    folder = task_folder(tmp_path / "stsb", train=rows, dev=[("good", 2.0, "the book"), rows[0]])
    prepared = binarised("stsb", folder, pretrained)
    dictionary, batch = as_fairseq_reads(prepared)
    first, second = (pretrained.spm.encode(t, out_type=str) for t in ("good", "the book"))
    tokens = [dictionary[i] for i in batch["net_input"]["src_tokens"][0]]
    assert tokens == ["<s>", *first, "</s>", "</s>", *second, "</s>"]
    assert batch["target"].tolist() == [[pytest.approx(0.4)], [0.0]]
    assert prepared.scale == (0.0, 5.0)


def test_too_long_texts_are_cut_and_counted(pretrained, tmp_path):
    long = "good " * 100
    train = [("a", "0", long), (long, "1", long), ("a", "1", "b")]
    folder = task_folder(tmp_path / "mine", train=train, dev=[("a", "0", long)])
    prepared = binarised("mine", folder, pretrained)
    assert prepared.truncated == {"train": 2, "dev": 1}
    dictionary, batch = as_fairseq_reads(prepared, "train")
    for tokens in batch["net_input"]["src_tokens"][:2].tolist():
        assert len(tokens) == pretrained.positions == 32
        assert tokens[0] == 0
        assert tokens.count(dictionary.eos()) == 3
        assert tokens[-1] == dictionary.eos()


def test_which_part_of_a_pair_is_cut():
    assert fitted(99, None, 32) == (30, None)
    assert fitted(10, 18, 32) == (10, 18)
    assert fitted(10, 19, 32) == (10, 18)
    assert fitted(50, 3, 32) == (25, 3)
    assert fitted(50, 50, 33) == (14, 15)
    for first in range(40):
        for second in range(40):
            a, b = fitted(first, second, 32)
            assert a + b == min(first + second, 28)
            assert a <= first
            assert b <= second
            if (a, b) != (first, second):  # never shorter than the other, if it was cut
                assert a >= b - 1 or a == first
                assert b >= a - 1 or b == second


def test_subsets_are_drawn_once_and_for_all():
    rows = [Row(i, "a", None, "x") for i in range(1, 101)]
    drawn = subset(rows, 10)
    assert drawn == subset(rows, 10)
    assert drawn == sorted(drawn, key=lambda row: row.line)
    assert len(set(drawn)) == 10
    assert [row.line for row in drawn] != list(range(1, 11))
    assert subset(rows, 100) is rows


def test_prepared_data_is_kept_until_something_changes(pretrained, tmp_path):
    rows = [("a", "x"), ("film", "y"), ("book", "y")]
    folder = task_folder(tmp_path / "mine", train=rows, dev=rows)

    def prepared(max_train=None):
        found = binarised("mine", folder, pretrained, max_train)
        return found, (tmp_path / "data" / "prepared.json").stat().st_mtime_ns

    first, made = prepared()
    again, unchanged = prepared()
    assert unchanged == made
    assert again.truncated == first.truncated
    assert again.signature == first.signature
    fewer, remade = prepared(2)
    assert remade != made
    assert fewer.signature != first.signature
    assert len(as_fairseq_reads(fewer, "train")[1]["target"]) == 2
    assert fewer.train_of == 3
    # a row of dev counts as seen although the subset may not have it
    assert fewer.in_train["dev"] == [True] * 3
    task_folder(tmp_path / "mine", dev=[("good", "x")])
    assert prepared()[0].signature != first.signature
