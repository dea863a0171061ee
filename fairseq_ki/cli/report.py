"""``fairseq-ki report RUNS... --out report.html [--markdown report.md]``."""

import argparse
from pathlib import Path

from fairseq_ki.evaluation.report import gather, write_html, write_markdown
from fairseq_ki.evaluation.summary import as_text


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of the verb."""
    parser.add_argument(
        "runs",
        nargs="+",
        type=Path,
        metavar="RUNS",
        help="folders of experiments, results.json files, or logs of fairseq-train "
        "--log-format json",
    )
    parser.add_argument("--out", type=Path, help="write one self-contained HTML page here")
    parser.add_argument(
        "--markdown", type=Path, help="write Markdown here, its pictures as PNG beside it"
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
    results = gather(args.runs, [tuple(pair) for pair in args.compare])
    for each in results:
        print(as_text(each) + "\n")
    try:
        if args.out:
            write_html(results, args.out)
            print(f"wrote {args.out}")
        if args.markdown:
            write_markdown(results, args.markdown)
            print(f"wrote {args.markdown}")
    except ImportError as e:  # names the extra that is missing
        raise ValueError(str(e)) from e
    return 0
