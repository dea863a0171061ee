"""Let EleutherAI's lm-evaluation-harness score a converted causal model on a text file, and
compare its figure with that of fairseq-eval-lm on the same lines."""

import argparse
import math
import re
import subprocess
import sys
import tempfile
from pathlib import Path


def by_the_harness(model: Path, text: Path) -> float:
    """Bits per byte of the file, as the harness says."""
    import lm_eval
    import yaml
    from lm_eval.tasks import TaskManager

    with tempfile.TemporaryDirectory() as folder:
        task = yaml.safe_load(Path(__file__).with_name("text.yaml").read_text())
        task["dataset_kwargs"]["data_files"]["test"] = str(text.resolve())
        task["dataset_kwargs"]["cache_dir"] = folder
        result = lm_eval.simple_evaluate(
            model="hf",
            # the harness itself puts the model's first token in front of each text
            model_args={"pretrained": str(model), "add_bos_token": False, "dtype": "float32"},
            tasks=[task],
            device="cpu",
            batch_size=8,
            bootstrap_iters=0,
            task_manager=TaskManager(include_defaults=False),
        )
    return result["results"]["ki_text"]["bits_per_byte,none"]


def by_fairseq(checkpoint: Path, data: Path, text: Path) -> tuple[float, float]:
    """Bits per byte by fairseq-eval-lm's loss on the split ``valid``, and its perplexity.

    Every line ends with </s>; the harness counts its four characters as bytes of the text.
    """
    command = [sys.executable, "-m", "fairseq_cli.eval_lm", str(data)]
    command += ["--user-dir", "fairseq_ki", "--task", "language_modeling", "--path"]
    command += [str(checkpoint), "--gen-subset", "valid", "--sample-break-mode", "eos", "--cpu"]
    command += ["--tokens-per-sample", "512", "--batch-size", "8", "--required-batch-size-multiple"]
    command += ["1", "--num-workers", "0"]
    done = subprocess.run(command, capture_output=True, text=True)
    said = done.stdout + done.stderr
    found = re.search(r"Evaluated ([\d,]+) tokens.*?Loss \(base 2\): ([\d.]+)", said, re.S)
    if done.returncode or found is None:
        raise RuntimeError(f"fairseq-eval-lm failed:\n{said[-2000:]}")
    tokens, loss = int(found[1].replace(",", "")), float(found[2])
    lines = text.read_text(encoding="utf-8").splitlines()
    size = sum(len(f"{line}</s>".encode()) for line in lines)
    return tokens * loss / size, 2**loss


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", type=Path, required=True, help="directory of convert to-hf")
    parser.add_argument("--checkpoint", type=Path, required=True, help="it was made from")
    parser.add_argument("--data", type=Path, required=True, help="data-bin; valid holds the text")
    parser.add_argument("--text", type=Path, required=True, help="the lines of valid")
    args = parser.parse_args()
    harness = by_the_harness(args.model, args.text)
    fairseq, ppl = by_fairseq(args.checkpoint, args.data, args.text)
    print(f"lm-evaluation-harness: {harness:.4f} bits per byte")
    print(f"fairseq-eval-lm:       {fairseq:.4f} bits per byte (perplexity {ppl:.2f} a token)")
    if not math.isclose(harness, fairseq, rel_tol=1e-3):
        sys.exit("they differ")


if __name__ == "__main__":
    main()
