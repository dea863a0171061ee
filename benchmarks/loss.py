"""The objective in its dense and its fused form, side by side: time and peak memory.

    python benchmarks/loss.py --threads 2
    python benchmarks/loss.py --sizes 2048x50265x768x576 --repeats 3 --json

One measurement is the student's output layer, the teacher's output layer and both losses, forward
and backward, from features to the gradients of features, weight and bias. Time: the two forms
take turns in one process, medians, and the median of the ratios of neighbours. Memory: one fresh
process per form, its highest resident size less that before the first call (on CUDA: the
allocator's peak, in this process). The bound is the matrix products alone.
"""

import argparse
import json
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

try:
    import fairseq_ki.objective.fused as fused_module
except ModuleNotFoundError:  # from a clone that is not installed
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
    import fairseq_ki.objective.fused as fused_module

from fairseq_ki.objective.dense import dense_terms
from fairseq_ki.objective.divergence import renormalised_topk
from fairseq_ki.objective.signals import HeadSignal, Signal, SparseSignal

FORMS = ("dense", "fused")


class Size(NamedTuple):
    rows: int
    vocab: int
    dim: int
    teacher_dim: int

    @classmethod
    def parse(cls, text: str) -> "Size":
        numbers = text.split("x")
        if len(numbers) != 4 or not all(n.isdigit() and int(n) > 0 for n in numbers):
            raise argparse.ArgumentTypeError(
                f"expected ROWSxVOCABxDIMxTEACHER_DIM such as 600x8000x192x128, got {text!r}"
            )
        return cls(*map(int, numbers))


# the quickstart's update, smaller and larger ones, and the paper's vocabulary
SIZES = "40x8000x192x128 150x8000x192x128 600x8000x192x128 256x50265x768x576 2048x50265x768x576"


def problem(size: Size, args: argparse.Namespace) -> tuple[list[Tensor], Tensor, Signal]:
    """Random inputs: [features, weight, bias], target, the teacher's signal."""
    torch.manual_seed(0)
    make = {"device": args.device, "dtype": getattr(torch, args.dtype)}
    student = [
        torch.randn(size.rows, size.dim, **make),
        torch.randn(size.vocab, size.dim, **make).mul_(size.dim**-0.5),
        torch.zeros(size.vocab, **make),
    ]
    target = torch.randint(size.vocab, (size.rows,), device=args.device)
    head = HeadSignal(
        torch.randn(size.rows, size.teacher_dim, **make),
        torch.randn(size.vocab, size.teacher_dim, **make).mul_(size.teacher_dim**-0.5),
        torch.zeros(size.vocab, **make),
    )
    if args.signal == "head":
        return [x.requires_grad_() for x in student], target, head
    ids = torch.randint(size.vocab, (size.rows, args.k), device=args.device)
    log_probs = torch.randn(size.rows, args.k, device=args.device).log_softmax(-1)
    probs = renormalised_topk(log_probs, args.tau)
    sparse = SparseSignal(ids, probs, log_probs[:, 0].contiguous(), ids[:, 0].contiguous())
    return [x.requires_grad_() for x in student], target, sparse


def update(form: str, size: Size, args: argparse.Namespace) -> Callable[[], None]:
    """One forward and backward of the given form."""
    inputs, target, signal = problem(size, args)

    def run() -> None:
        if form == "dense":
            terms = dense_terms(F.linear(*inputs), target, signal, args.rate, args.tau)
        else:
            terms = fused_module.fused_terms(*inputs, target, signal, args.rate, args.tau)
        torch.autograd.grad(terms.objective, inputs)

    return run


def products(size: Size, args: argparse.Namespace) -> Callable[[], None]:
    """The matrix products alone: logits of both models, gradients of features and weight."""
    (x, weight, _), _, signal = problem(size, args)
    x, weight = x.detach(), weight.detach()

    def run() -> None:
        logits = x @ weight.t()
        if isinstance(signal, HeadSignal):
            torch.mm(signal.features, signal.weight.t())
        torch.mm(logits, weight)
        torch.mm(logits.t(), x)

    return run


def seconds(run: Callable[[], None], args: argparse.Namespace) -> float:
    start = time.perf_counter()
    run()
    if args.device == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - start


