r"""Stored logits in numbers: what they lose and weigh, how fast they are made and read.

    python benchmarks/store.py                                # all but the large store
    python benchmarks/store.py --only bytes --teacher CKPT --data DATA-BIN --tokens-per-sample 128
    python benchmarks/store.py --only capture --capture-teacher 2x128 --vocabulary 8000 \
        --batch 32 --batches 16
    python benchmarks/store.py --only memory --large          # 2 GB read under a limit of 1 GB

loss: students of a live teacher and of its dense store, on the same batches, largest relative
difference of the objective in an update. bytes: of whole stores, everything counted, at
vocabulary 50,265 and on a synthetic teacher that is rather sure; and on a real one. capture: the
whole of writing a store (masks, forward pass, selection, encoding, disk) against the teacher's
bare forward pass over batches in memory, in turns; throughput of the one over the other. update:
training from a store against plain masked_lm, Trainers that take turns (see `_sides.py`). memory:
a fresh process that reads every sample of a store in random order.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from _sides import Problem, Side, make_teacher, quiet, ratio, table, training_config, write_data_bin
from fairseq import tasks
from step import WARM_UP, Settings, capture, cases, machine, measure, store_of

from fairseq_ki.capture.forecast import forecast
from fairseq_ki.capture.samples import SplitSamples
from fairseq_ki.capture.session import CaptureSettings, Session
from fairseq_ki.capture.settings import DataSettings, build_task
from fairseq_ki.capture.teacher import TeacherPass
from fairseq_ki.capture.writing import write_shards
from fairseq_ki.models.ki_teacher import KITeacher
from fairseq_ki.objective.positions import Positions
from fairseq_ki.store import Encoding, Plan, Sampled, Split, StoreWriter, TopK

PAPER_VOCABULARY = 50265
SYNTHETIC_EXPONENT = 1.8  # of Zipf's law: 12 of 50 draws differ
PARTS = ("loss", "bytes", "capture", "update", "memory")


@dataclass(frozen=True)
class Result:
    """One line: a ratio or a number, and what it should not exceed (or fall below)."""

    what: str
    value: float
    target: str = ""
    met: bool | None = None

    @classmethod
    def at_most(cls, what: str, value: float, most: float) -> "Result":
        return cls(what, value, f"<= {most:g}", value <= most)

    @classmethod
    def at_least(cls, what: str, value: float, least: float) -> "Result":
        return cls(what, value, f">= {least:g}", value >= least)


def measure_loss(problem: Problem, updates: int) -> list[Result]:
    """Dense store against live teacher, over the end of an epoch's worth of masks."""
    with tempfile.TemporaryDirectory() as folder, quiet():
        data = write_data_bin(replace(problem, updates=updates + 1), Path(folder) / "data-bin")
        make_teacher(problem, data)
        capture(problem, data, "dense", torch.get_num_threads())
        ki = "--task ki_mlm --criterion ki --ki-steps 1000000"
        objectives = []
        for name in (
            f"--ki-teacher {data / 'teacher.pt'}",
            f"--ki-store {store_of(data, 'dense')}",
        ):
            side = Side(name, problem, data, f"{ki} {name}".split())
            objectives.append(_objectives(side))
            for _ in range(updates):
                side.update()
        differences = [abs(b - a) / a for a, b in zip(*objectives, strict=True)]
    what = f"dense store / live teacher: largest difference in {updates} updates"
    return [Result.at_most(what, max(differences), 1e-3)]


def _objectives(side: Side) -> list[float]:
    """Filled with what is differentiated, per row and unrounded, as the side trains."""
    seen: list[float] = []
    criterion = side.trainer.get_criterion()
    forward = criterion.forward

    def recording(model, sample, reduce=True):
        loss, rows, log = forward(model, sample, reduce)
        seen.append(float(loss.detach()) / rows)
        return loss, rows, log

    criterion.forward = recording
    return seen


def synthetic_rows(vocabulary: int, rows: int) -> np.ndarray:
    """(rows, V) log-probabilities: one law, over ids that differ from row to row."""
    law = -SYNTHETIC_EXPONENT * np.log(np.arange(1, vocabulary + 1))
    law -= np.log(np.exp(law).sum())
    rng = np.random.default_rng(0)
    return np.stack([law[rng.permutation(vocabulary)] for _ in range(rows)]).astype(np.float32)


