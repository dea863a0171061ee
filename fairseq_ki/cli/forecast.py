"""``fairseq-ki forecast``: what inheriting will cost, before anything is trained.

Counts FLOPs (``evaluation/flops.py``) and bytes (``store.bytes_per_row``); it times nothing. How
far measured ratios are from these is in docs/performance.md.
"""

import argparse
import json
import math
from dataclasses import asdict, dataclass

from fairseq_ki.evaluation.flops import Batch, forward_flops, teacher_flops, training_flops
from fairseq_ki.evaluation.model_sizes import named_sizes
from fairseq_ki.store import bytes_per_row, make_encoding


@dataclass(frozen=True)
class Run:
    """What is asked about.

    Args:
        student, teacher: as in :func:`named_sizes`.
        causal: a causal LM, which predicts every token, else a masked LM.
        vocabulary: entries of the dictionary.
        tokens_per_sample: length of a block.
        tokens_per_update: over all ranks and micro-batches.
        updates: of the whole run.
        ki_steps: updates of teacher-guided learning.
        mask_prob: share of the tokens that a masked LM predicts.
        corpus_tokens: of one epoch; None: as many as the teacher sees, once.
        mask_epochs: maskings that a store would hold; None: a new one in every guided epoch.
        students: trained from one store, or each with the live teacher.
    """

    student: str
    teacher: str
    causal: bool = False
    vocabulary: int = 50265
    tokens_per_sample: int = 512
    tokens_per_update: int = 2048 * 512
    updates: int = 125_000
    ki_steps: int = 40_000
    mask_prob: float = 0.15
    corpus_tokens: int | None = None
    mask_epochs: int | None = None
    students: int = 1

    def check(self) -> None:
        """Raise ValueError, naming the option, for numbers that make no run."""
        for name in ("vocabulary", "tokens_per_sample", "tokens_per_update", "updates", "ki_steps",
                     "corpus_tokens", "mask_epochs", "students"):  # fmt: skip
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"--{name.replace('_', '-')}: expected 1 or more, found {value}")
        if not 0 < self.mask_prob <= 1:
            raise ValueError(f"--mask-prob: expected above 0, at most 1, found {self.mask_prob}")


@dataclass(frozen=True)
class StoreSize:
    """Of one encoding, for all mask epochs."""

    encoding: str
    bytes_per_row: float
    bytes: float


@dataclass(frozen=True)
class Forecast:
    """FLOPs are per student, unless said otherwise; ratios are to the same run without teacher.

    Args:
        student_update_flops, teacher_update_flops: forward and backward; forward.
        plain_flops: of the run without a teacher.
        live_flops: the same with a live teacher.
        ratio_guided, ratio_run: cost with a live teacher, while it speaks, and over the run.
        updates_to_earn: updates that the teacher has to spare the student to pay for itself.
        guided_epochs: passes over the corpus while the teacher speaks.
        mask_epochs: maskings in the store.
        store_rows: rows of the store.
        stores: its size, by encoding.
        live_teacher_flops, capture_flops: the teacher's work for all students, live and stored.
        break_even_students: fewest students for which a store costs no more than a live teacher.
    """

    student_update_flops: float
    teacher_update_flops: float
    plain_flops: float
    live_flops: float
    ratio_guided: float
    ratio_run: float
    updates_to_earn: float
    guided_epochs: float
    mask_epochs: int
    store_rows: float
    stores: list[StoreSize]
    live_teacher_flops: float
    capture_flops: float
    break_even_students: int


def forecast(run: Run, encodings: dict[str, tuple[dict, float | None]]) -> Forecast:
    """All figures of a run.

    Args:
        encodings: name -> (parameters, mean number of distinct ids per row or None), as
            ``store.make_encoding`` and ``store.bytes_per_row`` take them.

    Raises:
        ValueError: for what is no model or no run.
    """
    run.check()
    share = 1.0 if run.causal else run.mask_prob
    batch = Batch(run.tokens_per_update, run.tokens_per_sample, share * run.tokens_per_update)
    student = training_flops(named_sizes(run.student, run.vocabulary, run.causal), batch)
    teacher_sizes = named_sizes(run.teacher, run.vocabulary, run.causal)
    teacher = teacher_flops(teacher_sizes, batch)
    guided = min(run.ki_steps, run.updates)
    plain, live = run.updates * student, guided * teacher

    guided_tokens = guided * run.tokens_per_update
    corpus = run.corpus_tokens or guided_tokens
    guided_epochs = guided_tokens / corpus
    mask_epochs = run.mask_epochs or math.ceil(guided_epochs)
    rows = mask_epochs * corpus * share
    stores = []
    for name, (parameters, distinct) in encodings.items():
        encoding = make_encoding(name, run.vocabulary, parameters)
        per_row = bytes_per_row(encoding, share * run.tokens_per_sample, distinct)
        stores.append(StoreSize(f"{name} {_text(parameters)}".strip(), per_row, per_row * rows))
    # a capture runs the whole forward pass, so that its bits do not depend on its batches
    capture = mask_epochs * corpus / run.tokens_per_update * forward_flops(teacher_sizes, batch)
    return Forecast(
        student_update_flops=student,
        teacher_update_flops=teacher,
        plain_flops=plain,
        live_flops=plain + live,
        ratio_guided=1 + teacher / student,
        ratio_run=1 + live / plain,
        updates_to_earn=live / student,
        guided_epochs=guided_epochs,
        mask_epochs=mask_epochs,
        store_rows=rows,
        stores=stores,
        live_teacher_flops=run.students * live,
        capture_flops=capture,
        # rounding errors shall not make 2 of 1.0000000002
        break_even_students=max(1, math.ceil(capture / live - 1e-9)),
    )


