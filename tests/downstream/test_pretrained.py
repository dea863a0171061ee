"""What can be fine-tuned, and what is refused: kinds, dictionaries, SentencePiece models."""

import re
import shutil

import pytest
import torch

from fairseq_ki.downstream.pretrained import read_pretrained


def test_options_are_those_that_it_was_trained_with(masked_lm, piece_bin):
    found = read_pretrained(masked_lm, None, None)  # the data is the recorded one
    words = " ".join(found.model_words)
    assert words == "--arch roberta_micro_2x128 --encoder-layers 1 --encoder-embed-dim 32"
    assert found.positions == 32
    assert found.updates == 30
    assert found.dict_path == piece_bin / "dict.txt"
    assert len(found.sha256) == 64


def changed(source, folder, change):
    state = torch.load(source, weights_only=True)
    change(state)
    folder.mkdir(exist_ok=True)
    torch.save(state, folder / "other.pt")
    return folder / "other.pt"


def test_other_kinds_of_checkpoints(masked_lm, piece_bin, tmp_path):
    def causal(state):
        state["model"] = {"decoder.embed_tokens.weight": torch.zeros(3, 2)}
        state["cfg"]["model"] = {"_name": "gpt_micro_2x128"}

    path = changed(masked_lm, tmp_path, causal)
    with pytest.raises(ValueError, match=r"masked language model.*a causal .*gpt_micro_2x128"):
        read_pretrained(path, piece_bin, None)

    def unknown(state):
        state["cfg"]["model"].arch = "their_own"

    with pytest.raises(ValueError, match=r"architecture of RoBERTa .*found 'their_own'"):
        read_pretrained(changed(masked_lm, tmp_path, unknown), piece_bin, None)

    def larger(state):
        state["model"]["encoder.sentence_encoder.embed_tokens.weight"] = torch.zeros(70, 2)

    with pytest.raises(ValueError, match=r"expected \d+ embeddings.*<mask>, found 70"):
        read_pretrained(changed(masked_lm, tmp_path, larger), piece_bin, None)
    with pytest.raises(ValueError, match="expected a checkpoint, found no file"):
        read_pretrained(tmp_path / "none.pt", piece_bin, None)


def test_another_dictionary(masked_lm, piece_bin, tmp_path):
    lines = (piece_bin / "dict.txt").read_text().splitlines(keepends=True)
    shutil.copytree(piece_bin, tmp_path / "bin")
    # as many symbols, two of them swapped: the size alone would not tell
    swapped = "".join([lines[1], lines[0], *lines[2:]])
    (tmp_path / "bin" / "dict.txt").write_text(swapped)
    message = "expected a data-bin with the dictionary that it was trained with .*id 4:"
    with pytest.raises(ValueError, match=message):
        read_pretrained(masked_lm, tmp_path / "bin", None)
    # beside the checkpoint counts as well, where the recorded data is gone
    other = changed(
        masked_lm, tmp_path / "run", lambda s: s["cfg"]["task"].update(data=str(tmp_path / "gone"))
    )
    (tmp_path / "run" / "dict.txt").write_text("".join(lines))
    with pytest.raises(ValueError, match=re.escape(str(tmp_path / "run" / "dict.txt"))):
        read_pretrained(other, tmp_path / "bin", None)
    with pytest.raises(ValueError, match=r"found no folder .*gone; name a folder .*--data-bin"):
        read_pretrained(other, None, None)


def test_another_dictionary_than_the_checkpoint_recorded(masked_lm, piece_bin, tmp_path):
    """Its own dict.txt is not to be found: it was copied alone, and trained on a relative path."""

    def elsewhere(state):
        state["cfg"]["task"]["data"] = "not/here"

    alone = changed(masked_lm, tmp_path / "alone", elsewhere)
    assert read_pretrained(alone, piece_bin, None).dict_path == piece_bin / "dict.txt"
    shutil.copytree(piece_bin, tmp_path / "bin")
    lines = (piece_bin / "dict.txt").read_text().splitlines(keepends=True)
    (tmp_path / "bin" / "dict.txt").write_text("".join([lines[1], lines[0], *lines[2:]]))
    message = r"expected the dict\.txt that it was trained with \(SHA-256 [0-9a-f]{64}\), found"
    with pytest.raises(ValueError, match=message):
        read_pretrained(alone, tmp_path / "bin", None)


def test_missing_and_foreign_pieces(masked_lm, piece_bin, tmp_path):
    shutil.copy(piece_bin / "dict.txt", tmp_path)
    with pytest.raises(ValueError, match=r"expected the SentencePiece model .*--spm"):
        read_pretrained(masked_lm, tmp_path, None)
    assert read_pretrained(masked_lm, tmp_path, piece_bin / "spm.model").spm.get_piece_size()
    with pytest.raises(ValueError, match="expected a SentencePiece model, found another kind"):
        read_pretrained(masked_lm, tmp_path, piece_bin / "dict.txt")
