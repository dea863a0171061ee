"""A checkpoint in the zip format is looked over before torch reads it.

torch's reader compares no checksum: a byte that a disk or a copy has changed would become another
weight, without a word. And it unpacks what is compressed, so that a small file could ask for more
memory than there is, although ``torch.save`` compresses nothing.

Python's reader looks, and torch's own then reads. Where the format lets two readers find two
archives in one file, it is refused, or what was looked at would not be what is read: the index is
at the very end, at the place that it names, and has each name once.
"""

import os
import struct
import zipfile
from typing import IO

_FIRST_RECORD = b"PK\x03\x04"  # what torch, too, knows its zip format by
_END = struct.Struct("<4s4H2LH")  # without a comment, which torch writes none of
_END64 = struct.Struct("<4sQ2H2L4Q")
_LOCATOR = struct.Struct("<4sLQL")


def is_archive(file: str | os.PathLike | IO[bytes]) -> bool:
    """Whether torch reads a path or open file in the zip format, by the rule that torch has."""
    if isinstance(file, (str, os.PathLike)):
        with open(file, "rb") as opened:
            return is_archive(opened)
    file.seek(0)
    return file.read(len(_FIRST_RECORD)) == _FIRST_RECORD


def what_is_wrong(file: str | os.PathLike | IO[bytes], contents: bool) -> str | None:
    """The damage in words; None if there is none.

    Args:
        file: path or open file for which :func:`is_archive` is true.
        contents: compare every record with its CRC-32 too, which reads the whole file.
    """
    if isinstance(file, (str, os.PathLike)):
        with open(file, "rb") as opened:
            return what_is_wrong(opened, contents)
    size = file.seek(0, os.SEEK_END)
    try:
        wrong = _wrong_index(file, size)
        if wrong is not None:
            return wrong
        with zipfile.ZipFile(file) as archive:
            records = archive.infolist()
            if not all(map(_is_stored, records)) or sum(r.file_size for r in records) > size:
                return f"its records are compressed or overlap ({size} bytes)"
            if len(archive.namelist()) != len(set(archive.namelist())):
                return f"its index names a record twice ({size} bytes)"
            changed = archive.testzip() if contents else None
    except OSError:
        raise  # the disk or a network mount
    except Exception as error:  # an index made to confuse, or damaged
        return f"its index is damaged ({size} bytes, {type(error).__name__}: {error})"
    return changed and f"the record {changed} has changed since it was written ({size} bytes)"


def _is_stored(record: zipfile.ZipInfo) -> bool:
    same_size = record.file_size == record.compress_size
    return record.compress_type == zipfile.ZIP_STORED and same_size


def _wrong_index(file: IO[bytes], size: int) -> str | None:
    """Where readers would find different indices: Python counts back, torch takes what is named."""
    at = size - _END.size
    end = _read(file, _END, at)
    if end is None or end[0] != b"PK\x05\x06" or end[-1] != 0:
        return f"it is cut short or damaged ({size} bytes, and the index at its end is missing)"
    elsewhere = f"its index is not where it says ({size} bytes)"
    length, start = end[5:7]
    locator = _read(file, _LOCATOR, at - _LOCATOR.size)
    if locator is not None and locator[0] == b"PK\x06\x07":  # of 64 bits, which torch writes always
        at -= _LOCATOR.size + _END64.size
        end64 = _read(file, _END64, at)
        if end64 is None or end64[0] != b"PK\x06\x06" or locator[2] != at:
            return elsewhere
        length, start = end64[8:10]
    return None if start + length == at else elsewhere


def _read(file: IO[bytes], layout: struct.Struct, at: int) -> tuple | None:
    """What stands there; None where the file does not reach so far."""
    if at < 0:
        return None
    file.seek(at)
    return layout.unpack(file.read(layout.size))
