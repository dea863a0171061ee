import io
from pathlib import Path

import pytest
from _files import Refusal
from _vocabulary import Block, fairseq_ids, load_dictionary, load_model, pieces, text_blocks
from fairseq.data import Dictionary
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sentencepiece import SentencePieceProcessor, SentencePieceTrainer


def model_with(symbol: str) -> SentencePieceProcessor:
    """A model that another training gave a piece fairseq cannot hold."""
    data = io.BytesIO()
    SentencePieceTrainer.train(
        sentence_iterator=iter(["some words to learn from"] * 20),
        model_writer=data,
        vocab_size=30,
        hard_vocab_limit=False,
        user_defined_symbols=[symbol],
        normalization_rule_name="identity",
        minloglevel=2,
    )
    return SentencePieceProcessor(model_proto=data.getvalue())


@pytest.mark.parametrize("symbol", ["<mask>", "<pad>", "two words", "a\u2028b", "\u00a0", "x\rz"])
def test_pieces_that_a_dictionary_cannot_hold_are_refused(symbol: str) -> None:
    with pytest.raises(Refusal, match="train the model with"):
        pieces(model_with(symbol))


def test_ids_of_a_foreign_model_are_translated() -> None:
    model = model_with("#fairseq:overwrite")  # unk 0, <s> 1, </s> 2: SentencePiece's defaults
    names = pieces(model)
    assert names[:3] == [None, None, None]
    dictionary = Dictionary()
    for name in reversed([name for name in names if name]):
        dictionary.add_symbol(name)
    ids = fairseq_ids(model, dictionary)
    assert [dictionary[index] for index in ids[3:-1]] == names[3:]
    assert ids[model.unk_id()] == dictionary.unk()
    assert ids[-1] == dictionary.eos()


def test_dictionaries_that_lack_pieces_or_hold_the_mask_are_refused(
    spm: Path, tmp_path: Path
) -> None:
    model = load_model(spm / "spm.model")
    text = (spm / "dict.txt").read_text(encoding="utf-8")
    path = tmp_path / "dict.txt"
    path.write_text(text.split("\n", 2)[2], encoding="utf-8")
    with pytest.raises(Refusal, match="found 2 missing"):
        fairseq_ids(model, load_dictionary(path))
    path.write_text(text + "<mask> 1\n", encoding="utf-8")
    with pytest.raises(Refusal, match="<mask> with id 150"):
        fairseq_ids(model, load_dictionary(path))
    path.write_text(text + text, encoding="utf-8")
    with pytest.raises(Refusal, match="Duplicate word"):
        load_dictionary(path)
    path.write_text("no counts\n", encoding="utf-8")
    with pytest.raises(Refusal, match="<piece> <count>"):
        load_dictionary(path)


def test_other_files_are_no_model(tmp_path: Path, corpus: Path) -> None:
    with pytest.raises(Refusal, match="train one with"):
        load_model(tmp_path / "none.model")
    with pytest.raises(Refusal, match="another kind of file"):
        load_model(corpus / "train.txt")


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(text=st.text(min_size=1), size=st.integers(1, 8))
def test_blocks_hold_every_line_once(tmp_path: Path, text: str, size: int) -> None:
    path = tmp_path / "text"
    path.write_bytes(text.encode())
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("_vocabulary.BLOCK_BYTES", size)
        blocks = list(text_blocks(path))
    assert b"".join(block.data for block in blocks).decode() == text
    lines = [line for block in blocks for line in block.lines()]
    assert lines == [" ".join(line.split()) for line in text.removesuffix("\n").split("\n")]


def test_blank_lines_are_lines() -> None:
    assert Block(Path("x"), 0, b"\n").lines() == [""]
    assert Block(Path("x"), 0, "a\n\n\u2003\nb".encode()).lines() == ["a", "", "", "b"]
