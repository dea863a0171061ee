"""Take a part of texts that are split already: every N-th document, for parts and domains.

The inputs (plain, .xz or .gz, a blank line between documents) are cleaned as in text_corpus.py;
every N-th document of the training text is kept, starting with the K-th. Longer documents may be
cut into several first, so that parts of few and long documents have equal sizes. The validation
text keeps its order, at most --valid-lines of each document and --valid-bytes in all, so that no
long document fills it. Writes train.txt, valid.txt and corpus.json.
"""

import json
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path

from _cleaning import documents
from _corpus import FORMAT, Split, output_paths
from _files import (
    Refusal,
    atomic_files,
    check_outputs,
    parser,
    positive_int,
    reading,
    require_file,
    run_script,
)


def documents_of(paths: Sequence[Path]) -> Iterator[list[str]]:
    """The documents of text files, one file after the other."""
    for path in paths:
        with reading(path) as file:
            yield from documents(raw.decode(errors="replace") for raw in file)


def pieces(found: Iterator[list[str]], lines: int | None) -> Iterator[list[str]]:
    """Documents cut into documents of at most so many lines; as they are for None."""
    for document in found:
        step = lines or len(document)
        yield from (document[i : i + step] for i in range(0, len(document), step))


def main(argv: Sequence[str] | None = None) -> None:
    """Command line; `--help` lists the options."""
    arguments = parser(__doc__)
    arguments.add_argument("--train", type=Path, nargs="+", required=True, help="training text")
    arguments.add_argument("--valid", type=Path, nargs="+", required=True, help="validation text")
    arguments.add_argument("--out-dir", type=Path, required=True, help="where the three files go")
    arguments.add_argument("--every", type=positive_int, default=1, metavar="N")
    arguments.add_argument("--start", type=positive_int, default=1, metavar="K")
    arguments.add_argument(
        "--piece-lines", type=positive_int, help="cut longer documents first (default: whole ones)"
    )
    arguments.add_argument("--valid-lines", type=positive_int, default=40)
    arguments.add_argument("--valid-bytes", type=positive_int, default=200_000)
    arguments.add_argument("--overwrite", action="store_true", help="replace earlier output")
    args = arguments.parse_args(argv)
    for path in (*args.train, *args.valid):
        require_file(path, "check the path")
    if args.start > args.every:
        raise Refusal("--start of at most --every", f"{args.start} of {args.every}", "count from 1")
    paths = output_paths(args.out_dir)
    check_outputs(paths, args.overwrite, (*args.train, *args.valid))
    train, valid = Split("train.txt"), Split("valid.txt")
    with atomic_files(paths) as files:
        found = pieces(documents_of(args.train), args.piece_lines)
        for document in islice(found, args.start - 1, None, args.every):
            train.write(files[0], document)
        for document in documents_of(args.valid):
            if valid.size >= args.valid_bytes:
                break
            valid.write(files[1], document[: args.valid_lines])
        for name, split in (("train", train), ("valid", valid)):
            if not split.documents:
                raise Refusal(f"documents for {name}", "none", "give more text or a lower --every")
        names = ("every", "start", "piece_lines", "valid_lines", "valid_bytes")
        options = {name: getattr(args, name) for name in names}
        record = {
            "format": FORMAT,
            "made_by": "part.py",
            "options": options,
            "splits": {"train": train.summary(), "valid": valid.summary()},
            "sources": {str(path): {} for path in (*args.train, *args.valid)},
        }
        files[2].write((json.dumps(record, indent=2) + "\n").encode())
    for split in (train, valid):
        print(f"{args.out_dir / split.file}: {split.documents:,} documents, {split.words:,} words")


if __name__ == "__main__":
    run_script(main)