def times(size: Size, args: argparse.Namespace) -> dict[str, float]:
    runs = {form: update(form, size, args) for form in FORMS} | {"products": products(size, args)}
    measured: dict[str, list[float]] = {name: [] for name in runs}
    for turn in range(args.repeats + 1):
        for name, run in runs.items():
            elapsed = seconds(run, args)
            if turn > 0:  # the first call of each warms up
                measured[name].append(elapsed)
    result = {f"{name}_ms": 1e3 * statistics.median(values) for name, values in measured.items()}
    ratios = [f / d for d, f in zip(measured["dense"], measured["fused"])]
    return result | {"time_ratio": statistics.median(ratios)}


def resident_peak_mib() -> float:
    """Highest resident size of this process so far."""
    try:
        status = Path("/proc/self/status").read_text()
        return int(status.split("VmHWM:")[1].split()[0]) / 1024
    except OSError:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def peak_mib(form: str, size: Size, args: argparse.Namespace) -> float:
    """What one call adds to this process at its highest, in MiB."""
    run = update(form, size, args)
    if args.device == "cuda":
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        seconds(run, args)
        return (torch.cuda.max_memory_allocated() - before) / 2**20
    Path("/proc/self/clear_refs").write_text("5")  # Linux: sets the highest to the present
    before = resident_peak_mib()
    run()
    return resident_peak_mib() - before


def peaks(size: Size, args: argparse.Namespace) -> dict[str, float]:
    result = {}
    for form in FORMS:
        if args.device == "cuda":
            result[f"{form}_mib"] = peak_mib(form, size, args)
            continue
        command = [sys.executable, __file__, *sys.argv[1:], "--peak-of", form]
        command += ["--sizes", "x".join(map(str, size))]
        printed = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        result[f"{form}_mib"] = float(printed)
    return result | {"memory_ratio": result["fused_mib"] / result["dense_mib"]}


def table(measured: list[dict]) -> str:
    head = ["rows", "vocabulary", "dim", "teacher", "dense ms", "fused ms", "ratio", "bound"]
    lines = [[*head, "dense MiB", "fused MiB", "ratio", "auto"]]
    for m in measured:
        lines.append(
            [str(m[k]) for k in Size._fields]
            + [f"{m['dense_ms']:.1f}", f"{m['fused_ms']:.1f}", f"{m['time_ratio']:.3f}"]
            + [f"{m['products_ms'] / m['dense_ms']:.3f}"]
            + [f"{m['dense_mib']:.0f}", f"{m['fused_mib']:.0f}", f"{m['memory_ratio']:.3f}"]
            + ["fused" if m["prefer_fused"] else "dense"]
        )
    widths = [max(map(len, column)) for column in zip(*lines)]
    return "\n".join(
        " | ".join(cell.rjust(width) for cell, width in zip(line, widths)) for line in lines
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    sizes = [Size.parse(text) for text in SIZES.split()]
    parser.add_argument("--sizes", type=Size.parse, nargs="+", default=sizes, metavar="NxVxDxD_T")
    parser.add_argument("--signal", choices=("head", "topk"), default="head")
    parser.add_argument("--k", type=int, default=10, help="ids per row of --signal topk")
    parser.add_argument("--tau", type=float, default=2.0)
    parser.add_argument("--rate", type=float, default=0.7)
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--dtype", choices=("float32", "float16", "bfloat16"), default="float32")
    parser.add_argument("--json", action="store_true", help="one JSON object instead of a table")
    parser.add_argument("--peak-of", choices=FORMS, help=argparse.SUPPRESS)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    if args.peak_of:
        print(peak_mib(args.peak_of, args.sizes[0], args))
        return
    measured = []
    for size in args.sizes:
        print(f"{size} ...", file=sys.stderr, flush=True)
        choice = {"prefer_fused": fused_module.prefer_fused(size.rows)}
        measured.append(size._asdict() | times(size, args) | peaks(size, args) | choice)
    machine = {"torch": torch.__version__, "threads": args.threads, "device": args.device}
    if args.device == "cuda":
        machine["gpu"] = torch.cuda.get_device_name()
    settings = {k: getattr(args, k) for k in ("signal", "tau", "rate", "repeats", "dtype")}
    if args.json:
        print(json.dumps({"machine": machine, "settings": settings, "results": measured}))
        return
    print(table(measured))
    print("ratio: fused / dense, smaller is better; bound: the matrix products alone / dense")
    print(", ".join(f"{k} {v}" for k, v in (machine | settings).items()))


if __name__ == "__main__":
    main()
