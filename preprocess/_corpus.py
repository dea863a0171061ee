"""De-duplicate documents, split them, and write train.txt, valid.txt and corpus.json."""

import argparse
import hashlib
import json
import platform
import unicodedata
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from _cleaning import duplicate_key
from _files import Refusal, atomic_files, positive_int

FORMAT = 1
SPLITS = ("train", "valid")


@dataclass
class Split:
    """What was written to one text file; `size` is in bytes."""

    file: str
    documents: int = 0
    lines: int = 0
    words: int = 0
    size: int = 0
    _hash: Any = field(default_factory=hashlib.sha256, repr=False)

    def write(self, file: IO[bytes], document: list[str]) -> None:
        """Append a document, with a blank line before it unless it is the first."""
        data = ("\n" * bool(self.documents) + "\n".join(document) + "\n").encode()
        file.write(data)
        self._hash.update(data)
        self.documents += 1
        self.lines += len(document)
        self.words += sum(line.count(" ") + 1 for line in document)
        self.size += len(data)

    def summary(self) -> dict[str, Any]:
        """The entry of corpus.json."""
        return {
            "file": self.file,
            "documents": self.documents,
            "lines": self.lines,
            "words": self.words,
            "bytes": self.size,
            "sha256": self._hash.hexdigest(),
        }


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options that both kinds of corpus share."""
    parser.add_argument("--out-dir", type=Path, required=True, help="where the three files go")
    parser.add_argument(
        "--valid-every",
        type=positive_int,
        default=200,
        help="every N-th document is for validation; 200 is the paper's 199 : 1",
    )
    parser.add_argument(
        "--min-words", type=positive_int, default=1, help="drop documents with fewer words"
    )
    parser.add_argument("--overwrite", action="store_true", help="replace earlier output")


def output_paths(out_dir: Path) -> list[Path]:
    """The files of a corpus; corpus.json is the last and marks the corpus as finished."""
    return [out_dir / name for name in ("train.txt", "valid.txt", "corpus.json")]


def write_corpus(
    args: argparse.Namespace,
    made_by: str,
    found: Iterable[tuple[str, list[str]]],
    sources: dict[str, dict[str, Any]],
    options: dict[str, Any],
) -> dict[str, Any]:
    """Write the corpus of (source name, cleaned document) pairs and return corpus.json's content.

    `sources` may still be filled while `found` is consumed; each gets its count of documents
    kept. A document that equals an earlier one by `duplicate_key` is dropped before the split,
    so none is in both files. The caller has
    checked the outputs.
    """
    paths = output_paths(args.out_dir)
    splits = {name: Split(f"{name}.txt") for name in SPLITS}
    counts: Counter[str] = Counter(read=0, too_short=0, duplicate=0)
    kept: Counter[str] = Counter()
    seen: set[bytes] = set()
    with atomic_files(paths) as files:
        for source, document in found:
            counts["read"] += 1
            if sum(line.count(" ") + 1 for line in document) < args.min_words:
                counts["too_short"] += 1
                continue
            key = duplicate_key(document)
            if key in seen:
                counts["duplicate"] += 1
                continue
            seen.add(key)
            kept[source] += 1
            is_valid = len(seen) % args.valid_every == 0
            splits["valid" if is_valid else "train"].write(files[is_valid], document)
        _refuse_empty(splits, counts, args.valid_every)
        record = {
            "format": FORMAT,
            "made_by": made_by,
            "options": {"valid_every": args.valid_every, "min_words": args.min_words} | options,
            "documents": dict(counts) | {"kept": len(seen)},
            "splits": {name: split.summary() for name, split in splits.items()},
            "sources": {name: sources[name] | {"documents": kept[name]} for name in sources},
            "versions": {
                "python": platform.python_version(),
                "unicode": unicodedata.unidata_version,
            },
        }
        files[2].write((json.dumps(record, indent=2, ensure_ascii=False) + "\n").encode())
    print(
        f"{counts['read']:,} documents read; dropped {counts['duplicate']:,} duplicates and "
        f"{counts['too_short']:,} of fewer than {args.min_words} words"
    )
    for split in splits.values():
        print(
            f"{args.out_dir / split.file}: {split.documents:,} documents, {split.lines:,} lines, "
            f"{split.words:,} words, {split.size:,} bytes"
        )
    return record


def _refuse_empty(splits: dict[str, Split], counts: Counter[str], valid_every: int) -> None:
    total = sum(split.documents for split in splits.values())
    if total < 2:
        raise Refusal(
            "at least two different documents, parted by blank lines",
            f"{total} kept of {counts['read']} read",
            "give more text, or lower --min-words",
        )
    for name, split in splits.items():
        if not split.documents:
            raise Refusal(
                f"a document for {name}",
                f"{total} documents in all with --valid-every {valid_every}",
                f"give more text or choose --valid-every between 2 and {total}",
            )
