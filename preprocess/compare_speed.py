"""Measure binarize.py --fast against encode.py followed by fairseq-preprocess.

Runs both ways as commands, from text to data-bin, checks that the data files are equal byte for
byte, and prints the seconds, the ratio and the same for processor time.
"""

import filecmp
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from _corpus import SPLITS
from _files import parser, process_count, require_file, run_script

_HERE = Path(__file__).parent


def run(*commands: list[str]) -> tuple[float, float]:
    """Run the scripts of this folder one after the other; return wall and processor seconds."""
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    for script, *options in commands:
        subprocess.run([sys.executable, str(_HERE / script), *options], check=True)
    seconds, after = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_CHILDREN)
    return seconds, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def main(argv: Sequence[str] | None = None) -> None:
    """Command line; `--help` lists the options."""
    arguments = parser(__doc__)
    arguments.add_argument("corpus", type=Path, help="directory with train.txt, valid.txt")
    arguments.add_argument("--model", type=Path, required=True, help="SentencePiece model")
    arguments.add_argument(
        "--workers",
        type=process_count,
        default=os.cpu_count() or 1,
        help="processes of fairseq-preprocess and of --fast; encode.py takes one",
    )
    args = arguments.parse_args(argv)
    texts = {
        split: require_file(args.corpus / f"{split}.txt", "give a corpus's directory")
        for split in SPLITS
    }
    require_file(args.model, "train one with train_sentencepiece.py")
    with tempfile.TemporaryDirectory() as folder:
        encoded = {split: f"{folder}/{split}.pieces" for split in SPLITS}
        common = ["--model", str(args.model), "--corpus", str(args.corpus / "corpus.json")]
        common += ["--workers", str(args.workers)]
        slow, slow_cpu = run(
            *(
                ["encode.py", str(texts[s]), "--out", encoded[s], "--model", str(args.model)]
                for s in SPLITS
            ),
            [
                "binarize.py",
                *common,
                "--out-dir",
                f"{folder}/slow",
                *(word for s in SPLITS for word in (f"--{s}", encoded[s])),
            ],
        )
        fast, fast_cpu = run(
            [
                "binarize.py",
                *common,
                "--out-dir",
                f"{folder}/fast",
                "--fast",
                *(word for s in SPLITS for word in (f"--{s}", str(texts[s]))),
            ],
        )
        names = [f"{split}.{kind}" for split in SPLITS for kind in ("bin", "idx")] + ["dict.txt"]
        _, different, missing = filecmp.cmpfiles(
            f"{folder}/slow", f"{folder}/fast", names, shallow=False
        )
    if different or missing:
        sys.exit(f"the two data-bins differ in {different + missing}")
    print(f"equal files: {', '.join(names)}")
    print(
        f"wall time: {slow:.1f} s / {fast:.1f} s = {slow / fast:.1f}x with {args.workers} workers"
    )
    print(f"processor time: {slow_cpu:.1f} s / {fast_cpu:.1f} s = {slow_cpu / fast_cpu:.1f}x")


if __name__ == "__main__":
    run_script(main)
