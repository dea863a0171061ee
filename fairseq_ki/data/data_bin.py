"""Is a data directory there, and whole? If not, fairseq fails deep inside, or much later."""

import os
import struct

import numpy as np
from fairseq import utils
from fairseq.data import Dictionary
from fairseq.data.indexed_dataset import _code_to_dtype

from fairseq_ki.data.splits import split_files

_MAGIC = b"MMIDIDX\x00\x00"  # of fairseq's memory-mapped indices; other formats are let pass
_HEADER = struct.Struct("<9sQBQ")  # magic, version, code of the type, number of sentences
_SIZE, _POINTER = 4, 8
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


def check_split(data: str, split: str, epoch: int, combine: bool) -> None:
    """ValueError unless the files of a split are there and as long as they say themselves.

    Args:
        data: directories, separated by colons; epoch e reads the (e - 1)-th of them, in a circle.
        split, epoch, combine: as fairseq's load_dataset gets them.
    """
    paths = utils.split_paths(data)
    prefix = os.path.join(paths[(epoch - 1) % len(paths)], split)
    if not os.path.isfile(f"{prefix}.idx"):
        raise ValueError(
            f"split {split!r}: expected {prefix}.bin and .idx, found none; {_MEND}, --train-subset "
            "or --valid-subset"
        )
    for each in split_files(prefix, combine):
        _check_lengths(each)


def _check_lengths(prefix: str) -> None:
    index, tokens = f"{prefix}.idx", f"{prefix}.bin"
    found = os.path.getsize(index)
    with open(index, "rb") as file:
        header = file.read(_HEADER.size)
        if header[: len(_MAGIC)] != _MAGIC and found:
            return
        if len(header) < _HEADER.size:
            raise ValueError(f"{index}: expected an index, found {found} bytes; {_MEND}")
        _, _, code, sentences = _HEADER.unpack(header)
        expected = _HEADER.size + sentences * (_SIZE + _POINTER)
        if found != expected or code not in _code_to_dtype:
            raise ValueError(
                f"{index}: expected {expected} bytes for the {sentences} sentences of its header, "
                f"found {found}: it is damaged or cut short; {_MEND}"
            )
        end = 0
        if sentences:
            file.seek(_HEADER.size + (sentences - 1) * _SIZE)
            (last,) = struct.unpack("<i", file.read(_SIZE))
            file.seek(-_POINTER, os.SEEK_END)
            (start,) = struct.unpack("<q", file.read(_POINTER))
            end = start + last * np.dtype(_code_to_dtype[code]).itemsize
    size = os.path.getsize(tokens) if os.path.isfile(tokens) else 0
    if size != end:
        raise ValueError(
            f"{tokens}: expected {end} bytes, as its .idx says, found {size}: one of the two is "
            f"damaged, cut short or of another text; {_MEND}"
        )
