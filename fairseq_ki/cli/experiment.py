"""``fairseq-ki experiment RECIPE.yaml --out runs/NAME [--seeds 1 2 3]``."""

import argparse
import sys
from pathlib import Path

from fairseq_ki.experiments import driver, recipe
from fairseq_ki.experiments.process import RunError, Terminated


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of the verb."""
    parser.add_argument("recipe", type=Path, metavar="RECIPE.yaml", help="what to run")
    parser.add_argument(
        "--out",
        type=Path,
        required=True,
        help="folder for runs, results.json and the report; a second call resumes there",
    )
    parser.add_argument(
        "--shared",
        type=Path,
        help="folder of the runs that several experiments use (default: shared, beside --out)",
    )
    parser.add_argument(
        "--seeds",
        type=_seed,
        nargs="+",
        metavar="SEED",
        help="one run of every arm for each (SEEDS); default: those of the recipe",
    )
    parser.add_argument("--scale", default="", help="one of the scales that the recipe has")
    parser.add_argument("--data", help="another data-bin than the recipe's")
    parser.add_argument(
        "--shorten",
        type=_factor,
        default=1.0,
        metavar="FACTOR",
        help="divide every number of updates by this, to see that the commands work (SHORTEN)",
    )
    parser.add_argument(
        "--dry-run", action="store_true", help="print every command and run nothing"
    )
    parser.add_argument(
        "--redo-changed",
        action="store_true",
        help="delete and repeat finished runs whose command, data or teacher has changed",
    )


def _seed(text: str) -> int:
    if not (text.isascii() and text.isdigit()):
        raise argparse.ArgumentTypeError(
            f"expected whole numbers of at least 0 with spaces between, found {text!r}"
        )
    return int(text)


def _factor(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(
            f"expected a number of at least 1, found {text!r}"
        ) from None


def run(args: argparse.Namespace) -> int:
    """Exit status 0; 1 if a command failed; 130 if it was interrupted."""
    checked = recipe.load(args.recipe, args.scale, args.shorten, args.data)
    seeds = list(dict.fromkeys(args.seeds or checked.seeds))
    if args.dry_run:
        driver.print_commands(checked, args.out, seeds, args.shared)
        return 0
    try:
        driver.run_experiment(checked, args.out, seeds, args.redo_changed, args.shared)
    except RunError as e:
        print(f"\nfairseq-ki experiment: {e}", file=sys.stderr)
        return 1
    except (KeyboardInterrupt, Terminated):
        print("\ninterrupted; the same command goes on from here", file=sys.stderr)
        return 130
    return 0
