"""How close are domains? Overlap of the most frequent words of text files (the paper's Table 9).

For each pair of files: the share, in %, of the 10,000 most frequent words (stop words left out)
of one that are among those of the other. A word is a run of letters, in lower case; of words that
occur equally often the alphabetically first ones count. The paper finds 19.1 for
WB-CS, 25.6 for WB-BIO and 22.5 for CS-BIO.
"""

import json
import re
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from itertools import combinations
from pathlib import Path

from _files import (
    Refusal,
    atomic_files,
    check_outputs,
    parser,
    positive_int,
    require_file,
    run_script,
)
from _vocabulary import text_blocks

_WORD = re.compile(r"[^\W\d_]+")


def count_words(path: Path, stop_words: Collection[str]) -> Counter[str]:
    """Count the words of a text file (plain, .xz or .gz), without the stop words."""
    counts: Counter[str] = Counter()
    for block in text_blocks(path):
        for line in block.lines():
            counts.update(_WORD.findall(line.lower()))
    for word in stop_words:
        del counts[word]
    return counts


def most_frequent(counts: Mapping[str, int], top: int) -> frozenset[str]:
    """Return the `top` words with the highest counts; ties go to the alphabetically first."""
    ranked = sorted(counts, key=lambda word: (-counts[word], word))
    return frozenset(ranked[:top])


def overlap(first: frozenset[str], second: frozenset[str]) -> float:
    """Return the share, in %, of words that two sets of equal size have in common."""
    return 100 * len(first & second) / len(first)


def names_of(paths: Sequence[Path]) -> list[str]:
    """Short names for the files: the stem up to the first dot, or the path where these repeat."""
    stems = [path.name.split(".")[0] for path in paths]
    return stems if len(set(stems)) == len(stems) else [str(path) for path in paths]


def table(names: Sequence[str], overlaps: Mapping[tuple[str, str], float]) -> str:
    """Format the symmetric matrix as text, one row and one column per file."""
    width = max(6, *map(len, names))
    rows = [" ".join(f"{name:>{width}}" for name in ("", *names))]
    for row in names:
        values = [100.0 if row == column else overlaps[row, column] for column in names]
        rows.append(" ".join([f"{row:>{width}}", *(f"{value:>{width}.1f}" for value in values)]))
    return "\n".join(rows)


def main(argv: Sequence[str] | None = None) -> None:
    """Command line; `--help` lists the options."""
    arguments = parser(__doc__)
    arguments.add_argument("inputs", type=Path, nargs="+", help="text files, one per domain")
    arguments.add_argument("--top", type=positive_int, default=10_000, help="words compared")
    arguments.add_argument("--json", type=Path, help="also write the numbers to this file")
    arguments.add_argument("--overwrite", action="store_true", help="replace an earlier --json")
    args = arguments.parse_args(argv)
    if len(args.inputs) < 2 or len(set(args.inputs)) < len(args.inputs):
        raise Refusal("two or more different files", f"{len(args.inputs)}", "name one per domain")
    for path in args.inputs:
        require_file(path, "check the path")
    if args.json:
        check_outputs([args.json], args.overwrite, args.inputs)
    from sklearn.feature_extraction.text import ENGLISH_STOP_WORDS  # takes a second to import

    names = names_of(args.inputs)
    words: dict[str, frozenset[str]] = {}
    for name, path in zip(names, args.inputs):
        counts = count_words(path, ENGLISH_STOP_WORDS)
        if len(counts) < args.top:
            raise Refusal(
                f"{args.top:,} different words in {path}",
                f"{len(counts):,}",
                "give more text, or choose a lower --top for all files",
            )
        words[name] = most_frequent(counts, args.top)
    overlaps = {}
    for first, second in combinations(names, 2):
        value = overlap(words[first], words[second])
        overlaps[first, second] = overlaps[second, first] = value
    print(f"overlap in % of the {args.top:,} most frequent words, stop words left out")
    print(table(names, overlaps))
    if args.json:
        record = {
            "top": args.top,
            "files": dict(zip(names, map(str, args.inputs))),
            "overlap_percent": [
                {"domains": list(pair), "percent": overlaps[pair]}
                for pair in combinations(names, 2)
            ],
        }
        with atomic_files([args.json]) as (file,):
            file.write((json.dumps(record, indent=2) + "\n").encode())


if __name__ == "__main__":
    run_script(main)
