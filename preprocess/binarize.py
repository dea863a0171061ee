"""Turn text into a fairseq data-bin, with its dictionary, SentencePiece model and corpus.json.

By default --train and --valid are files of pieces from encode.py, and fairseq-preprocess does the
work. With --fast they are the text itself, which is encoded and written in parallel; the .bin and
.idx files are the same, byte for byte.
"""

import hashlib
import json
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import _fast_binarize
from _corpus import SPLITS
from _files import (
    Refusal,
    atomic_directory,
    check_outputs,
    parser,
    process_count,
    require_file,
    run_script,
)
from _vocabulary import (
    UNKNOWN,
    WORD_BEGINNING,
    fairseq_ids,
    load_dictionary,
    load_model,
    pieces,
    text_blocks,
)

DATA_BIN_FILES = (
    *(f"{split}.{kind}" for split in SPLITS for kind in ("bin", "idx")),
    *("dict.txt", "spm.model", "corpus.json", "preprocess.log"),
)


def require_pieces(path: Path, known: set[str]) -> None:
    """Refuse a file whose first block is not mostly pieces of the model."""
    tokens = [token for line in next(text_blocks(path)).lines() for token in line.split()]
    strange = [token for token in tokens if token not in known]
    if 2 * len(strange) > len(tokens):
        raise Refusal(
            f"pieces of the model in {path}",
            f"{len(strange)} of the first {len(tokens)} tokens are none, such as {strange[:3]}",
            "encode the text with encode.py and this model, or add --fast to give the text itself",
        )


def require_text(path: Path) -> None:
    """Refuse a file whose lines begin as encoded lines do."""
    lines = [line for line in next(text_blocks(path)).lines() if line]
    encoded = sum(line.startswith(WORD_BEGINNING) for line in lines)
    if 2 * encoded > len(lines):
        raise Refusal(
            f"text in {path}, because of --fast",
            f"{encoded} of the first {len(lines)} lines are SentencePiece's",
            "give the text that was encoded, or leave --fast out",
        )


def read_corpus_record(path: Path) -> dict[str, Any]:
    """Load a corpus.json; Refusal if it is something else."""
    require_file(path, "name the corpus.json of the text")
    try:
        record = json.loads(path.read_bytes())
        for split in SPLITS:
            facts = record["splits"][split]
            str(facts["sha256"]), int(facts["lines"]), int(facts["documents"])
        return record
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise Refusal(
            f"the record of a corpus in {path}",
            f"{type(error).__name__}: {error}",
            "name the corpus.json that text_corpus.py or docs_corpus.py wrote",
        ) from error


def check_against_record(
    record: dict[str, Any], inputs: Mapping[str, Path], are_texts: bool
) -> None:
    """Refuse inputs that are not the corpus described by its record.

    Text is compared by hash; encoded text by its lines, of which encoding keeps the number.
    """
    for split, path in inputs.items():
        facts = record["splits"][split]
        digest, lines = hashlib.sha256(), 0
        for block in text_blocks(path):
            digest.update(block.data)
            lines += block.data.count(b"\n")
        expected: Any = facts["lines"] + facts["documents"] - 1
        found: Any = lines
        if are_texts:
            expected, found = facts["sha256"], digest.hexdigest()
        if expected != found:
            raise Refusal(
                f"the {split} split of corpus.json: {'SHA-256' if are_texts else 'lines'} "
                f"{expected}",
                f"{found} in {path}",
                "encode the text again, name its own corpus.json with --corpus, or build it anew",
            )


def run_fairseq_preprocess(
    inputs: Mapping[str, Path], dict_path: Path, out_dir: Path, workers: int
) -> None:
    """Run fairseq-preprocess; RuntimeError with its last lines if it fails."""
    command = [sys.executable, "-m", "fairseq_cli.preprocess", "--only-source"]
    command += ["--srcdict", str(dict_path), "--destdir", str(out_dir)]
    command += ["--workers", str(workers), "--dataset-impl", "mmap"]
    for split, path in inputs.items():
        command += [f"--{split}pref", str(path)]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        tail = "\n".join((done.stdout + done.stderr).splitlines()[-15:])
        raise RuntimeError(f"fairseq-preprocess failed with status {done.returncode}:\n{tail}")
    for line in (out_dir / "preprocess.log").read_text().splitlines():
        if "sents" in line:
            print(line)


def main(argv: Sequence[str] | None = None) -> None:
    """Command line; `--help` lists the options."""
    arguments = parser(__doc__)
    arguments.add_argument("--train", type=Path, required=True, help="see above")
    arguments.add_argument("--valid", type=Path, required=True, help="see above")
    arguments.add_argument("--model", type=Path, required=True, help="SentencePiece model")
    arguments.add_argument("--dict", type=Path, help="default: dict.txt beside the model")
    arguments.add_argument(
        "--corpus", type=Path, help="default: corpus.json beside --train, if it is there"
    )
    arguments.add_argument("--out-dir", type=Path, required=True, help="the data-bin to write")
    arguments.add_argument("--fast", action="store_true", help="read text and skip encode.py")
    arguments.add_argument("--workers", type=process_count, default=1, help="processes")
    arguments.add_argument("--overwrite", action="store_true", help="replace an earlier data-bin")
    args = arguments.parse_args(argv)
    inputs = {"train": args.train, "valid": args.valid}
    dict_path = args.dict or args.model.parent / "dict.txt"
    corpus_path = args.corpus or args.train.parent / "corpus.json"
    for path in inputs.values():
        require_file(path, "write it with text_corpus.py, and without --fast with encode.py")
    known = {piece for piece in pieces(load_model(args.model)) if piece} | {UNKNOWN}
    for path in inputs.values():
        require_text(path) if args.fast else require_pieces(path, known)
    check_outputs([args.out_dir], args.overwrite)
    has_record = bool(args.corpus) or corpus_path.exists()
    if has_record:
        check_against_record(read_corpus_record(corpus_path), inputs, are_texts=args.fast)
    else:
        print(f"no {corpus_path}: the data-bin will not say what it was made of")
    with atomic_directory(args.out_dir, DATA_BIN_FILES) as staging:
        if args.fast:
            _fast_binarize.binarize(inputs, args.model, dict_path, staging, args.workers)
        else:
            fairseq_ids(load_model(args.model), load_dictionary(dict_path))
            run_fairseq_preprocess(inputs, dict_path, staging, args.workers)
        shutil.copyfile(args.model, staging / "spm.model")
        if has_record:
            shutil.copyfile(corpus_path, staging / "corpus.json")
    print(f"{args.out_dir}: done")


if __name__ == "__main__":
    run_script(main)