def write_synthetic(
    folder: Path, encoding: Encoding, rows: int, samples: int, per_shard: int = 64
) -> tuple[float, float]:
    """A store of so many samples of so many rows; its bytes per row, and ids kept per row."""
    plan = Plan(
        encoding, "mlm", (Split("train", "0" * 64, samples),), "0" * 64, "0" * 64, rows,
        samples_per_shard=per_shard,
    )  # fmt: skip
    writer = StoreWriter(folder, plan)
    log_probs, targets = synthetic_rows(encoding.vocabulary, rows), np.zeros(rows, np.int64)
    kept = 0
    different = []  # a few are enough: every sample costs about the same
    for shard in writer.pending():
        with writer.shard(shard) as out:
            for block in shard.blocks:
                if len(different) < 8:
                    uniform = plan.uniforms(0, 1, block, rows)
                    different.append(encoding.select(log_probs, targets, uniform))
                chosen = different[block % len(different)]
                kept += int((chosen.values > (0 if encoding.name == "sampled" else -1e4)).sum())
                out.add(block, chosen)
    writer.finalize()
    size = sum(path.stat().st_size for path in folder.iterdir())
    return size / (samples * rows), kept / (samples * rows)


def measure_bytes(teacher: str | None, data: str | None, tokens: int) -> list[Result]:
    """Of masked positions: 15 % of blocks of 512 tokens."""
    results = []
    for encoding, most in ((TopK(PAPER_VOCABULARY, k=10), 46.0), (Sampled(PAPER_VOCABULARY), 36.0)):
        with tempfile.TemporaryDirectory() as folder:
            size, kept = write_synthetic(Path(folder) / "store", encoding, 77, 512, 512)
        what = f"bytes per row, {encoding.name}, vocabulary {PAPER_VOCABULARY:,}, {kept:.1f} ids"
        results.append(Result.at_most(what, size, most))
        if encoding.name == "sampled":
            what = "the same over 2.2 x ids + 8"
            results.append(Result.at_most(what, size / (2.2 * kept + 8), 1.0))
    if teacher is None or data is None:
        return results
    for name, parameters in (("topk", {"k": 10}), ("sampled", {"draws": 50})):
        blocks = DataSettings(data, options={"tokens_per_sample": tokens})
        settings = CaptureSettings(blocks, teacher, name, parameters, batch_size=64)
        with quiet():
            session = Session.open(settings)
            found = forecast(session, session.plan())
        what = f"bytes per row, {name}, {teacher}, {found.distinct:.1f} ids"
        results.append(Result(what, found.bytes_per_row))
    return results


def measure_capture(problem: Problem, teacher: str, turns: int, batches: int) -> list[Result]:
    """Of a teacher that knows nothing, whose draws are the most expensive there can be."""
    with tempfile.TemporaryDirectory() as folder, quiet():
        shown = replace(problem, student=teacher, updates=batches * (turns + 1) + 1)
        data = write_data_bin(shown, Path(folder) / "data-bin")
        settings = DataSettings(str(data), options={"tokens_per_sample": problem.tokens_per_sample})
        task = build_task(settings)
        cfg = training_config(shown, data, ["--task", "ki_mlm", "--criterion", "ki"])
        model = tasks.setup_task(cfg.task).build_model(cfg.model)
        running = TeacherPass(KITeacher(model, teacher), problem.device)
        split = SplitSamples(task, "train", 0, problem.tokens_per_sample)
        results = []
        for encoding in (TopK(problem.vocabulary, k=10), Sampled(problem.vocabulary)):
            blocks = batches * problem.batch
            plan = Plan(
                encoding, "mlm", (Split("train", "0" * 64, blocks * (turns + 1)),), "0" * 64,
                "0" * 64, problem.tokens_per_sample, samples_per_shard=blocks,
            )  # fmt: skip
            writer = StoreWriter(Path(folder) / encoding.name, plan)
            bare, whole = [], []
            for turn, shard in enumerate(writer.pending()):
                split.set_epoch(1)
                prepared = list(split.batches(shard.blocks, problem.batch))
                first, second = (_bare, _write) if turn % 2 else (_write, _bare)
                took = {f: f(running, prepared, writer, shard, split) for f in (first, second)}
                if turn > 0:  # the first one warms up
                    bare.append(took[_bare])
                    whole.append(took[_write])
            what = f"capture / bare forward: {teacher}, {encoding.name},"
            for clock, name in enumerate(("throughput", "throughput per CPU second")):
                of = ratio([b[clock] for b in bare], [w[clock] for w in whole])
                results.append(Result.at_least(f"{what} {name}", of, 0.9))
    return results


def _clocks() -> tuple[float, float]:
    """Wall and CPU seconds; the second says more on a machine that others use, too."""
    return time.perf_counter(), time.process_time()


def _bare(running: TeacherPass, prepared, *_) -> tuple[float, float]:
    begun = _clocks()
    with torch.no_grad():
        for batch in prepared:
            net_input = {k: v.to(running.device) for k, v in batch.net_input.items()}
            rows = Positions.where(batch.rows).to(running.device)
            F.linear(*running.model.head_input(net_input, rows))
    if running.device.type == "cuda":
        torch.cuda.synchronize()
    wall, cpu = _clocks()
    return wall - begun[0], cpu - begun[1]


