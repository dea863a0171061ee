"""How the cost of inheriting grows: with ranks, the teacher's size, K and the vocabulary.

    python benchmarks/scaling.py
    python benchmarks/scaling.py --parts ranks --turns 20 --json

Ranks: processes under torchrun, one thread each, with the same batch per rank. Turn by turn rank 0
trains while the others wait, then every rank by itself, then all together as one training; tokens
per second are compared. What every rank by itself reaches is the machine's own limit: processes
that share nothing still share its memory and caches. The other parts are `step.py` with one number
changed; their bound is by FLOPs.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, replace
from pathlib import Path

import step
import torch
from _sides import Problem, Side, make_teacher, quiet, table, write_data_bin

TEACHERS = ("1x64", "2x128", "3x160", "4x192")
VOCABULARIES = (1000, 8000, 32000)
KS = (10, 50, 100, 1000)
PARTS = ("ranks", "teacher", "vocabulary", "k")
RANKS_TARGET = 1.8


def ranks(problem: Problem, turns: int, number: int) -> list[dict]:
    """Tokens per second of several ranks over those of one, plain and with a live teacher."""
    problem = replace(problem, updates=2 * number * problem.updates)
    found = []
    with tempfile.TemporaryDirectory() as folder, quiet():
        data = write_data_bin(problem, Path(folder) / "data-bin")
        make_teacher(problem, data)
        for case in step.cases(causal=False)[:3]:
            request = {"problem": asdict(problem), "case": asdict(case)}
            request |= {"data": str(data), "turns": turns}
            command = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
            command += ["--nproc-per-node", str(number), __file__, "--rank-of"]
            done = subprocess.run(
                [*command, json.dumps(request)],
                capture_output=True,
                text=True,
                env=os.environ | {"OMP_NUM_THREADS": "1"},
            )
            if done.returncode:
                raise SystemExit(f"{case.name}, {number} ranks: {done.stderr[-3000:]}")
            seconds = json.loads(done.stdout.splitlines()[-1])
            speedup = {
                how: statistics.median(
                    number * a / t for a, t in zip(seconds["alone"], seconds[how])
                )
                for how in ("apart", "together")
            }
            rate = {k: problem.tokens / statistics.median(s) for k, s in seconds.items()}
            found.append(
                {
                    "case": case.name,
                    "ranks": number,
                    "tokens_per_second_alone": rate["alone"],
                    "tokens_per_second_together": number * rate["together"],
                    "ratio": speedup["together"],
                    "ratio_apart": speedup["apart"],
                    "bound": number,
                    "target": RANKS_TARGET if number == 2 else None,
                }
            )
    return found


def rank(problem: Problem, data: Path, case: step.Case, turns: int) -> dict | None:
    """One process of a launch; rank 0 has the seconds."""
    torch.set_num_threads(1)
    options = case.options.format(teacher=data / "teacher.pt", store="").split()
    together = Side("together", problem, data, options, connected=True)
    first = torch.distributed.get_rank() == 0
    # the package refuses a training that ignores its launcher, which is meant here
    del os.environ["WORLD_SIZE"]
    alone = Side("alone", problem, data, options)
    seconds: dict[str, list[float]] = {"alone": [], "apart": [], "together": []}
    for turn in range(step.WARM_UP + turns):
        elapsed = {}
        for how, side in (
            ("alone", alone if first else None),
            ("apart", alone),
            ("together", together),
        ):
            torch.distributed.barrier()
            begun = time.perf_counter()
            if side is not None:
                side.update()
            if how != "alone":
                torch.distributed.barrier()  # as long as the slowest takes
            elapsed[how] = time.perf_counter() - begun
        if turn >= step.WARM_UP:
            for name, value in elapsed.items():
                seconds[name].append(value)
    torch.distributed.destroy_process_group()
    return seconds if first else None


def growth(problem: Problem, part: str, settings: step.Settings) -> list[dict]:
    """Cost of the live teacher, or of top-K stores, as one number grows."""
    plain, _, live, *_ = step.cases(causal=problem.causal)
    if part == "k":
        stores = [
            next(case for case in step.cases(problem.causal, k) if case.name.startswith("top"))
            for k in KS
            if k < problem.vocabulary
        ]
        results = step.measure(problem, [plain, *stores], settings)[1:]
        return [{"part": part, "value": r["case"], **r} for r in results]
    field, values = ("teacher", TEACHERS) if part == "teacher" else ("vocabulary", VOCABULARIES)
    found = []
    for value in values:
        changed = replace(problem, **{field: value})
        found.append(
            {"part": part, "value": value, **step.measure(changed, [plain, live], settings)[1]}
        )
    return found


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS)
    parser.add_argument("--ranks", type=int, default=2)
    step.add_problem(parser)
    parser.add_argument("--turns", type=int, default=15, help="updates that are timed")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    step.add_clock(parser)
    parser.add_argument("--json", action="store_true", help="one JSON object instead of tables")
    parser.add_argument("--rank-of", help=argparse.SUPPRESS)
    args = parser.parse_args(argv)
    if args.rank_of:
        request = json.loads(args.rank_of)
        problem, case = Problem(**request["problem"]), step.Case(**request["case"])
        with quiet():
            seconds = rank(problem, Path(request["data"]), case, request["turns"])
        if seconds is not None:
            print(json.dumps(seconds), flush=True)
        return
    torch.set_num_threads(args.threads)
    problem = step.problem_of(args, causal=False)
    found: dict[str, list[dict]] = {}
    for part in args.parts:
        if part == "ranks":
            found[part] = ranks(problem, args.turns, args.ranks)
        else:
            settings = step.Settings(args.turns, args.threads, memory=False, clock=args.clock)
            found[part] = growth(problem, part, settings)
        if not args.json:
            print(text(part, found[part]), end="\n\n")
    about = step.machine(args.threads)
    if args.json:
        print(json.dumps({"machine": about, "problem": asdict(problem), **found}))
    else:
        print(step.heading(problem))
        print(", ".join(f"{name} {value}" for name, value in about.items()))


def text(part: str, found: list[dict]) -> str:
    """The table of one part."""
    if part == "ranks":
        head = ["case", "ranks", "tokens/s of 1", "of all", "ratio", "each by itself", "bound"]
        rows = [[*head, "target"]]
        for r in found:
            row = [r["case"], str(r["ranks"]), f"{r['tokens_per_second_alone']:,.0f}"]
            row += [f"{r['tokens_per_second_together']:,.0f}", f"{r['ratio']:.3f}"]
            row += [f"{r['ratio_apart']:.3f}"]
            rows.append([*row, f"{r['bound']:.1f}", f"{r['target']:.1f}" if r["target"] else ""])
        return table(rows)
    rows = [[part, "case", "ms", "ratio to plain", "bound"]]
    for r in found:
        row = [str(r["value"]), r["case"], f"{r['ms']:.1f}", f"{r['ratio']:.3f}"]
        rows.append([*row, f"{r['bound']:.3f}"])
    return table(rows)


if __name__ == "__main__":
    main()
