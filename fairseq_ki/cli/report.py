"""``fairseq-ki report RUNS... --out report.html [--markdown report.md] [--results RESULTS.md]``."""

import argparse
import os
from pathlib import Path

from fairseq_ki.evaluation.downstream import FILE as DOWNSTREAM
from fairseq_ki.evaluation.picture import require_matplotlib
from fairseq_ki.evaluation.report import (
    RESULTS,
    gather,
    pictures_of,
    write_html,
    write_markdown,
    write_results,
)
from fairseq_ki.evaluation.results_page import Example
from fairseq_ki.evaluation.summary import as_text
from fairseq_ki.experiments.recipe_file import RecipeFile


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of the verb."""
    parser.add_argument(
        "runs",
        nargs="+",
        type=Path,
        metavar="RUNS",
        help="folders of experiments or of fairseq-ki finetune, results.json or downstream.json "
        "files, or logs of fairseq-train --log-format json",
    )
    parser.add_argument("--out", type=Path, help="write one self-contained HTML page here")
    parser.add_argument(
        "--markdown", type=Path, help="write Markdown here, its pictures as PNG beside it"
    )
    parser.add_argument(
        "--results",
        type=Path,
        help="write the page of all results here: tables, claims judged, and which of the "
        "--examples have not been run",
    )
    parser.add_argument(
        "--examples",
        type=Path,
        help="folder of the examples, for --results (default: examples, if there is one)",
    )
    parser.add_argument(
        "--join",
        action="store_true",
        help="report several results.json of one example, each with other seeds (run on another "
        "machine, or another day), as one experiment",
    )
    parser.add_argument(
        "--compare",
        nargs=2,
        action="append",
        default=[],
        metavar=("INHERITED", "ALONE"),
        help="names of two runs: what the first saves against the second at equal PPL; logs "
        "are named after their file, or their folder where files share a name",
    )


def run(args: argparse.Namespace) -> int:
    """Write what was asked for; the tables also go to the terminal."""
    results = gather(args.runs, [tuple(pair) for pair in args.compare], args.join)
    examples = _examples(args.examples) if args.results else []
    _check_outputs(args)
    for each in results:
        print(as_text(each) + "\n")
    if args.out:
        write_html(results, args.out)
        print(f"wrote {args.out}")
    if args.markdown:
        write_markdown(results, args.markdown)
        print(f"wrote {args.markdown}")
    if args.results:
        write_results(results, examples, args.results)
        print(f"wrote {args.results}")
    return 0


def _examples(folder: Path | None) -> list[Example]:
    """Every recipe that has a script to run it, by name."""
    recipes = sorted((folder or Path("examples")).glob("*/recipe.yaml"))
    if folder and not recipes:
        raise ValueError(f"--examples {folder}: expected a folder with examples, found none")
    found = []
    for recipe in recipes:
        script = recipe.with_name("run.sh")
        if script.is_file():
            data = RecipeFile(recipe).data
            if not isinstance(data, dict) or "name" not in data:
                raise ValueError(f"{recipe}: expected a recipe with a name, found none")
            title = data.get("title", data["name"])
            found.append(Example(data["name"], title, f"SEEDS='1 2 3' bash {script}"))
    return found


def _check_outputs(args: argparse.Namespace) -> None:
    """Make the folders of the outputs; refuse, before any is written, what can not be written.

    That is: over what is reported on, into a file as if it were a folder, or without matplotlib.
    """
    if args.out or args.markdown:
        try:
            require_matplotlib()
        except ImportError as e:  # names the extra that is missing
            raise ValueError(str(e)) from e
    taken = {path.resolve() for path in args.runs}
    taken |= {(path / name).resolve() for path in args.runs for name in (RESULTS, DOWNSTREAM)}
    options = {"--out": args.out, "--markdown": args.markdown, "--results": args.results}
    outputs = {option: path for option, path in options.items() if path is not None}
    files = [path.resolve() for path in outputs.values()]
    for option, path in outputs.items():
        if path.resolve() in taken or path.is_dir():
            raise ValueError(
                f"{option} {path}: expected a file of its own, found a folder, one of the runs or "
                "another output; choose another name"
            )
        taken.add(path.resolve())
        folders = [path.parent, *([pictures_of(path)] if option == "--markdown" else [])]
        for each in (part for folder in folders for part in (folder, *folder.parents)):
            if each.resolve() in files or (each.exists() and not each.is_dir()):
                raise ValueError(f"{option} {path}: expected a folder at {each}, found a file")
    for option, path in outputs.items():
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            writable = os.access(path.parent, os.W_OK)
        except OSError:
            writable = False
        if not writable:
            raise ValueError(
                f"{option}: expected a folder that can be written to, found {path.parent}; choose "
                "another"
            )
