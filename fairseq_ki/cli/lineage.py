"""``fairseq-ki lineage ckpt.pt``: the family tree of a checkpoint, and what it cost."""

import argparse
import json
import os

from fairseq_ki.lineage import Lineage, costs, of_checkpoint, read_lineage, tree


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of the verb."""
    parser.add_argument(
        "checkpoint", metavar="CKPT", help="a checkpoint of fairseq-train, or a lineage.json"
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object")


def run(args: argparse.Namespace) -> int:
    lineage, updates = _read(args.checkpoint)
    if args.json:
        found = costs(lineage)
        print(
            json.dumps(
                {
                    **lineage.to_dict(),
                    "checkpoint_updates": updates,
                    "training_flops": found.training,
                    "teaching_flops": found.teaching,
                    "total_flops": found.total,
                    "unknown": list(found.unknown),
                }
            )
        )
        return 0
    run_updates = lineage.own.updates
    if updates is not None and run_updates is not None and updates != run_updates:
        print(f"{args.checkpoint}: after {updates:,} of {run_updates:,} updates of this run")
    print(tree(lineage))
    return 0


def _read(path: str) -> tuple[Lineage, int | None]:
    if not os.path.isfile(path):
        raise ValueError(f"{path}: expected a checkpoint or a lineage.json, found no file")
    if path.endswith(".json"):
        return read_lineage(path), None
    return of_checkpoint(path)
