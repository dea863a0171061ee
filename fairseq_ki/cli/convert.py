"""``fairseq-ki convert to-hf|from-hf|encode``: in and out of transformers' formats."""

import argparse
import importlib.util
import sys
from pathlib import Path

from fairseq_ki.cli._quiet import quiet


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The verbs of this verb."""
    verbs = parser.add_subparsers(dest="convert_verb", metavar="VERB", required=True)

    to_hf = verbs.add_parser("to-hf", help="a fairseq checkpoint to a directory of transformers")
    to_hf.set_defaults(run_convert=run_to_hf)
    to_hf.add_argument("checkpoint", type=Path, metavar="CKPT")
    to_hf.add_argument(
        "--dict", type=Path, metavar="FILE", help="its dict.txt; default: beside the checkpoint"
    )
    tokenizer = to_hf.add_mutually_exclusive_group(required=True)
    tokenizer.add_argument(
        "--spm", type=Path, metavar="MODEL", help="the SentencePiece model of its data"
    )
    tokenizer.add_argument(
        "--tokenizer",
        type=Path,
        metavar="DIR",
        help="the directory of transformers whose tokenizer its data was encoded with",
    )
    to_hf.add_argument("--out", type=Path, required=True, metavar="DIR", help="a new directory")
    to_hf.add_argument(
        "--head",
        metavar="NAME",
        help="classification head to convert, none for the masked LM; default: the only one",
    )
    to_hf.add_argument(
        "--labels", type=Path, metavar="FILE", help="label/dict.txt: the names of the classes"
    )
    to_hf.add_argument(
        "--drop-missing-pieces",
        action="store_true",
        help="where a SentencePiece is not in dict.txt, let the tokenizer split it into others",
    )

    from_hf = verbs.add_parser(
        "from-hf", help="a directory of transformers to a fairseq checkpoint"
    )
    from_hf.set_defaults(run_convert=run_from_hf)
    from_hf.add_argument("directory", type=Path, metavar="DIR")
    from_hf.add_argument(
        "--out", type=Path, required=True, metavar="CKPT", help="dict.txt is written beside it"
    )
    _add_allow_bin(from_hf)

    encode = verbs.add_parser("encode", help="text to the symbols of a converted model's dict.txt")
    encode.set_defaults(run_convert=run_encode)
    encode.add_argument("directory", type=Path, metavar="DIR", help="of transformers")
    encode.add_argument("text", type=Path, metavar="FILE")
    encode.add_argument("--out", type=Path, required=True, metavar="FILE")
    encode.add_argument(
        "--documents",
        action="store_true",
        help="one line a document, line ends in it kept; blank lines lie between documents",
    )


def _add_allow_bin(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--allow-bin",
        action="store_true",
        help="read pytorch_model.bin, a pickle, where there are no safetensors",
    )


def run(args: argparse.Namespace) -> int:
    if importlib.util.find_spec("transformers") is None:
        raise ValueError("conversion needs transformers, found none: pip install 'fairseq_ki[hf]'")
    import fairseq_ki  # noqa: F401  (registers the architectures, and safe reading of checkpoints)

    with quiet("fairseq", "hydra"):
        return args.run_convert(args)


def run_to_hf(args: argparse.Namespace) -> int:
    from fairseq_ki.convert.to_hf import convert

    architecture = convert(
        args.checkpoint,
        args.dict or args.checkpoint.parent / "dict.txt",
        args.out,
        spm=args.spm,
        tokenizer=args.tokenizer,
        head=args.head,
        labels=args.labels,
        drop_missing_pieces=args.drop_missing_pieces,
    )
    print(f"{args.out}: {architecture}")
    return 0


def run_from_hf(args: argparse.Namespace) -> int:
    from fairseq_ki.convert.from_hf import load_directory, write_checkpoint

    loaded = load_directory(args.directory, args.allow_bin)
    dictionary = write_checkpoint(loaded, args.out)
    for note in loaded.notes:
        print(f"note: {note}", file=sys.stderr)
    print(f"{args.out}: {loaded.kind}, {len(loaded.dictionary):,} symbols ({dictionary})")
    return 0


def run_encode(args: argparse.Namespace) -> int:
    from fairseq_ki.convert.encode import encode_file

    lines, tokens = encode_file(args.directory, args.text, args.out, args.documents)
    print(f"{args.out}: {lines:,} lines, {tokens:,} tokens")
    return 0
