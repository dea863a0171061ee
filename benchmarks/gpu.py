"""`step.py` on a CUDA device in half precision, with model-FLOPs utilisation.

    python benchmarks/gpu.py                              # the paper's MEDIUM -> BASE
    python benchmarks/gpu.py --model both --student 4x192 --teacher 2x128 --vocabulary 8000 \\
        --tokens-per-sample 128

Utilisation: FLOPs of the student's and the teacher's matrix products (see
``fairseq_ki/evaluation/flops.py``) per second, over what the device can do at most in that
precision. Without a CUDA device nothing is measured.
"""

import argparse
import json
import sys
from dataclasses import asdict, replace

import step
import torch
from _sides import Problem, table

PRECISIONS = ("fp16", "bf16")
# dense matrix products in fp16 and bf16, TFLOP/s, from the makers' data sheets
PEAK_TFLOPS = {
    "V100": 125,
    "T4": 65,
    "A10": 125,
    "A100": 312,
    "L4": 121,
    "L40S": 362,
    "H100": 989,
    "H200": 989,
}


def peak_tflops(device: str) -> float | None:
    """Of a device by its name, None where it is not known; the longest match counts."""
    known = [name for name in PEAK_TFLOPS if name in device.replace("-", " ").split()]
    return PEAK_TFLOPS[max(known, key=len)] if known else None


def utilisation(problem: Problem, result: dict, peak: float | None) -> float | None:
    """Share of the device's peak that the models' own FLOPs make up."""
    if peak is None:
        return None
    flops = problem.student_flops * result["bound"]  # the bound counts the teacher where it runs
    return flops / (result["ms"] / 1e3) / (peak * 1e12)


def measure(
    problem: Problem, precision: str, settings: step.Settings, peak: float | None
) -> list[dict]:
    """The cases of `step.py` in one precision, with utilisation."""
    problem = replace(problem, precision=precision)
    chosen = step.cases(problem.causal, micro_batches=problem.micro_batches, device=problem.device)
    results = step.measure(problem, chosen, settings)
    return [
        {"precision": precision, **r, "utilisation": utilisation(problem, r, peak)} for r in results
    ]


def text(results: list[dict]) -> str:
    """The table of one problem, all precisions."""
    head, *rows = step.rows_of(results)
    rows = [[r["precision"], *row] for r, row in zip(results, rows)]
    for r, row in zip(results, rows):
        row.append("" if r["utilisation"] is None else f"{r['utilisation']:.1%}")
    return table([["precision", *head, "utilisation"], *rows])


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", choices=("masked", "causal", "both"), default="masked")
    parser.add_argument("--precisions", nargs="+", choices=PRECISIONS, default=PRECISIONS)
    parser.add_argument("--peak-tflops", type=float, help="of the device, where it is not known")
    step.add_problem(parser)
    parser.set_defaults(vocabulary=50265, tokens_per_sample=512, student=None)
    parser.add_argument("--turns", type=int, default=30, help="updates per case that are timed")
    parser.add_argument("--no-memory", action="store_true", help="measure time alone")
    parser.add_argument("--json", action="store_true", help="one JSON object instead of tables")
    args = parser.parse_args(argv)
    if not torch.cuda.is_available():
        print("gpu.py: no CUDA device here, nothing measured (step.py measures the CPU)")
        return 0
    given = args.student, args.teacher
    name = torch.cuda.get_device_name()
    peak = args.peak_tflops or peak_tflops(name)
    if peak is None:
        print(f"{name}: peak not known, no utilisation; give --peak-tflops", file=sys.stderr)
    settings = step.Settings(args.turns, torch.get_num_threads(), memory=not args.no_memory)
    found = {}
    for causal in (False, True):
        kind = "causal" if causal else "masked"
        if args.model not in (kind, "both"):
            continue
        paper = ("gpt_124m", "gpt_73m") if causal else ("roberta_base", "roberta_medium")
        args.student, args.teacher = (g or p for g, p in zip(given, paper))
        problem = replace(step.problem_of(args, causal), device="cuda")
        results = []
        for precision in args.precisions:
            results += measure(problem, precision, settings, peak)
        found[kind] = {"problem": asdict(problem), "results": results}
        if not args.json:
            print(step.heading(problem))
            print(text(results))
            print(step.closing(results), end="\n\n")
    about = step.machine(settings.threads) | {"gpu": name, "peak_tflops": peak}
    if args.json:
        print(json.dumps({"machine": about, **found}))
    else:
        print(", ".join(f"{key} {value}" for key, value in about.items()))
    return 0


if __name__ == "__main__":
    sys.exit(main())