def _text(parameters: dict) -> str:
    return " ".join(f"{name} {value}" for name, value in parameters.items())


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of the verb."""
    model = "an --arch, LAYERSxWIDTH[xFFN[xHEADS]], or a checkpoint"
    parser.add_argument("--student", required=True, metavar="MODEL", help=model)
    parser.add_argument("--teacher", required=True, metavar="MODEL", help=model)
    parser.add_argument("--task", choices=("ki_mlm", "ki_lm"), default="ki_mlm")
    numbers = {
        "vocabulary": "entries of the dictionary",
        "tokens_per_sample": "length of a block",
        "tokens_per_update": "over all ranks and micro-batches",
        "updates": "of the whole run",
        "ki_steps": "updates of teacher-guided learning (the paper: Table 7)",
        "corpus_tokens": "of one epoch (default: as many as the teacher sees)",
        "mask_epochs": "maskings in a store (default: one per guided epoch)",
        "students": "how many are trained from one store",
    }
    for name, help_line in numbers.items():
        default = getattr(Run, name)
        shown = help_line if default is None else f"{help_line} (default: {default:,})"
        option = "--" + name.replace("_", "-")
        parser.add_argument(option, type=int, default=default, metavar="N", help=shown)
    parser.add_argument(
        "--mask-prob", type=float, default=Run.mask_prob, metavar="P",
        help=f"share of tokens that a masked LM predicts (default: {Run.mask_prob})",
    )  # fmt: skip
    parser.add_argument("--k", type=int, default=10, help="ids of a top-K row (default: 10)")
    parser.add_argument("--draws", type=int, default=50, help="of a sampled row (default: 50)")
    parser.add_argument(
        "--distinct", type=float, default=12,
        help="distinct ids among them, which the teacher decides: the surer, the fewer; "
        "fairseq-ki logits forecast measures it (default: 12, as arXiv 2503.16870 found)",
    )  # fmt: skip
    parser.add_argument("--json", action="store_true", help="print one JSON object")


def run(args: argparse.Namespace) -> int:
    """Prints the forecast; 0."""
    names = [name for name in Run.__dataclass_fields__ if name != "causal"]
    asked = Run(causal=args.task == "ki_lm", **{name: getattr(args, name) for name in names})
    if not 0 < args.distinct <= args.draws:
        raise ValueError(
            f"--distinct: expected above 0 and at most --draws {args.draws}, found {args.distinct}"
        )
    encodings = {"topk": ({"k": args.k}, None), "sampled": ({"draws": args.draws}, args.distinct)}
    found = forecast(asked, encodings)
    print(json.dumps({"run": asdict(asked), **asdict(found)}) if args.json else text(asked, found))
    return 0


def text(asked: Run, found: Forecast) -> str:
    """For people."""
    guided = min(asked.ki_steps, asked.updates)
    students = f"{asked.students} student" + ("s" if asked.students > 1 else "")
    lines = [
        f"student {asked.student}: {_flops(found.student_update_flops)} per update, "
        f"{_flops(found.plain_flops)} in {asked.updates:,} updates",
        f"teacher {asked.teacher}: {_flops(found.teacher_update_flops)} per update",
        f"live teacher: {found.ratio_guided:.3f} x the cost of plain training for {guided:,} "
        f"updates, {found.ratio_run:.3f} x over the run; paid for by "
        f"{found.updates_to_earn:,.0f} updates saved",
        f"the teacher speaks for {found.guided_epochs:.2f} epochs; a store of "
        f"{found.mask_epochs} mask epoch(s) has {found.store_rows:,.0f} rows",
    ]
    lines += [
        f"  {store.encoding}: {store.bytes_per_row:.1f} bytes a row, {_bytes(store.bytes)}"
        for store in found.stores
    ]
    cheaper = "a store" if found.capture_flops < found.live_teacher_flops else "a live teacher"
    if math.isclose(found.capture_flops, found.live_teacher_flops):
        cheaper = "neither"
    lines += [
        f"teacher's work for {students}: live {_flops(found.live_teacher_flops)}, store "
        f"{_flops(found.capture_flops)}: {cheaper} is cheaper",
        f"a store costs no more than a live teacher from {found.break_even_students} student(s) on",
    ]
    return "\n".join(lines)


def _flops(count: float) -> str:
    return f"{count:.3g} FLOPs"


def _bytes(count: float) -> str:
    for unit in ("bytes", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.3g} {unit}"
        count /= 1000
    return f"{count:,.4g} TB"
