"""Build train.txt, valid.txt and corpus.json from text files (plain, .xz or .gz).

A blank line separates documents. Each line is put in Unicode NFC, loses its control characters,
and has its white space collapsed. A document whose letters and digits all agree with an earlier
one is dropped. Then every N-th document goes to valid.txt. The same input and options give the
same bytes.
"""

import hashlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from _cleaning import documents
from _corpus import add_arguments, output_paths, write_corpus
from _files import (
    Refusal,
    bounded_line,
    check_outputs,
    parser,
    reading,
    require_file,
    run_script,
)

BAD_BYTES = ("replace", "drop-line", "refuse")
_UTF16_MARKS = (b"\xff\xfe", b"\xfe\xff")


def text_lines(path: Path, bad_bytes: str, record: dict[str, Any]) -> Iterator[str]:
    """Yield the lines of a file, and fill `record` with its size, hash and lines of bad UTF-8.

    Lines end at a line feed, a carriage return, or both. `bad_bytes` says what becomes of a
    line that is not UTF-8: each undecodable sequence replaced by U+FFFD, or the line dropped, or
    Refusal raised. Bytes and hash in `record` are of the text after decompression.
    """
    digest = hashlib.sha256()
    record |= {"bytes": 0, "sha256": "", "lines_of_bad_utf8": 0}
    with reading(path) as file:
        for number, raw in enumerate(iter(lambda: bounded_line(file, path), b""), 1):
            digest.update(raw)
            record["bytes"] += len(raw)
            if number == 1 and raw.startswith(_UTF16_MARKS):
                raise Refusal(
                    f"UTF-8 in {path}", "UTF-16", "convert it, e.g. iconv -f UTF-16 -t UTF-8"
                )
            try:
                line = raw.decode()
            except UnicodeDecodeError as error:
                record["lines_of_bad_utf8"] += 1
                if bad_bytes == "refuse":
                    raise Refusal(
                        f"UTF-8 in {path}",
                        f"line {number}: {error}",
                        "repair the file, or choose --bad-bytes replace or drop-line",
                    ) from error
                if bad_bytes == "drop-line":
                    continue
                line = raw.decode(errors="replace")
            yield from line.rstrip("\r\n").split("\r")
    record["sha256"] = digest.hexdigest()


def read_sources(
    paths: Sequence[Path], bad_bytes: str, sources: dict[str, dict[str, Any]]
) -> Iterator[tuple[str, list[str]]]:
    """Yield (path, document) for every document of every file, and fill `sources` by path."""
    for path in paths:
        name = str(path)
        sources[name] = {}
        count = 0
        for document in documents(text_lines(path, bad_bytes, sources[name])):
            count += 1
            yield name, document
        if not count:
            raise Refusal(f"documents in {path}", "no text", "leave this file out")
        bad = sources[name]["lines_of_bad_utf8"]
        note = f", {bad:,} lines of bad UTF-8 ({bad_bytes})" if bad else ""
        print(f"{path}: {count:,} documents, {sources[name]['bytes']:,} bytes{note}", flush=True)


def main(argv: Sequence[str] | None = None) -> None:
    """Command line; `--help` lists the options."""
    arguments = parser(__doc__)
    arguments.add_argument("inputs", type=Path, nargs="+", help="text files, in this order")
    arguments.add_argument(
        "--bad-bytes",
        choices=BAD_BYTES,
        default="replace",
        help="a line that is not UTF-8: put U+FFFD for each bad sequence, drop the line, or stop",
    )
    add_arguments(arguments)
    args = arguments.parse_args(argv)
    for path in args.inputs:
        require_file(path, "check the path")
    if len(set(args.inputs)) < len(args.inputs):
        raise Refusal("each input once", "a repeated path", "name every file once")
    check_outputs(output_paths(args.out_dir), args.overwrite, args.inputs)
    sources: dict[str, dict[str, Any]] = {}
    found = read_sources(args.inputs, args.bad_bytes, sources)
    write_corpus(args, "text_corpus.py", found, sources, {"bad_bytes": args.bad_bytes})


if __name__ == "__main__":
    run_script(main)
