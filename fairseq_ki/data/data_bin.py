"""Is a data directory there, and whole? If not, fairseq fails deep inside, or much later."""

import os
import struct
from collections.abc import Iterator

import numpy as np
from fairseq import utils
from fairseq.data import Dictionary
from fairseq.data.indexed_dataset import _code_to_dtype

from fairseq_ki.data.splits import split_files

_MAGIC = b"MMIDIDX\x00\x00"  # of fairseq's memory-mapped indices; other formats are let pass
_HEADER = struct.Struct("<9sQBQ")  # magic, version, code of the type, number of sentences
_VERSION = 1
_SIZE, _POINTER = np.dtype("<i4"), np.dtype("<i8")
_PIECE = 1 << 22  # sentences or tokens that are looked at together: 16 to 32 MB
_MEND = "binarise the text again (preprocess/README.md), or correct DATA"


def check_dictionary(data: str) -> None:
    """ValueError unless the first of the colon-separated directories has a readable dict.txt."""
    path = os.path.join(utils.split_paths(data)[0], "dict.txt")
    if not os.path.isfile(path):
        raise ValueError(f"DATA: expected a data-bin with a dict.txt, found no {path}; {_MEND}")
    try:
        Dictionary.load(path)
    except Exception as error:  # fairseq raises that very class for a file that is not text
        raise ValueError(
            f"{path}: expected a dict.txt of fairseq-preprocess (one symbol and its count a line), "
            f"found: {' '.join(str(error).split())}; {_MEND}"
        ) from error


def check_split(data: str, split: str, epoch: int, combine: bool, symbols: int) -> None:
    """ValueError unless the files of a split are there, whole, and of this dictionary.

    Both files are read once, in pieces, as fairseq itself does when it opens them.

    Args:
        data: directories, separated by colons; epoch e reads the (e - 1)-th of them, in a circle.
        split, epoch, combine: as fairseq's load_dataset gets them.
        symbols: of the dictionary; every token's id is below.
    """
    paths = utils.split_paths(data)
    prefix = os.path.join(paths[(epoch - 1) % len(paths)], split)
    if not os.path.isfile(f"{prefix}.idx"):
        raise ValueError(
            f"split {split!r}: expected {prefix}.bin and .idx, found none; {_MEND}, --train-subset "
            "or --valid-subset"
        )
    for each in split_files(prefix, combine):
        kind = _check_lengths(each)
        if kind is not None:
            _check_ids(f"{each}.bin", kind, symbols)


def _check_lengths(prefix: str) -> np.dtype | None:
    """The type of the tokens; None for a format that is not looked into."""
    index, tokens = f"{prefix}.idx", f"{prefix}.bin"
    found = os.path.getsize(index)
    with open(index, "rb") as file:
        header = file.read(_HEADER.size)
    if header[: len(_MAGIC)] != _MAGIC and found:
        return None
    if len(header) < _HEADER.size:
        raise ValueError(f"{index}: expected an index, found {found} bytes; {_MEND}")
    _, version, code, sentences = _HEADER.unpack(header)
    if version != _VERSION:
        raise ValueError(
            f"{index}: expected an index of fairseq's version {_VERSION}, found version {version}: "
            f"it is damaged or of another program; {_MEND}"
        )
    expected = _HEADER.size + sentences * (_SIZE.itemsize + _POINTER.itemsize)
    if found != expected or code not in _code_to_dtype:
        raise ValueError(
            f"{index}: expected {expected} bytes for the {sentences} sentences of its header, "
            f"found {found}: it is damaged or cut short; {_MEND}"
        )
    kind = np.dtype(_code_to_dtype[code])
    end = _end(index, sentences, kind.itemsize)
    size = os.path.getsize(tokens) if os.path.isfile(tokens) else 0
    if size != end:
        raise ValueError(
            f"{tokens}: expected {end} bytes, as its .idx says, found {size}: one of the two is "
            f"damaged, cut short or of another text; {_MEND}"
        )
    if not size:
        raise ValueError(
            f"{tokens}: expected sentences, found none (0 bytes): the text was empty; {_MEND}"
        )
    return kind


def _end(index: str, sentences: int, width: int) -> int:
    """Bytes of all sentences, each of which has to begin where the one before ends."""
    end = 0
    sizes = _pieces(index, _SIZE, _HEADER.size, sentences)
    pointers = _pieces(index, _POINTER, _HEADER.size + sentences * _SIZE.itemsize, sentences)
    for its_sizes, its_pointers in zip(sizes, pointers, strict=True):
        ends = end + np.cumsum(its_sizes, dtype=np.int64) * width
        starts = np.concatenate([[end], ends[:-1]])
        wrong = (its_pointers != starts) | (its_sizes < 0)
        if wrong.any():
            at = int(wrong.argmax())
            raise ValueError(
                f"{index}: expected every sentence to begin where the one before ends, found one "
                f"of {its_sizes[at]} tokens at byte {its_pointers[at]}, where {starts[at]} was "
                f"expected: it is damaged; {_MEND}"
            )
        end = int(ends[-1])
    return end


def _check_ids(tokens: str, kind: np.dtype, symbols: int) -> None:
    """An id without a symbol would end a training somewhere in its first epoch."""
    if kind.kind not in "iu":
        raise ValueError(f"{tokens}: expected whole numbers as ids, found {kind}; {_MEND}")
    for piece in _pieces(tokens, kind, 0, os.path.getsize(tokens) // kind.itemsize):
        low, high = int(piece.min()), int(piece.max())
        if low < 0 or high >= symbols:
            raise ValueError(
                f"{tokens}: expected ids from 0 to {symbols - 1}, for the {symbols} symbols of the "
                f"dictionary, found {low if low < 0 else high}: its dict.txt is of other data, or "
                "one of the two is damaged; put the one beside it that was made with it, or "
                f"{_MEND}"
            )


def _pieces(path: str, kind: np.dtype, start: int, count: int) -> Iterator[np.ndarray]:
    with open(path, "rb") as file:
        file.seek(start)
        for done in range(0, count, _PIECE):
            yield np.fromfile(file, kind, min(_PIECE, count - done))
