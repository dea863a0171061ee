from collections import Counter
from pathlib import Path

import pytest
import train_sentencepiece
from _files import Refusal
from fairseq.data import Dictionary
from sentencepiece import SentencePieceProcessor


def test_ids_are_fairseqs_with_the_mask_last(spm: Path) -> None:
    model = SentencePieceProcessor(model_file=str(spm / "spm.model"))
    dictionary = Dictionary.load(str(spm / "dict.txt"))
    assert [dictionary.index(s) for s in ("<s>", "<pad>", "</s>", "<unk>")] == [0, 1, 2, 3]
    assert len(dictionary) == model.get_piece_size() == 150
    assert dictionary.symbols == [model.id_to_piece(index) for index in range(150)]
    assert dictionary.add_symbol("<mask>") == 150


def test_counts_are_those_of_the_input(spm: Path, corpus: Path) -> None:
    model = SentencePieceProcessor(model_file=str(spm / "spm.model"))
    lines = (corpus / "train.txt").read_text(encoding="utf-8").split("\n")
    counts = Counter(
        index for ids in model.encode([" ".join(x.split()) for x in lines]) for index in ids
    )
    dictionary = Dictionary.load(str(spm / "dict.txt"))
    assert dictionary.count[4:] == [counts[index] for index in range(4, 150)]
    assert counts[3] > 0  # the odd lines hold characters without a piece


@pytest.mark.parametrize("model_type", ["unigram", "bpe"])
def test_same_input_gives_the_same_bytes(corpus: Path, tmp_path: Path, model_type: str) -> None:
    for name in ("one", "two"):
        options = f"--model-type {model_type} --vocab-size 120 --sample-lines 100"
        train_sentencepiece.main(
            [str(corpus / "train.txt"), "--out-dir", str(tmp_path / name), *options.split()]
        )
    for name in ("spm.model", "dict.txt"):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()


def test_sample_is_uniform_ordered_and_seeded() -> None:
    lines = [f"{number:03}" for number in range(100)]
    drawn = train_sentencepiece.sample(iter(lines), 10, seed=1)
    assert drawn == sorted(drawn) == train_sentencepiece.sample(iter(lines), 10, seed=1)
    assert drawn != train_sentencepiece.sample(iter(lines), 10, seed=2)
    assert train_sentencepiece.sample(iter(lines), 100, seed=1) == lines
    counts = Counter(
        line for seed in range(400) for line in train_sentencepiece.sample(iter(lines), 10, seed)
    )
    assert len(counts) == 100
    assert max(counts.values()) < 2.5 * 40  # 40 each on average, standard deviation 6


def test_long_lines_and_reserved_characters_do_not_drop_lines(tmp_path: Path) -> None:
    path = tmp_path / "text"
    long = "word " * 5000 + "\u00e9" * 9000
    path.write_text(f"{long}\n\n\u2585 bars \u2585\n", encoding="utf-8")
    sentences = list(train_sentencepiece.sentences([path]))
    assert all(len(s.encode()) <= train_sentencepiece.MAX_LINE_BYTES for s in sentences)
    assert "".join(sentences[:-1]).replace(" ", "") == long.replace(" ", "")
    assert sentences[-1] == "bars"
    # SentencePiece itself leaves out lines over its limit, and would then see no text at all.
    path.write_text("one two three four five six " * 1000)
    out = ["--out-dir", str(tmp_path / "out"), "--vocab-size", "20"]
    train_sentencepiece.main([str(path), *out])


@pytest.mark.parametrize("model_type", ["unigram", "bpe"])
def test_symbols_of_fairseq_in_the_text_never_become_pieces(
    corpus: Path, tmp_path: Path, model_type: str
) -> None:
    path = tmp_path / "text"
    text = (corpus / "train.txt").read_text(encoding="utf-8")
    path.write_text(text + "<s> <pad> </s> <unk> <mask> a<mask>b\n" * 500, encoding="utf-8")
    options = f"--out-dir {tmp_path} --vocab-size 150 --model-type {model_type}"
    train_sentencepiece.main([str(path), *options.split()])
    dictionary = Dictionary.load(str(tmp_path / "dict.txt"))
    assert len(dictionary) == 150
    assert "<mask>" not in dictionary


@pytest.mark.parametrize(
    ("content", "options", "message"),
    [
        ("some words\n", ["--vocab-size", "5000"], "Please set it to a value <="),
        ("some words\n", ["--vocab-size", "6"], "smaller than required_chars"),
        ("some words\n", ["--vocab-size", "4"], "--vocab-size over 4"),
        ("some words\n", ["--character-coverage", "1.5"], r"in \(0, 1\]"),
        ("\n \n", [], "blank lines only"),
        ("", [], "an empty file"),
    ],
)
def test_refusals_leave_nothing_behind(
    tmp_path: Path, content: str, options: list[str], message: str
) -> None:
    path = tmp_path / "text"
    path.write_text(content)
    with pytest.raises(Refusal, match=message):
        train_sentencepiece.main([str(path), "--out-dir", str(tmp_path / "out"), *options])
    assert not (tmp_path / "out").exists()


def test_text_that_is_not_utf8_is_refused_with_its_place(tmp_path: Path) -> None:
    path = tmp_path / "text"
    path.write_bytes(b"good\nb\xffd\n")
    with pytest.raises(Refusal, match="at byte 6"):
        train_sentencepiece.main([str(path), "--out-dir", str(tmp_path)])