def _write(
    running: TeacherPass, prepared, writer: StoreWriter, shard, split
) -> tuple[float, float]:
    begun = _clocks()
    one = _OneShard(writer, shard)
    write_shards(one, [split], running, len(prepared[0].samples), lambda samples: None)
    wall, cpu = _clocks()
    return wall - begun[0], cpu - begun[1]


class _OneShard:
    """A writer of which one shard alone is pending."""

    def __init__(self, writer: StoreWriter, shard) -> None:
        self.plan, self.shard, self._shard = writer.plan, writer.shard, shard

    def pending(self) -> list:
        return [self._shard]


def measure_update(problem: Problem, turns: int) -> list[Result]:
    """As benchmarks/step.py has it, for stores alone."""
    plain, *others = cases(causal=False)
    stored = [case for case in others if case.encoding is not None]
    settings = Settings(turns, torch.get_num_threads(), memory=False)
    shown = replace(problem, updates=WARM_UP + turns + 1)
    found = measure(shown, [plain, *stored], settings)
    return [Result.at_most(f"update / masked_lm, {f['case']}", f["ratio"], 1.08) for f in found[1:]]


def measure_memory(large: bool) -> list[Result]:
    """Peak of a process that reads a small store, and one that is larger."""
    limit = 10**9
    encoding = TopK(PAPER_VOCABULARY, k=1000)
    sizes = {"20 MB": 65, "2 GB": 6500} if large else {"20 MB": 65, "200 MB": 650}
    peaks = []
    results = []
    for name, samples in sizes.items():
        with tempfile.TemporaryDirectory() as folder:
            write_synthetic(Path(folder) / "store", encoding, 77, samples)
            script = Path(__file__).with_name("_read_store.py")
            command = [sys.executable, str(script), str(Path(folder) / "store"), str(limit)]
            done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode:
            raise SystemExit(f"reading {name}: {done.stderr[-2000:]}")
        peaks.append(json.loads(done.stdout)["peak_mib"])
        results.append(
            Result(f"resident MiB at most, reading {name} under a 1 GB limit", peaks[-1])
        )
    what = f"resident memory, {' / '.join(reversed(sizes))}"
    return [*results, Result.at_most(what, peaks[1] / peaks[0], 1.1)]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", nargs="+", choices=PARTS, default=PARTS, metavar="PART")
    parser.add_argument("--teacher", help="a checkpoint, for bytes")
    parser.add_argument("--data", help="its data-bin")
    parser.add_argument("--capture-teacher", default="roberta_base", help="--arch, or LxD")
    parser.add_argument("--vocabulary", type=int, help="of capture and update (50,265 and 8,000)")
    parser.add_argument("--tokens-per-sample", type=int, default=128)
    parser.add_argument("--batch", type=int, help="samples (8 for capture, 32 for an update)")
    parser.add_argument(
        "--batches",
        type=int,
        default=2,
        help="of a shard of capture (2; a store's have 1,024 samples)",
    )
    parser.add_argument("--turns", type=int, default=5, help="of capture; updates: 6 times as many")
    parser.add_argument("--large", action="store_true", help="memory: a store of 2 GB")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu", help="of capture")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--json", action="store_true", help="one JSON object instead of a table")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    problem = Problem(
        False, "4x192", "2x128", args.vocabulary or 8000, args.tokens_per_sample, args.batch or 32,
        updates=0,
    )  # fmt: skip
    small = replace(problem, student="2x64", teacher="2x32", vocabulary=1000, batch=8)
    captured = replace(
        problem, vocabulary=args.vocabulary or PAPER_VOCABULARY, batch=args.batch or 8,
        device=args.device,
    )  # fmt: skip
    parts = {
        "loss": lambda: measure_loss(small, 20),
        "bytes": lambda: measure_bytes(args.teacher, args.data, args.tokens_per_sample),
        "capture": lambda: measure_capture(
            captured, args.capture_teacher, args.turns, args.batches
        ),
        "update": lambda: measure_update(problem, 6 * args.turns),
        "memory": lambda: measure_memory(args.large),
    }
    results = []
    for part in args.only:
        print(f"{part} ...", file=sys.stderr, flush=True)
        results += parts[part]()
    if args.json:
        lines = [vars(result) for result in results]
        print(json.dumps({"machine": machine(args.threads), "results": lines}))
        return
    met = {True: "yes", False: "no", None: ""}
    rows = [[r.what, f"{r.value:.4g}", r.target, met[r.met]] for r in results]
    print(table([["what", "value", "target", "met"], *rows]))
    print(", ".join(f"{name} {value}" for name, value in machine(args.threads).items()))


if __name__ == "__main__":
    main()
