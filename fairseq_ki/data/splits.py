"""One split of a data directory, as fairseq finds it on disk."""

import hashlib
import itertools
import os

from fairseq_ki.store import split_fingerprint


def split_files(prefix: str, combine: bool) -> list[str]:
    """The prefixes of the files that fairseq reads: train, and with ``combine`` train1, ..."""
    if not combine:
        return [prefix]
    numbered = (prefix + (str(k) if k else "") for k in itertools.count())
    return list(itertools.takewhile(lambda path: os.path.exists(path + ".idx"), numbered))


def combined_fingerprint(prefix: str, combine: bool) -> str:
    """SHA-256 that changes with any byte of the split.

    fairseq cuts train, train1, ... into blocks as one text, so together they are one split; the
    fingerprint of several is the SHA-256 of theirs, one after the other in hexadecimal.
    """
    fingerprints = [split_fingerprint(path) for path in split_files(prefix, combine)]
    if len(fingerprints) == 1:
        return fingerprints[0]
    return hashlib.sha256("".join(fingerprints).encode()).hexdigest()
