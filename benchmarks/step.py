"""Time and memory of an update with a teacher, against the same update of plain fairseq.

    python benchmarks/step.py                       # both kinds of model, all cases
    python benchmarks/step.py --model masked --turns 20 --num-workers 0 --json

Every case is a fairseq Trainer of its own; all live in one process and take turns, update by
update, on the same batches (see `_sides.py`), so the ratios repeat although the machine may be
busy. The bound is what the FLOP count allows: 1 + the teacher's forward pass (at the loss rows
alone in a masked LM's last layer) over the student's forward and backward pass. Peak memory is
that of a fresh process per case, over updates that come after the teacher was let go where it is.
"""

import argparse
import gc
import importlib.metadata
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import weakref
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import torch
from _sides import (
    CLOCKS,
    Problem,
    Side,
    make_teacher,
    quiet,
    ratio,
    table,
    take_turns,
    write_data_bin,
)
from loss import resident_peak_mib

from fairseq_ki.cli.main import main as fairseq_ki_command

WARM_UP = 3
MEMORY_UPDATES = 4


@dataclass(frozen=True)
class Settings:
    """How to measure."""

    turns: int  # updates per case that are timed
    threads: int
    prepared: bool = False  # batches are loaded before, and that is timed apart
    memory: bool = True
    clock: str = "wall"


@dataclass(frozen=True)
class Case:
    """One row of the table: fairseq-train's options, and what is expected of the ratio."""

    name: str
    options: str
    teacher_runs: bool = False
    encoding: str | None = None  # of the store that is captured for it
    target: float | None = None


def cases(causal: bool, k: int = 10, micro_batches: int = 1, device: str = "cpu") -> list[Case]:
    """The plain one first. {teacher} and {store} are filled in."""
    ours = f"--task {'ki_lm' if causal else 'ki_mlm'} --criterion ki"
    plain = "masked_lm --criterion masked_lm"
    if causal:
        plain = "language_modeling --criterion cross_entropy"
    live = f"{ours} --ki-teacher {{teacher}} --ki-steps"
    store = f"{ours} --ki-steps 1000000 --ki-store {{store}}"
    topk, sampled = f"topk --k {k}", "sampled --draws 50"
    made = [
        Case("plain", f"--task {plain}"),
        Case("ki, no teacher", ours),
        Case("live teacher", f"{live} 1000000", True, target=1.20 if causal else 1.10),
        Case("live teacher, bf16", f"{live} 1000000 --ki-teacher-dtype bf16", True),
        Case(f"top-{k} store", store, encoding=topk, target=1.04),
        Case("sampled store", f"{store} --ki-temperature 1", encoding=sampled, target=1.04),
        Case("after alpha = 0", f"{live} 1", target=1.01),
    ]
    together = f"{live} 1000000 --ki-teacher-batches {micro_batches}"
    if micro_batches > 1:
        made.append(Case(f"live teacher, {micro_batches} at once", together, True))
    if device == "cuda":
        made.append(Case("live teacher, own stream", f"{together} --ki-teacher-stream", True))
    return made


def capture(problem: Problem, data: Path, encoding: str, threads: int) -> None:
    """Write the store of the data's teacher, as ``fairseq-ki logits write`` does."""
    command = ["logits", "write", str(data), "--task", "ki_lm" if problem.causal else "ki_mlm"]
    command += [*problem.blocks, "--teacher", str(data / "teacher.pt"), "--device", problem.device]
    command += ["--encoding", *encoding.split(), "--out", str(store_of(data, encoding))]
    if fairseq_ki_command(command):
        raise SystemExit("the store could not be captured, see above")
    torch.set_num_threads(threads)  # which a capture may change


def store_of(data: Path, encoding: str) -> Path:
    return data / encoding.replace(" ", "")


def build(problem: Problem, data: Path, case: Case) -> Side:
    """The side of a case; its teacher and store are in ``data`` already."""
    store = store_of(data, case.encoding) if case.encoding else ""
    options = case.options.format(teacher=data / "teacher.pt", store=store)
    return Side(case.name, problem, data, options.split())


