"""``fairseq-ki logits audit``: which encoding to buy."""

import argparse
import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from fairseq_ki.capture.audit import Candidate, Finding, audit
from fairseq_ki.capture.audit_figure import write_figure
from fairseq_ki.capture.processes import launched_device
from fairseq_ki.capture.session import CaptureSettings, Session
from fairseq_ki.capture.teacher import TeacherPass
from fairseq_ki.cli._data_options import data_settings
from fairseq_ki.models.ki_teacher import load_teacher
from fairseq_ki.store import ENCODINGS, Encoding, StoreReader, make_encoding

PICTURES = (".png", ".svg", ".pdf")
DEFAULT = ("topk:k=10", "topk:k=50", "topk:k=100", "topp:p=0.95,k=100", "sampled:draws=50")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of the verb, beside those of data and teacher."""
    parser.add_argument(
        "--encodings",
        nargs="*",
        metavar="NAME:PARAMETER=VALUE,...",
        help=f"what to weigh (default: {' '.join(DEFAULT)}, those that fit the vocabulary)",
    )
    parser.add_argument(
        "--store", type=Path, help="weigh this store's own rows, too; captured from the same data"
    )
    parser.add_argument("--rows", type=int, default=2048, help="audited rows (default: 2048)")
    parser.add_argument(
        "--tau", type=float, default=1.0, help="the training's --ki-temperature (default: 1)"
    )
    parser.add_argument(
        "--student",
        metavar="CKPT",
        help="a checkpoint of the student (default: one at its start, even over the vocabulary)",
    )
    parser.add_argument(
        "--max-angle",
        type=float,
        default=10.0,
        metavar="DEGREES",
        help="of the gradient over all audited rows, for an encoding to be recommended "
        "(default: 10)",
    )
    parser.add_argument("--plot", type=Path, metavar="FILE", help="write a picture (png, svg, pdf)")


def run(args: argparse.Namespace) -> int:
    if args.rows < 1:
        raise ValueError(f"--rows: expected at least 1 row to audit, found {args.rows}")
    if not args.max_angle > 0:
        raise ValueError(f"--max-angle: expected degrees above 0, found {args.max_angle:g}")
    if args.plot is not None and args.plot.suffix.lower() not in PICTURES:
        raise ValueError(
            f"--plot: expected a file that ends in {', '.join(PICTURES)}, found {args.plot}"
        )
    settings = CaptureSettings(
        data=data_settings(args),
        teacher=args.teacher,
        teacher_dict=args.teacher_dict,
        encoding="dense",
        batch_size=args.batch_size,
        device=args.device,
    )
    session = Session.open(settings, launched_device(args.device))
    vocabulary = len(session.task.source_dictionary)
    candidates = [Candidate("dense", make_encoding("dense", vocabulary, {}))]
    for text in DEFAULT if args.encodings is None else args.encodings:
        if args.encodings is None and "k=100" in text and vocabulary < 100:
            continue
        candidates.append(Candidate(text, parse_encoding(text, vocabulary, args.tau)))
    if args.store is not None:
        candidates.append(_of_store(args.store, session))
    student = None
    if args.student is not None:
        task = session.task
        model = load_teacher(
            args.student,
            task,
            dictionary=args.teacher_dict,
            causal=task.causal,
            positions=session.longest,
        )
        student = TeacherPass(model, str(session.teacher.device))
    findings = audit(session, candidates, args.rows, args.tau, student)
    best = recommended(findings, args.max_angle)
    if args.plot is not None:
        write_figure(findings, args.plot)
    if args.json:
        found = {"encodings": [asdict(each) for each in findings]}
        print(json.dumps({**found, "recommended": None if best is None else best.name}))
        return 0
    print(table(findings))
    print(advice(findings, best, args.max_angle, session.task.causal))
    if args.plot is not None:
        print(f"wrote {args.plot}")
    return 0


def parse_encoding(text: str, vocabulary: int, tau: float) -> Encoding:
    """``sampled:draws=50`` or ``topk:k=10,tail``; draws are made at the audited temperature."""
    name, _, rest = text.partition(":")
    parameters: dict[str, Any] = {}
    for part in filter(None, rest.split(",")):
        key, given, value = part.partition("=")
        if key in parameters:
            raise ValueError(f"--encodings {text}: expected each parameter once, found {key} again")
        try:
            parameters[key] = json.loads(value) if given else True
        except ValueError:
            raise ValueError(f"--encodings {text}: expected {key}=NUMBER, found {part!r}") from None
    if name not in ENCODINGS:
        raise ValueError(f"--encodings: expected one of {', '.join(ENCODINGS)}, found {text!r}")
    if name == "sampled":
        parameters.setdefault("tau", tau)
    return make_encoding(name, vocabulary, parameters)


def _of_store(directory: Path, session: Session) -> Candidate:
    reader = StoreReader(directory)
    reader.manifest.compare(
        {
            "task": "lm" if session.task.causal else "mlm",
            "vocabulary": len(session.task.source_dictionary),
            "dictionary_sha256": session.task.dictionary_sha256(),
            "data": session.task.store_settings(),
        }
    )
    split = reader.plan.find_split(session.fingerprints[0], len(session.splits[0]))
    return Candidate(str(directory), reader.plan.encoding, reader, split)


def table(findings: Sequence[Finding]) -> str:
    """For people."""
    head = ["encoding", "bytes/row", "ids/row", "mass", "KL bits", "top-1", "ECE"]
    lines = [[*head, "row", "quarter", "all"]]
    for each in findings:
        lines.append(
            [
                each.name,
                f"{each.bytes_per_row:.1f}",
                f"{each.ids:.1f}",
                f"{each.mass:.3f}",
                f"{each.kl:.3f}",
                f"{each.top1:.3f}",
                f"{each.calibration:.3f}",
                f"{each.row_angle:.1f}",
                f"{each.part_angle:.1f}",
                f"{each.update_angle:.1f}",
            ]
        )
    widths = [max(map(len, column)) for column in zip(*lines)]
    rows = (
        "  ".join(
            cell.ljust(width) if column == 0 else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(line, widths))
        )
        for line in lines
    )
    return "\n".join(rows) + (
        "\nmass: the teacher's probability on the kept ids. KL bits: KL(full || stored), the "
        "stored target mixed with 0.1 % uniform. ECE: expected calibration error of the target."
        "\nrow, quarter, all: degrees to the gradient under the full target, per row in the logits,"
        " and in the output layer over a quarter and over all of the audited rows"
    )


def recommended(findings: Sequence[Finding], max_angle: float) -> Finding | None:
    """The cheapest encoding whose gradient over all rows is near enough; None if none is."""
    fit = [each for each in findings if each.update_angle <= max_angle]
    return min(fit, key=lambda each: each.bytes_per_row, default=None)


def advice(
    findings: Sequence[Finding], best: Finding | None, max_angle: float, causal: bool
) -> str:
    """What to buy, and what re-normalising does."""
    lines = []
    for each in findings:
        if each.name.startswith(("topk", "topp")) and "tail" not in each.name:
            lines.append(
                f"{each.name}: re-normalised over {each.mass:.1%} of the teacher's mass, "
                f"so its targets are {1 / each.mass:.2f} times too high on average"
            )
    if causal:
        lines.append(
            "a causal model's distributions are flat: a small K is biased there, however many "
            "rows there are; draws (sampled) are not"
        )
    if best is None:
        lines.append(
            f"none is within {max_angle:g} degrees over these rows: keep more ids, take more "
            "draws, or raise --rows (draws are noise, which shrinks) or --max-angle"
        )
    else:
        lines.append(
            f"buy {best.name}: the smallest within {max_angle:g} degrees "
            f"({best.bytes_per_row:.1f} bytes a row, {best.update_angle:.1f} degrees)"
        )
    return "\n".join(lines)
