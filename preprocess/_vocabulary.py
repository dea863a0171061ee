"""A SentencePiece model as a fairseq dictionary, and text as the lines every encoder reads."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from _files import Refusal, bounded_line, reading, require_file
from sentencepiece import SentencePieceProcessor

if TYPE_CHECKING:
    from fairseq.data import Dictionary

UNKNOWN = "<unk>"
FAIRSEQ_SYMBOLS = ("<s>", "<pad>", "</s>", UNKNOWN)
"""Ids 0 to 3 of every fairseq Dictionary; never written to dict.txt."""
MASK = "<mask>"
"""Appended by the task behind the last piece, so dict.txt must not hold it."""
WORD_BEGINNING = "\u2581"
"""SentencePiece's mark of a space before a piece."""
BLOCK_BYTES = 1 << 20
"""Text is read and encoded in blocks of about this size."""


def load_model(path: Path) -> SentencePieceProcessor:
    """Load a SentencePiece model; Refusal if the file is missing or is something else."""
    require_file(path, "train one with train_sentencepiece.py")
    try:
        return SentencePieceProcessor(model_file=str(path))
    except (RuntimeError, OSError) as error:
        raise Refusal(
            f"a SentencePiece model at {path}", "another kind of file", "name the .model file"
        ) from error


def pieces(model: SentencePieceProcessor) -> list[str | None]:
    """Return the piece of every id of the model, None for ids that are no piece of text
    (control symbols, unknown, unused).

    Raises Refusal for pieces that a fairseq dictionary cannot hold: those with white space
    (fairseq splits lines there), and its own symbols.
    """
    found: list[str | None] = []
    for index in range(model.get_piece_size()):
        piece = model.id_to_piece(index)
        if model.is_control(index) or model.is_unknown(index) or model.is_unused(index):
            found.append(None)
        elif piece.split() != [piece] or piece in (*FAIRSEQ_SYMBOLS, MASK):
            raise Refusal(
                "pieces without white space and other than fairseq's symbols",
                f"piece {index} = {piece!r}",
                "train the model with train_sentencepiece.py, which makes no such piece",
            )
        else:
            found.append(piece)
    return found


def load_dictionary(path: Path) -> "Dictionary":
    """Load dict.txt as fairseq does; Refusal if it is no dictionary. Imports fairseq: seconds."""
    from fairseq.data import Dictionary

    require_file(path, "use the dict.txt of train_sentencepiece.py")
    try:
        return Dictionary.load(str(path))
    except Exception as error:  # fairseq raises ValueError, RuntimeError or a bare Exception
        raise Refusal(
            f"lines of '<piece> <count>' in {path}",
            str(error),
            "use the dict.txt of train_sentencepiece.py",
        ) from error


def fairseq_ids(model: SentencePieceProcessor, dictionary: "Dictionary") -> np.ndarray:
    """Return the dictionary's id of every id of the model, and </s> behind the last one.

    Raises Refusal if a piece is not in the dictionary, or <mask> is.
    """
    found = pieces(model)
    missing = [piece for piece in found if piece and piece not in dictionary]
    if missing:
        raise Refusal(
            "every piece of the model in the dictionary",
            f"{len(missing)} missing, such as {missing[:5]}",
            "use the dict.txt that train_sentencepiece.py wrote with this model",
        )
    if MASK in dictionary:
        raise Refusal(
            f"a dictionary without {MASK}, which tasks append as its last symbol",
            f"{MASK} with id {dictionary.index(MASK)}",
            "use the dict.txt that train_sentencepiece.py wrote with this model",
        )
    return np.array([*(dictionary.index(piece or UNKNOWN) for piece in found), dictionary.eos()])


@dataclass(frozen=True)
class Block:
    """Some whole lines of a file, as bytes; `offset` is where they begin in the text."""

    path: Path
    offset: int
    data: bytes

    def lines(self) -> list[str]:
        """The lines with their white space collapsed; blank lines are kept.

        Lines end at line feeds only: what other readers take for a line break is white space
        here, so it cannot reach a dictionary or an encoded file. Raises Refusal on bad UTF-8.
        """
        try:
            text = self.data.decode()
        except UnicodeDecodeError as error:
            raise Refusal(
                f"UTF-8 in {self.path}",
                f"{error.reason} at byte {self.offset + error.start}",
                "clean the text with text_corpus.py first",
            ) from error
        return [" ".join(line.split()) for line in text.removesuffix("\n").split("\n")]


def text_blocks(path: Path) -> Iterator[Block]:
    """Yield a file (plain, .xz or .gz) as blocks of whole lines; Refusal if it has no byte."""
    offset = 0
    with reading(path) as file:
        while data := file.read(BLOCK_BYTES):
            data += bounded_line(file, path)
            yield Block(path, offset, data)
            offset += len(data)
    if not offset:
        raise Refusal(f"text in {path}", "an empty file", "check how it was made")


def encode_ids(model: SentencePieceProcessor, block: Block) -> tuple[np.ndarray, np.ndarray]:
    """Return the model's ids of a block's lines, one after the other, int32 of shape (tokens,),
    and the number of tokens of each line, int32 of shape (lines,)."""
    encoded = model.encode(block.lines(), out_type=int)
    sizes = np.fromiter(map(len, encoded), np.int32, len(encoded))
    flat = [index for ids in encoded for index in ids]
    return np.array(flat, np.int32), sizes