def peak_memory(problem: Problem, data: Path, case: Case) -> dict:
    """Of this process, which should be a fresh one: what training adds to it, in MiB."""
    before = resident_peak_mib()
    side = build(problem, data, case)
    teacher = None
    if "--ki-teacher" in case.options:
        teacher = weakref.ref(side.task._opened)  # made with the model, before the first update
    for _ in range(WARM_UP):
        side.update()
    gc.collect()
    released = None if teacher is None else teacher() is None
    if problem.device == "cuda":
        torch.cuda.reset_peak_memory_stats()
    else:
        Path("/proc/self/clear_refs").write_text("5")  # Linux: sets the highest to the present
    for _ in range(MEMORY_UPDATES):
        side.update()
    if problem.device == "cuda":
        peak = torch.cuda.max_memory_allocated() / 2**20
    else:
        peak = resident_peak_mib() - before
    return {"peak_mib": peak, "teacher_released": released}


def in_a_fresh_process(problem: Problem, data: Path, case: Case, threads: int) -> dict:
    """:func:`peak_memory`, without what this process holds already."""
    request = {"problem": asdict(problem), "case": asdict(case), "data": str(data)}
    command = [sys.executable, __file__, "--peak-of", json.dumps(request)]
    command += ["--threads", str(threads)]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{case.name}, memory: {done.stderr[-2000:]}")
    return json.loads(done.stdout.splitlines()[-1])


def measure(problem: Problem, chosen: list[Case], settings: Settings) -> list[dict]:
    """One dictionary per case; the first is what the others are compared with."""
    with tempfile.TemporaryDirectory() as folder, quiet():
        data = write_data_bin(problem, Path(folder) / "data-bin")
        make_teacher(problem, data)
        for case in chosen:
            if case.encoding is not None:
                capture(problem, data, case.encoding, settings.threads)
        sides = [build(problem, data, case) for case in chosen]
        loader = [None] * len(sides)
        if settings.prepared:
            loader = [side.prepare(WARM_UP + settings.turns) for side in sides]
        seconds = take_turns(sides, settings.turns, WARM_UP, settings.clock)
        results = []
        for case, side, per_batch in zip(chosen, sides, loader):
            own = seconds[case.name]
            bound = 1 + case.teacher_runs * problem.teacher_flops / problem.student_flops
            found = {
                "case": case.name,
                "ms": 1e3 * statistics.median(own),
                "ratio": ratio(own, seconds[chosen[0].name]),
                "bound": bound,
                "target": case.target,
                "same_losses_as_plain": side.losses == sides[0].losses,
                "loader_ms": None if per_batch is None else 1e3 * per_batch,
            }
            results.append(found)
        del sides, side
        if settings.memory:
            alone = replace(problem, num_workers=0)
            for case, found in zip(chosen, results):
                found |= in_a_fresh_process(alone, data, case, settings.threads)
    return results


def rows_of(results: list[dict]) -> list[list[str]]:
    """The table of one problem."""
    head = ["case", "ms", "ratio", "bound", "target", "met", "loader ms", "peak MiB", "teacher"]
    rows = [head]
    for r in results:
        met = "" if r["target"] is None else ("yes" if r["ratio"] <= r["target"] else "no")
        memory = r.get("peak_mib")
        released = {True: "released", False: "in memory", None: ""}[r.get("teacher_released")]
        row = [r["case"], f"{r['ms']:.1f}", f"{r['ratio']:.3f}", f"{r['bound']:.3f}"]
        row += [f"{r['target']:.2f}" if r["target"] else "", met]
        row += [f"{r['loader_ms']:.1f}" if r["loader_ms"] else ""]
        row += [f"{memory:.0f}" if memory is not None else "", released]
        rows.append(row)
    return rows


def machine(threads: int) -> dict:
    """What ratios depend on little, and times much."""
    versions = {name: importlib.metadata.version(name) for name in ("torch", "ve-fairseq")}
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return {
        "processor": platform.machine(),
        "cores": cores,
        "threads": threads,
        "python": platform.python_version(),
        **versions,
    }


