"""Which of a teacher's rows belong to the student's symbols.

Shapes: S symbols of the student, V of the teacher.
"""

import logging
import re
from collections.abc import Mapping

import torch
from fairseq.data import Dictionary
from torch import Tensor

logger = logging.getLogger(__name__)

# weights with one row, or one number, for each symbol of the dictionary
_BY_SYMBOL = (
    "embed_tokens.weight",
    "output_projection.weight",
    "embed_out",  # the same in old checkpoints of transformer_lm
    "lm_head.weight",
    "lm_head.bias",
)
# of adaptive inputs and outputs
_BANDS = re.compile(r"embed_tokens\.embeddings\.|adaptive_softmax\.")
_SHOWN = 5


def symbol_rows(teacher: Dictionary, student: Dictionary, path: str) -> Tensor | None:
    """The teacher's id of each of the student's symbols.

    The teacher may have its symbols in another order, and have more of them: extra special
    tokens, a vocabulary filled up to a multiple of 8.

    Args:
        path: of the teacher, for messages.

    Returns:
        (S,) int64, each of 0 to V - 1 at most once; None where all ids are the same.

    Raises:
        ValueError: where the student has symbols that the teacher lacks, or a symbol is twice in
            a dictionary, so that it is not clear which rows are meant.
    """
    if teacher.symbols == student.symbols:
        return None
    missing = [symbol for symbol in student.symbols if symbol not in teacher.indices]
    if missing:
        raise ValueError(
            f"teacher {path} has another dictionary: expected all of the student's {len(student)} "
            f"symbols, in any order, found {len(missing)} missing from the teacher's "
            f"{len(teacher)} ({_some(missing)}); take a teacher of the same vocabulary, or "
            "binarise the student's data with the teacher's dict.txt (--srcdict)"
        )
    for whose, dictionary in (("teacher's", teacher), ("student's", student)):
        twice = [s for i, s in enumerate(dictionary.symbols) if dictionary.indices[s] != i]
        if twice:
            raise ValueError(
                f"teacher {path} has another dictionary: expected every symbol once where ids "
                f"differ, found {len(twice)} twice in the {whose} ({_some(twice)})"
            )
    rows = torch.tensor([teacher.indices[symbol] for symbol in student.symbols])
    moved = int((rows != torch.arange(len(rows))).sum())
    logger.info(
        f"teacher {path}: {len(student):,} of its {len(teacher):,} symbols are the student's, "
        f"{moved:,} of them at another id; {len(teacher) - len(student):,} are dropped"
    )
    return rows


def weights_by_symbol(
    weights: Mapping[str, Tensor], rows: Tensor | None, vocabulary: int, path: str
) -> dict[str, Tensor]:
    """A teacher's weights over the student's dictionary, so that nothing is mapped in training.

    The output layer then has no logits of dropped symbols, which is to say that the teacher's
    probabilities are re-normalised over the student's symbols.

    Args:
        weights: by name, as in the checkpoint.
        rows: from :func:`symbol_rows`.
        vocabulary: V.

    Raises:
        ValueError: where embedding or output layer do not have V rows, or are cut into bands of
            frequency, which symbols cannot change.
    """
    bands = [name for name in weights if _BANDS.search(name)]
    if rows is not None and bands:
        raise ValueError(
            f"teacher {path}: expected the student's dictionary, symbol by symbol, because ids "
            f"decide about the teacher's adaptive layers, found another ({bands[0]})"
        )
    taken = dict(weights)
    for name, value in weights.items():
        # a character input has none of these: it spells the student's own symbols
        if not name.endswith(_BY_SYMBOL):
            continue
        if value.shape[:1] != (vocabulary,):
            raise ValueError(
                f"teacher {path}: expected {vocabulary} embedding rows (the dictionary's size) in "
                f"{name}, found {value.size(0) if value.dim() else 'a number'}"
            )
        if rows is not None:
            taken[name] = value[rows]
    return taken


def _some(symbols: list[str]) -> str:
    shown = ", ".join(repr(symbol) for symbol in symbols[:_SHOWN])
    return shown + (", ..." if len(symbols) > _SHOWN else "")
