"""Train a SentencePiece model and write it with the fairseq dictionary of its pieces.

Writes spm.model and dict.txt. The model's ids are fairseq's: <s> 0, <pad> 1, </s> 2, <unk> 3, then
the pieces. So a fairseq Dictionary made from dict.txt has --vocab-size symbols, and masked-LM
tasks append <mask> as one more. The counts in dict.txt are those of the pieces in the whole
input. The same input and options give the same bytes.
"""

import io
import random
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from _files import (
    Refusal,
    atomic_files,
    check_outputs,
    parser,
    positive_int,
    process_count,
    require_file,
    run_script,
)
from _vocabulary import FAIRSEQ_SYMBOLS, encode_ids, pieces, text_blocks
from sentencepiece import SentencePieceProcessor, SentencePieceTrainer

MAX_LINE_BYTES = 4096
"""SentencePiece silently leaves out lines longer than its limit, so longer ones are cut."""
_RESERVED = "\u2585"  # SentencePiece silently leaves out lines with this character


def sentences(paths: Sequence[Path]) -> Iterator[str]:
    """Yield the lines of the files that are not blank, cut so that SentencePiece takes all."""
    for path in paths:
        for block in text_blocks(path):
            for line in block.lines():
                yield from _cut(line.replace(_RESERVED, " ").replace("\0", " ").strip())


def _cut(line: str) -> Iterator[str]:
    data = line.encode()
    while len(data) > MAX_LINE_BYTES:
        end = data.rfind(b" ", 1, MAX_LINE_BYTES)
        if end < 0:  # one long word: cut it where a character begins
            end = MAX_LINE_BYTES
            while data[end] & 0xC0 == 0x80:
                end -= 1
        yield data[:end].decode()
        data = data[end:].lstrip()
    if data:
        yield data.decode()


def sample(lines: Iterator[str], size: int, seed: int) -> list[str]:
    """Return `size` of the lines drawn uniformly, or all if they are fewer, in their order."""
    generator = random.Random(seed)
    kept: list[tuple[int, str]] = []
    for number, line in enumerate(lines):
        if len(kept) < size:
            kept.append((number, line))
        elif (slot := generator.randrange(number + 1)) < size:
            kept[slot] = (number, line)
    return [line for _, line in sorted(kept)]


def train(
    lines: Sequence[str], vocab_size: int, model_type: str, character_coverage: float, threads: int
) -> bytes:
    """Return the bytes of a SentencePiece model with `vocab_size` ids, fairseq's 0 to 3 included.

    Raises Refusal if the text cannot give that many pieces, or has more characters than that.
    """
    model = io.BytesIO()
    try:
        SentencePieceTrainer.train(
            sentence_iterator=iter(lines),
            model_writer=model,
            vocab_size=vocab_size,
            model_type=model_type,
            character_coverage=character_coverage,
            num_threads=threads,
            max_sentence_length=MAX_LINE_BYTES + 1,
            bos_id=0,
            pad_id=1,
            eos_id=2,
            unk_id=3,
            minloglevel=2,
        )
    except (RuntimeError, OSError, ValueError, SyntaxError) as error:
        # SyntaxError: how sentencepiece 0.2.0 says that an option is out of range
        message = str(error).rpartition("] ")[2].rstrip(". ") or "nothing"
        raise Refusal(
            f"text that gives {vocab_size} pieces ({model_type})",
            f"{len(lines):,} lines of which SentencePiece says: {message}",
            "choose another --vocab-size or --character-coverage, or give more text",
        ) from error
    return model.getvalue()


def dictionary(model: SentencePieceProcessor, paths: Sequence[Path]) -> tuple[bytes, int, int]:
    """Return dict.txt for a model, with the counts of its pieces in the files, and the number of
    tokens and of unknown ones among them."""
    counts = np.zeros(model.get_piece_size(), np.int64)
    for path in paths:
        for block in text_blocks(path):
            counts += np.bincount(encode_ids(model, block)[0], minlength=len(counts))
    lines = [
        f"{piece} {count}\n" for piece, count in zip(pieces(model), counts, strict=True) if piece
    ]
    return "".join(lines).encode(), int(counts.sum()), int(counts[model.unk_id()])


def main(argv: Sequence[str] | None = None) -> None:
    """Command line; `--help` lists the options."""
    arguments = parser(__doc__)
    arguments.add_argument(
        "inputs", type=Path, nargs="+", help="training text, one line a sentence"
    )
    arguments.add_argument("--out-dir", type=Path, required=True, help="where the two files go")
    arguments.add_argument(
        "--vocab-size", type=positive_int, default=8000, help="symbols of the fairseq Dictionary"
    )
    arguments.add_argument("--model-type", choices=("unigram", "bpe"), default="unigram")
    arguments.add_argument(
        "--character-coverage",
        type=float,
        default=0.9995,
        help="share of the characters that get a piece; the rarer ones become <unk>",
    )
    arguments.add_argument(
        "--sample-lines",
        type=positive_int,
        default=1_000_000,
        help="train on so many lines, drawn at random, if the input has more",
    )
    arguments.add_argument("--seed", type=int, default=1, help="of the sampling of lines")
    arguments.add_argument(
        "--threads",
        type=process_count,
        default=4,
        help="threads of SentencePiece; another number gives a slightly different model",
    )
    arguments.add_argument("--overwrite", action="store_true", help="replace earlier output")
    args = arguments.parse_args(argv)
    for path in args.inputs:
        require_file(path, "make it with text_corpus.py or docs_corpus.py")
    if not 0 < args.character_coverage <= 1:
        raise Refusal("--character-coverage in (0, 1]", str(args.character_coverage), "use 0.9995")
    if args.vocab_size <= len(FAIRSEQ_SYMBOLS):
        raise Refusal(
            "--vocab-size over 4", str(args.vocab_size), "leave room beside <s>, <pad>, </s>, <unk>"
        )
    outputs = [args.out_dir / "spm.model", args.out_dir / "dict.txt"]
    check_outputs(outputs, args.overwrite, args.inputs)
    lines = sample(sentences(args.inputs), args.sample_lines, args.seed)
    if not lines:
        raise Refusal("text in the input", "blank lines only", "check the input files")
    print(f"training on {len(lines):,} lines", flush=True)
    data = train(lines, args.vocab_size, args.model_type, args.character_coverage, args.threads)
    model = SentencePieceProcessor(model_proto=data)
    text, tokens, unknown = dictionary(model, args.inputs)
    with atomic_files(outputs) as (model_file, dict_file):
        model_file.write(data)
        dict_file.write(text)
    print(
        f"{outputs[0]}: {model.get_piece_size():,} ids; the input has {tokens:,} tokens, "
        f"{100 * unknown / tokens:.3f}% unknown"
    )


if __name__ == "__main__":
    run_script(main)
