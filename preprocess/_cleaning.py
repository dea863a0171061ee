"""Cleaning of text and the key by which two documents count as the same."""

import hashlib
import re
import unicodedata
from collections.abc import Iterable, Iterator

# Controls that are not white space, surrogates, private use, byte-order mark: no reader sees them.
_DROPPED = re.compile(
    "[\x00-\x08\x0e-\x1b\x7f-\x84\x86-\x9f\ud800-\udfff\ue000-\uf8ff\ufeff"
    "\U000f0000-\U000ffffd\U00100000-\U0010fffd]"
)
_NOT_ALPHANUMERIC = re.compile(r"[\W_]+")


def clean_line(line: str) -> str:
    """Return one line in NFC, without control characters, white space collapsed and stripped.

    Every Unicode white space, line separators included, becomes a space; so the result never
    breaks a line in any reader. Cleaning twice changes nothing.
    """
    return " ".join(unicodedata.normalize("NFC", _DROPPED.sub("", line)).split())


def documents(lines: Iterable[str]) -> Iterator[list[str]]:
    """Clean lines and group them into documents: lists of lines between blank lines."""
    document: list[str] = []
    for line in lines:
        cleaned = clean_line(line)
        if cleaned:
            document.append(cleaned)
        elif document:
            yield document
            document = []
    if document:
        yield document


def duplicate_key(document: Iterable[str]) -> bytes:
    """Return 16 bytes that agree when two documents have the same letters and digits.

    Case, punctuation, spacing and compatibility forms do not count. A document without a letter
    or digit is compared by its text.
    """
    text = "\n".join(document)
    folded = unicodedata.normalize("NFKC", text).casefold()
    letters = _NOT_ALPHANUMERIC.sub("", folded)
    return hashlib.blake2b((letters or text).encode(), digest_size=16).digest()
