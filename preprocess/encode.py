"""Encode text with a SentencePiece model: a line of pieces for each line, blank lines kept.

The output is what fairseq-preprocess reads: pieces separated by single spaces. What the model
does not know is written as <unk>.
"""

import multiprocessing
from collections.abc import Sequence
from pathlib import Path

from _files import atomic_files, check_outputs, parser, process_count, require_file, run_script
from _vocabulary import UNKNOWN, Block, encode_ids, load_model, pieces, text_blocks
from sentencepiece import SentencePieceProcessor

_model: SentencePieceProcessor  # of a worker process
_symbols: list[str]


def _start_worker(path: Path) -> None:
    global _model, _symbols
    _model = load_model(path)
    _symbols = [piece or UNKNOWN for piece in pieces(_model)]


def encode_block(block: Block) -> tuple[bytes, int, int]:
    """Return a block's lines as pieces, the number of tokens and the number of unknown ones."""
    ids, sizes = encode_ids(_model, block)
    symbols = [_symbols[index] for index in ids]
    ends = sizes.cumsum()
    lines = [" ".join(symbols[start:end]) for start, end in zip(ends - sizes, ends, strict=True)]
    text = "\n".join(lines) + "\n"
    return text.encode(), len(ids), int((ids == _model.unk_id()).sum())


def main(argv: Sequence[str] | None = None) -> None:
    """Command line; `--help` lists the options."""
    arguments = parser(__doc__)
    arguments.add_argument("input", type=Path, help="text file (plain, .xz or .gz)")
    arguments.add_argument("--model", type=Path, required=True, help="SentencePiece model")
    arguments.add_argument("--out", type=Path, required=True, help="file of pieces to write")
    arguments.add_argument("--workers", type=process_count, default=1, help="processes")
    arguments.add_argument("--overwrite", action="store_true", help="replace earlier output")
    args = arguments.parse_args(argv)
    require_file(args.input, "make it with text_corpus.py or docs_corpus.py")
    pieces(load_model(args.model))
    check_outputs([args.out], args.overwrite, [args.input])
    lines = tokens = unknown = 0
    with (
        atomic_files([args.out]) as (file,),
        multiprocessing.Pool(args.workers, _start_worker, (args.model,)) as pool,
    ):
        for text, block_tokens, block_unknown in pool.imap(encode_block, text_blocks(args.input)):
            file.write(text)
            lines += text.count(b"\n")
            tokens += block_tokens
            unknown += block_unknown
    share = 100 * unknown / max(tokens, 1)
    print(f"{args.out}: {lines:,} lines, {tokens:,} tokens, {share:.3f}% unknown")


if __name__ == "__main__":
    run_script(main)
