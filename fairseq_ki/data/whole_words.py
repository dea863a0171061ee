"""Which dictionary entries begin a word, for ``--mask-whole-words``."""

from typing import Any

import torch
from fairseq.data import Dictionary
from fairseq.data.encoders import build_bpe
from fairseq.data.encoders.utils import get_whole_word_mask

SENTENCEPIECE_SPACE = "\u2581"


def word_beginnings(bpe: Any, dictionary: Dictionary) -> torch.Tensor:
    """(V,) uint8: 1 where an entry begins a word.

    Args:
        bpe: fairseq's ``--bpe`` options, or None; then SentencePiece's mark is looked for.

    Raises:
        ValueError: if neither tells where words begin.
    """
    if bpe is not None and build_bpe(bpe) is not None:
        return get_whole_word_mask(bpe, dictionary)
    pieces = [s.startswith(SENTENCEPIECE_SPACE) for s in dictionary.symbols]
    if not any(pieces):
        raise ValueError(
            "--mask-whole-words: expected to know where words begin, found no --bpe and no "
            f"entry of the dictionary that starts with SentencePiece's {SENTENCEPIECE_SPACE!r}; "
            "name the encoding of the data with --bpe"
        )
    begins = [piece or i < dictionary.nspecial for i, piece in enumerate(pieces)]
    return torch.tensor(begins, dtype=torch.uint8)
