"""``fairseq-ki grow --from base.pt --arch roberta_large --out init.pt``: begin as the teacher."""

import argparse
import hashlib
import os
import shlex
import sys
from functools import partial
from typing import Any

from fairseq_ki.cli._quiet import quiet
from fairseq_ki.evaluation.flops import sizes_of
from fairseq_ki.evaluation.model_sizes import model_options, named_sizes
from fairseq_ki.growth import (
    DEPTHS,
    Shape,
    Student,
    check_free,
    grow,
    read_origin,
    write_student,
)
from fairseq_ki.lineage import LINEAGE, STATE, TREE, grown_lineage, new_id, write_lineage


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of the verb; all others are fairseq's, of the model (``--encoder-layers``)."""
    parser.add_argument(
        "--from",
        dest="teacher",
        required=True,
        metavar="CKPT",
        help="fairseq checkpoint of the smaller, trained model",
    )
    parser.add_argument(
        "--arch",
        required=True,
        metavar="MODEL",
        help="the larger model: an --arch, or LAYERSxWIDTH[xFFN[xHEADS]]; further options of "
        "fairseq-train that change its sizes may follow (--encoder-layers 16, --max-positions 512)",
    )
    parser.add_argument("--out", required=True, metavar="CKPT", help="checkpoint to write")
    parser.add_argument(
        "--depth",
        choices=DEPTHS,
        default=DEPTHS[0],
        help="new layers: copies that add nothing yet, so that the model computes what its teacher "
        "does; or the teacher's layers stacked (default: %(default)s)",
    )
    parser.add_argument(
        "--dict",
        metavar="FILE",
        help="the teacher's dict.txt; default: beside its checkpoint, else in the data directory "
        "that the checkpoint records",
    )
    parser.add_argument(
        "--seed", type=int, default=1, help="of the parts in which weights are divided (default: 1)"
    )
    parser.set_defaults(model=[])
    parser.parse_known_args = partial(_keep_others, parser.parse_known_args)  # type: ignore


def _keep_others(parse_known_args, args=None, namespace=None):
    """What is not an option of this verb is one of the model: fairseq's parser judges it."""
    namespace, others = parse_known_args(args, namespace)
    namespace.model = others
    return namespace, []


def run(args: argparse.Namespace) -> int:
    with quiet("fairseq_ki", "hydra"):
        return _run(args)


def _run(args: argparse.Namespace) -> int:
    if not -(2**63) <= args.seed < 2**63:
        raise ValueError(f"--seed: expected a whole number of 64 bits, found {args.seed}")
    if not args.out:
        raise ValueError("--out: expected the name of a checkpoint, found nothing")
    check_free(args.out)
    _check_lineage(args.out)
    origin = read_origin(args.teacher, args.dict)
    named_sizes(args.arch, len(origin.dictionary), origin.causal)  # says what is wrong with it
    options = [*model_options(args.arch, origin.causal), *args.model]
    student = grow(origin, options, depth=args.depth, seed=args.seed)
    model, lineage = new_id(), None
    state: dict[str, Any] = {"id": model, "updates": 0, "tokens": 0.0}
    try:
        lineage = grown_lineage(
            model,
            args.out,
            origin=args.teacher,
            arch=student.architecture,
            sizes=sizes_of(student.model.state_dict()),
            dictionary=hashlib.sha256(origin.symbols).hexdigest(),
        )
        state[TREE] = lineage.to_dict()
    except (ValueError, OSError) as error:
        _warn(error)
    write_student(student, args.out, {STATE: state})
    if lineage is not None:
        try:
            write_lineage(lineage, os.path.dirname(os.path.abspath(args.out)))
        except OSError as error:
            _warn(error)
    print(_told(student, args.out))
    return 0


def _warn(error: Exception) -> None:
    print(f"warning: no {LINEAGE} was written: {error}", file=sys.stderr)


def _check_lineage(out: str) -> None:
    """Two grown models in one folder would have one lineage.json."""
    beside = os.path.join(os.path.dirname(os.path.abspath(out)), LINEAGE)
    if os.path.lexists(beside):
        raise ValueError(
            f"--out {out}: expected a folder without the lineage of another checkpoint, found "
            f"{beside}; give the grown model a folder of its own"
        )


def _told(student: Student, out: str) -> str:
    task = "ki_lm" if student.shape.causal else "ki_mlm"
    command = ["fairseq-train", "DATA", "--user-dir", "fairseq_ki", "--task", task]
    command += ["--criterion", "ki", *student.options, "--finetune-from-model", out]
    positions, longest = student.origin.model.max_positions(), student.longest_sample
    notes = []
    if longest <= positions:
        command += ["--ki-teacher", student.origin.path]
    else:
        notes = [
            f"without --ki-teacher: samples of {longest} tokens are longer than the {positions} "
            "positions of the model it was grown from"
        ]
    difference = f"largest difference {student.difference:.2g}, largest logit {student.largest:.2g}"
    if student.promise.equal:
        verdict = f"its logits equal the teacher's ({difference})"
    else:
        reasons = "; ".join(student.promise.reasons)
        verdict = f"its logits are not the teacher's ({difference}): {reasons}"
    return "\n".join(
        [
            f"grew {_size(student.origin.shape)} to {_size(student.shape)}",
            verdict,
            f"wrote {out}; train it with",
            f"  {shlex.join(command)} ...",
            *notes,
        ]
    )


def _size(shape: Shape) -> str:
    return f"{shape.layers} layers of {shape.width} ({shape.heads} heads, feed-forward {shape.ffn})"
