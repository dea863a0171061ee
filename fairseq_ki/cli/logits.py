"""``fairseq-ki logits forecast|write|info|verify|audit``: stored teacher logits."""

import argparse
import json
import shutil
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

from fairseq_ki.capture import processes
from fairseq_ki.capture.forecast import Forecast, duration, forecast, size
from fairseq_ki.capture.progress import Progress
from fairseq_ki.capture.session import CaptureSettings, Session
from fairseq_ki.cli import _logits_audit
from fairseq_ki.cli._data_options import DataParser, data_settings
from fairseq_ki.cli._quiet import quiet
from fairseq_ki.compat.cpu_ranks import launched_ranks
from fairseq_ki.store import ENCODINGS, Manifest, StoreWriter, verify
from fairseq_ki.store.manifest import MANIFEST
from fairseq_ki.store.writer import PLAN

# option -> (name in the encoding, encodings that have it)
PARAMETERS = {
    "k": ("k", ("topk", "topp")),
    "p": ("p", ("topp",)),
    "tail": ("tail", ("topk", "topp")),
    "draws": ("draws", ("sampled",)),
    "tau": ("tau", ("sampled",)),
    "draw_seed": ("seed", ("sampled",)),
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The verbs of this verb."""
    verbs = parser.add_subparsers(
        dest="logits_verb", metavar="VERB", required=True, parser_class=DataParser
    )
    for name, function, help_line in (
        ("forecast", run_forecast, "bytes and time of a capture, before anything is written"),
        ("write", run_write, "run a teacher over a data set and store what it says"),
        ("info", run_info, "what a store holds, and what it was captured with"),
        ("verify", run_verify, "check every byte of a store; exit status 1 if it is damaged"),
        ("audit", _logits_audit.run, "what encodings cost and lose, to tell which one to buy"),
    ):
        sub = verbs.add_parser(name, help=help_line, description=help_line)
        sub.set_defaults(run_logits=function)
        sub.add_argument("--json", action="store_true", help="print one JSON object")
        if name in ("info", "verify"):
            sub.add_argument("store", type=Path, metavar="STORE")
            continue
        sub.add_data_arguments()
        sub.add_argument(
            "--teacher",
            required=True,
            metavar="CKPT",
            help="the teacher's fairseq checkpoint, or hf:DIR, a directory of transformers",
        )
        sub.add_argument(
            "--teacher-dict",
            metavar="FILE",
            help="its dict.txt; default: beside the checkpoint, else in the data directory that "
            "the checkpoint records",
        )
        sub.add_argument(
            "--batch-size", type=int, default=32, help="samples per forward pass (default: 32)"
        )
        sub.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
        if name == "audit":
            _logits_audit.add_arguments(sub)
        else:
            _add_capture(sub)
        if name == "write":
            sub.add_argument("--out", type=Path, required=True, metavar="STORE")
            sub.add_argument(
                "--workers",
                type=int,
                help="processes on this machine, which share its threads or GPUs (default: one "
                "per thread, at most 4; one with --device cuda)",
            )


def _add_capture(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--encoding", choices=list(ENCODINGS), required=True)
    parser.add_argument("--k", type=int, help="topk: ids per row (10); topp: at most (100)")
    parser.add_argument("--p", type=float, help="topp: probability that is reached (0.95)")
    parser.add_argument(
        "--tail",
        action="store_true",
        default=None,
        help="topk, topp: keep the probability of all other ids, too (for --ki-tail)",
    )
    parser.add_argument("--draws", type=int, help="sampled: draws per row (50)")
    parser.add_argument(
        "--tau", type=float, help="sampled: temperature of the draws, the one they serve (1)"
    )
    parser.add_argument("--draw-seed", type=int, help="sampled: seed of the draws (1)")
    parser.add_argument(
        "--mask-epochs",
        type=int,
        default=1,
        metavar="E",
        help="maskings of every sample, which training replays in turn (default: 1)",
    )
    parser.add_argument(
        "--samples-per-shard",
        type=int,
        default=1024,
        help="samples of one file, the most that a kill can cost a process (default: 1024)",
    )


def run(args: argparse.Namespace) -> int:
    """Exit status 0; 1 where verify finds damage."""
    with quiet("fairseq", "hydra", "matplotlib"):
        return args.run_logits(args)


def encoding_parameters(args: argparse.Namespace) -> dict[str, Any]:
    """Those that were given; ValueError for one that the encoding does not have."""
    given = {}
    for option, (name, encodings) in PARAMETERS.items():
        value = getattr(args, option)
        if value is None:
            continue
        if args.encoding not in encodings:
            raise ValueError(
                f"--{option.replace('_', '-')}: expected --encoding {' or '.join(encodings)}, "
                f"found {args.encoding}"
            )
        given[name] = value
    return given


def settings_of(args: argparse.Namespace) -> CaptureSettings:
    """The capture that forecast and write are asked for."""
    return CaptureSettings(
        data=data_settings(args),
        teacher=args.teacher,
        teacher_dict=args.teacher_dict,
        encoding=args.encoding,
        parameters=encoding_parameters(args),
        mask_epochs=args.mask_epochs,
        samples_per_shard=args.samples_per_shard,
        batch_size=args.batch_size,
        device=args.device,
    )


def run_forecast(args: argparse.Namespace) -> int:
    session = Session.open(settings_of(args))
    found = forecast(session, session.plan())
    print(json.dumps(asdict(found)) if args.json else found.text())
    return 0


def run_write(args: argparse.Namespace) -> int:
    processes.check_parallel(args.workers)
    if launched_ranks() > 1:
        with processes.launched_group() as (rank, world_size):
            return _write(args, rank, world_size)
    return _write(args)


def _write(args: argparse.Namespace, rank: int = 0, world_size: int = 1) -> int:
    settings = settings_of(args)
    session = Session.open(settings, processes.launched_device(settings.device))
    plan = session.plan()
    if (args.out / MANIFEST).exists():
        StoreWriter(args.out, plan)  # refuses, and says what is there
    begun = time.monotonic()
    expected = forecast(session, plan, world_size)
    if rank == 0 and not args.json:
        print(expected.text(), flush=True)
    _check_room(args.out, expected)
    # of several ranks the first one shows how far it is with its own part
    progress = (
        Progress("samples" if world_size == 1 else "samples of rank 0") if rank == 0 else None
    )
    workers = args.workers or processes.default_workers(settings.device, plan.shard_count)
    if workers > 1:
        del session  # the workers need its memory
        manifest = processes.write_with_workers(args.out, settings, plan, workers, progress)
    else:
        manifest = processes.write_here(args.out, session, plan, progress, rank, world_size)
    if manifest is None:
        return 0
    seconds = time.monotonic() - begun
    if args.json:
        print(json.dumps({"forecast": asdict(expected), "seconds": seconds, **facts(manifest)}))
    else:
        print(f"wrote {args.out}: {summary(manifest)}, {duration(seconds)}")
    return 0


def _check_room(out: Path, expected: Forecast) -> None:
    """Refuse to begin what the disk cannot take; what is written already counts."""
    place = out.resolve()
    while not place.exists():
        place = place.parent
    if not place.is_dir():
        raise ValueError(f"--out {out}: expected a new folder or a store, found a file")
    others = sorted(path.name for path in out.glob("[!.]*"))
    if others and not {PLAN, MANIFEST} & set(others):
        raise ValueError(
            f"--out {out}: expected a new folder or a store, found a folder with {others[0]}"
        )
    written = sum(file.stat().st_size for file in out.glob("*.rows"))
    free = shutil.disk_usage(place).free
    if expected.bytes - written > free:
        raise ValueError(
            f"{out}: expected {size(expected.bytes - written)} of free disk space, found "
            f"{size(free)}; choose another place or a smaller encoding"
        )


def run_info(args: argparse.Namespace) -> int:
    manifest = Manifest.load(args.store)
    if args.json:
        print(json.dumps({**facts(manifest), "manifest": manifest.to_dict()}))
        return 0
    plan = manifest.plan
    print(f"{args.store}: {summary(manifest)}")
    parameters = ", ".join(f"{key} {value}" for key, value in plan.encoding.parameters().items())
    tau = (
        "any temperature, re-normalised"
        if plan.encoding.serves_tau is None
        else (f"temperature {plan.encoding.serves_tau:g} alone")
    )
    lines = {
        "encoding": f"{plan.encoding.name} {parameters}".strip(),
        "serves": tau + (", tail mass at 1" if plan.encoding.keeps_tail else ""),
        "vocabulary": f"{plan.encoding.vocabulary:,}, dict.txt {plan.dictionary_sha256}",
        "teacher": plan.teacher_sha256,
        "train with": f"--task ki_{plan.task} --ki-store {args.store}",
        "mask epochs": str(plan.mask_epochs),
    }
    for number, split in enumerate(plan.splits):
        lines[f"split {number}"] = f"{split.name}, {split.blocks:,} blocks, {split.fingerprint}"
    lines |= {"--" + name.replace("_", "-"): value for name, value in sorted(plan.data.items())}
    lines |= {name.replace("_", " "): str(value) for name, value in plan.capture.items()}
    lines["numpy"] = plan.numpy
    width = max(map(len, lines))
    for name, value in lines.items():
        print(f"  {name:{width}}  {value}")
    return 0


def run_verify(args: argparse.Namespace) -> int:
    progress = Progress("shards")

    def show(done: int, shards: int) -> None:
        if done == 1:
            progress.start(shards, 0)
        progress.add(1)

    report = verify(args.store, show)
    if args.json:
        known = {} if report.manifest is None else facts(report.manifest)
        found = {"whole": report.whole, "problems": report.problems, "ignored": report.ignored}
        print(json.dumps({**found, **known}))
        return 0 if report.whole else 1
    for problem in report.problems:
        print(f"damaged: {problem}")
    for name in report.ignored:
        print(f"no part of the store: {name if name.isprintable() else ascii(name)}")
    verdict = "whole" if report.whole else f"damaged, {len(report.problems)} problems"
    known = "" if report.manifest is None else f" ({summary(report.manifest)})"
    print(f"{args.store}: {verdict}{known}")
    return 0 if report.whole else 1


def facts(manifest: Manifest) -> dict[str, Any]:
    """Counts, for programs."""
    return {
        "samples": manifest.samples,
        "rows": manifest.rows,
        "shards": len(manifest.shards),
        "bytes": manifest.shard_bytes,
        "bytes_per_row": manifest.shard_bytes / max(1, manifest.rows),
    }


def summary(manifest: Manifest) -> str:
    """The same, for people."""
    of = facts(manifest)
    return (
        f"{of['samples']:,} samples, {of['rows']:,} rows, {of['bytes_per_row']:.1f} bytes each, "
        f"{size(of['bytes'])} in {of['shards']:,} shards"
    )
