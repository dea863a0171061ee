"""``fairseq-ki VERB``: what fairseq's own commands have no place for."""

import argparse
import importlib
import sys
from pathlib import Path

# verb -> (module under fairseq_ki.cli, one line of help); imported only when asked for, so
# that `fairseq-ki --help` does not wait for torch and fairseq
VERBS = {
    "convert": ("convert", "models of Hugging Face transformers to fairseq checkpoints, and back"),
    "doctor": ("doctor", "can this machine train? versions, patches, and two real updates"),
    "experiment": ("experiment", "run a recipe: train its runs, resume, evaluate, report"),
    "finetune": ("finetune", "fine-tune or probe a masked LM on GLUE, ACL-ARC, your own tasks"),
    "forecast": ("forecast", "what inheriting will cost in FLOPs and bytes, before training"),
    "grow": ("grow", "make a larger student that begins as its teacher"),
    "lineage": ("lineage", "who taught a checkpoint, what it began as, and what all that cost"),
    "logits": ("logits", "store what a teacher says, check stores, weigh encodings"),
    "report": ("report", "turn finished runs into one HTML page and Markdown"),
}


def build_parser(argv: list[str]) -> argparse.ArgumentParser:
    """The parser with the options of the one verb that ``argv`` names."""
    parser = argparse.ArgumentParser(prog="fairseq-ki", description=__doc__)
    verbs = parser.add_subparsers(dest="verb", metavar="VERB", required=True)
    chosen = next((a for a in argv if not a.startswith("-")), None)
    for verb, (module, help_line) in VERBS.items():
        sub = verbs.add_parser(verb, help=help_line, description=help_line)
        if verb == chosen:
            command = importlib.import_module(f"fairseq_ki.cli.{module}")
            command.add_arguments(sub)
            sub.set_defaults(run=command.run)
    return parser


def main(argv: list[str] | None = None) -> int:
    """Run one verb; what a user got wrong is one line on stderr and exit status 2."""
    argv = sys.argv[1:] if argv is None else argv
    args = build_parser(argv).parse_args(argv)
    try:
        return args.run(args)
    except KeyboardInterrupt:  # what was written stays, and verbs that resume go on from it
        print(f"fairseq-ki {args.verb}: interrupted", file=sys.stderr)
        return 130
    except (ValueError, OSError) as error:
        said = _said(error)
    except RuntimeError as error:
        if not str(error).startswith("Symlink loop"):  # what pathlib says, before Python 3.13
            raise
        said = f"expected a file or folder, found a link that leads to itself ({error})"
    print(f"fairseq-ki {args.verb}: error: {said}", file=sys.stderr)
    return 2


def _said(error: Exception) -> str:
    """Its own words; for a file where a folder was to be made, what to do about it."""
    if not isinstance(error, (FileExistsError, NotADirectoryError)) or not error.filename:
        return str(error)
    path = Path(error.filename)
    file = next((p for p in (path, *path.parents) if p.is_file()), None)
    if file is None:
        return str(error)
    return f"{file}: expected a folder, or nothing yet, found a file; name another place"


if __name__ == "__main__":
    sys.exit(main())