def add_problem(parser: argparse.ArgumentParser) -> None:
    """The options of :func:`problem_of`, but for the number of turns."""
    parser.add_argument("--student", default="4x192", help="--arch or LxD[xFFN[xHEADS]]")
    parser.add_argument("--teacher", help="default 2x128; causal: 2x80x512, 1/4 of the FLOPs")
    parser.add_argument("--vocabulary", type=int, default=8000)
    parser.add_argument("--tokens-per-sample", type=int, default=128)
    parser.add_argument("--batch", type=int, default=32, help="samples per update")
    parser.add_argument("--micro-batches", type=int, default=1, help="that an update is split into")
    parser.add_argument("--optimizer", choices=("adam", "ki_adam"), default="adam")
    parser.add_argument("--num-workers", type=int, default=1, help="of each case's loader")


def add_clock(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--clock",
        choices=list(CLOCKS),
        default="wall",
        help="processor time, with --threads 1, tells the work apart from a busy machine",
    )


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--model", choices=("masked", "causal", "both"), default="both")
    parser.add_argument("--cases", nargs="+", metavar="WORD", help="only those whose name has one")
    parser.add_argument("--k", type=int, default=10, help="ids per row of the top-K store")
    add_problem(parser)
    parser.add_argument("--turns", type=int, default=30, help="updates per case that are timed")
    parser.add_argument(
        "--prepared", action="store_true", help="load the batches before, and time that apart"
    )
    parser.add_argument("--no-memory", action="store_true", help="measure time alone")
    add_clock(parser)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--json", action="store_true", help="one JSON object instead of tables")
    parser.add_argument("--peak-of", help=argparse.SUPPRESS)


def problem_of(args: argparse.Namespace, causal: bool) -> Problem:
    if args.micro_batches < 1 or args.batch % args.micro_batches:
        raise SystemExit(
            f"--micro-batches: expected a divisor of --batch {args.batch}, found "
            f"{args.micro_batches}"
        )
    return Problem(
        causal=causal,
        student=args.student,
        teacher=args.teacher or ("2x80x512" if causal else "2x128"),
        vocabulary=args.vocabulary,
        tokens_per_sample=args.tokens_per_sample,
        batch=args.batch,
        updates=WARM_UP + max(args.turns, MEMORY_UPDATES) + 1,
        num_workers=args.num_workers,
        optimizer=args.optimizer,
        micro_batches=args.micro_batches,
    )


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_arguments(parser)
    args = parser.parse_args(argv)
    torch.set_num_threads(args.threads)
    if args.peak_of:
        request = json.loads(args.peak_of)
        with quiet():
            found = peak_memory(
                Problem(**request["problem"]), Path(request["data"]), Case(**request["case"])
            )
        print(json.dumps(found))
        return
    if args.prepared:
        args.num_workers = 0
    found = {}
    for causal in (False, True):
        kind = "causal" if causal else "masked"
        if args.model not in (kind, "both"):
            continue
        problem = problem_of(args, causal)
        plain, *others = cases(causal, args.k, problem.micro_batches)
        wanted = [c for c in others if not args.cases or any(w in c.name for w in args.cases)]
        memory = not args.no_memory
        settings = Settings(args.turns, args.threads, args.prepared, memory, args.clock)
        results = measure(problem, [plain, *wanted], settings)
        found[kind] = {"problem": asdict(problem), "results": results}
        if not args.json:
            print(heading(problem))
            print(table(rows_of(results)))
            print(closing(results), end="\n\n")
    if args.json:
        print(json.dumps({"machine": machine(args.threads), **found}))
    else:
        print(", ".join(f"{name} {value}" for name, value in machine(args.threads).items()))


def heading(problem: Problem) -> str:
    kind = "causal LM (language_modeling)" if problem.causal else "masked LM (masked_lm)"
    share = problem.teacher_flops / (problem.student_flops / 3)
    return (
        f"{kind}: student {problem.student}, teacher {problem.teacher} ({share:.0%} of its forward "
        f"FLOPs), vocabulary {problem.vocabulary:,}, {problem.tokens:,} tokens per update "
        f"in {problem.micro_batches} micro-batches, "
        f"{problem.num_workers} loader workers, --optimizer {problem.optimizer}"
    )


def closing(results: list[dict]) -> str:
    same = [r["case"] for r in results[1:] if r["same_losses_as_plain"]]
    return (
        "ratio: median over turns of case / plain; bound: by FLOPs. The same losses as plain, "
        f"digit by digit: {', '.join(same) or 'none'}"
    )


if __name__ == "__main__":
    main()
