"""Build a corpus of English from the documentation installed with Python and its packages.

Taken are the docstrings of the standard library and of the installed packages, the documentation
that numpy, torch and scipy attach to compiled functions, Python's language reference (pydoc's
topics) and the description of each package. Source files are parsed, never imported. Code, tables
and mark-up are dropped, and a paragraph that occurs many times is kept once. For given installed
versions the result is the same on every run.
"""

import ast
import importlib.metadata
import platform
import random
import re
import sys
import sysconfig
import warnings
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from _cleaning import documents
from _corpus import add_arguments, output_paths, write_corpus
from _files import Refusal, check_outputs, parser, run_script
from _prose import is_document, prose

STANDARD_LIBRARY = "python"
# Tests and vendored copies hold little prose and much repetition.
_SKIPPED_FOLDERS = frozenset(("test", "tests", "testing", "_vendor", "site-packages", "idlelib"))
# A change in this project's own text must not change the corpus it is tried on.
_OWN_DISTRIBUTION = "fairseq-ki"


def strings(source: str) -> Iterator[str]:
    """Yield the documentation strings of one Python source.

    These are the strings that stand alone as a statement (docstrings of modules, classes,
    functions and attributes), and strings of several lines passed to a call whose name has "doc"
    in it (numpy's add_newdoc, torch's add_docstr). Raises SyntaxError or ValueError if the source
    cannot be parsed.
    """
    for node in ast.walk(_parse(source)):
        if isinstance(node, ast.Expr):
            yield from _constants([node.value])
        elif isinstance(node, ast.Call) and "doc" in _called_name(node):
            parts = (part for argument in node.args for part in ast.walk(argument))
            yield from (text for text in _constants(parts) if "\n" in text)


def topics(source: str) -> Iterator[str]:
    """Yield the long strings of pydoc_data/topics.py, the chapters of the language reference."""
    yield from (text for text in _constants(ast.walk(_parse(source))) if "\n\n" in text)


def _parse(source: str) -> ast.Module:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # invalid escapes in the sources of others
        return ast.parse(source)


def _constants(nodes: Iterable[ast.AST]) -> Iterator[str]:
    for node in nodes:
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.value


def _called_name(node: ast.Call) -> str:
    function = node.func
    if isinstance(function, ast.Attribute):
        return function.attr
    return function.id if isinstance(function, ast.Name) else ""


def python_sources(paths: Iterable[Path], root: Path) -> list[Path]:
    """The Python sources among `paths`, sorted, without tests and vendored copies.

    A .pyi file counts only where no .py file stands beside it, which it would repeat.
    """
    chosen = {
        path
        for path in paths
        if path.suffix in (".py", ".pyi")
        and path.is_relative_to(root)
        and not _SKIPPED_FOLDERS.intersection(path.relative_to(root).parts[:-1])
    }
    return sorted(p for p in chosen if p.suffix == ".py" or p.with_suffix(".py") not in chosen)


def texts_of(sources: Sequence[Path], record: dict[str, Any]) -> list[str]:
    """Return the documentation in sources; count files and unreadable ones in `record`."""
    record |= {"files": len(sources), "files_not_parsed": 0}
    texts: list[str] = []
    for path in sources:
        extract = topics if path.parts[-2:] == ("pydoc_data", "topics.py") else strings
        try:
            texts.extend(extract(path.read_text(encoding="utf-8")))
        except (SyntaxError, ValueError, RecursionError):
            record["files_not_parsed"] += 1
    return texts


def installed() -> dict[str, importlib.metadata.Distribution]:
    """Installed packages by normalised name, sorted; the first on the path wins."""
    found: dict[str, importlib.metadata.Distribution] = {}
    for distribution in importlib.metadata.distributions():
        name = re.sub(r"[-_.]+", "-", distribution.metadata["Name"] or "").lower()
        if name and name != _OWN_DISTRIBUTION:
            found.setdefault(name, distribution)
    return dict(sorted(found.items()))


def read_package(
    name: str, packages: dict[str, importlib.metadata.Distribution], record: dict[str, Any]
) -> list[list[str]]:
    """Return the documents of one package (or STANDARD_LIBRARY), cleaned, and fill `record`."""
    if name == STANDARD_LIBRARY:
        record["version"] = platform.python_version()
        root = Path(sysconfig.get_path("stdlib"))
        texts = texts_of(python_sources(root.rglob("*.py"), root), record)
    else:
        package = packages[name]
        record["version"] = package.version
        root = Path(str(package.locate_file("")))
        files = [root / file for file in package.files or () if ".." not in file.parts]
        texts = texts_of(python_sources(filter(Path.is_file, files), root), record)
        texts.append(str(package.metadata.json.get("description", "")))
    found = [document for text in texts for document in documents(prose(text))]
    record |= {"texts": len(texts), "texts_of_prose": len(found)}
    return found


def collect(
    names: Sequence[str], packages: dict[str, importlib.metadata.Distribution]
) -> tuple[list[tuple[str, list[str]]], dict[str, dict[str, Any]]]:
    """Return (package, document) pairs of the named packages, and a record of each package."""
    pairs: list[tuple[str, list[str]]] = []
    records: dict[str, dict[str, Any]] = {}
    for number, name in enumerate(names, 1):
        if sys.stderr.isatty():
            print(f"\r\033[K{number}/{len(names)} {name}", end="", file=sys.stderr, flush=True)
        records[name] = {}
        pairs.extend((name, found) for found in read_package(name, packages, records[name]))
        if not sys.stderr.isatty() and number % 10 == 0:
            print(f"{number}/{len(names)} packages, {len(pairs):,} documents", file=sys.stderr)
    if sys.stderr.isatty():
        print(file=sys.stderr)
    return pairs, records


def without_repeats(pairs: Iterable[tuple[str, list[str]]]) -> Iterator[tuple[str, list[str]]]:
    """Keep each paragraph where it occurs first, and the documents that still are documents.

    Packages describe the same argument in hundreds of places; without this a quarter of the
    characters of the validation text would stand in the training text too.
    """
    seen: set[str] = set()
    for name, document in pairs:
        fresh = [line for line in dict.fromkeys(document) if line not in seen]
        seen.update(fresh)
        if is_document(fresh):
            yield name, fresh


def main(argv: Sequence[str] | None = None) -> None:
    """Command line; `--help` lists the options."""
    arguments = parser(__doc__)
    arguments.add_argument(
        "--packages",
        nargs="+",
        help=f'only these; "{STANDARD_LIBRARY}" is the standard library; default: all installed',
    )
    arguments.add_argument("--seed", type=int, default=1, help="of the order of the documents")
    add_arguments(arguments)
    args = arguments.parse_args(argv)
    packages = installed()
    names = args.packages or [STANDARD_LIBRARY, *packages]
    missing = sorted(set(names) - {STANDARD_LIBRARY, *packages})
    if missing:
        raise Refusal("installed packages", ", ".join(missing), "install them or leave them out")
    check_outputs(output_paths(args.out_dir), args.overwrite)
    pairs, records = collect(names, packages)
    pairs.sort()
    random.Random(args.seed).shuffle(pairs)
    write_corpus(
        args,
        made_by="docs_corpus.py",
        found=without_repeats(pairs),
        sources=records,
        options={"packages": args.packages, "seed": args.seed},
    )


if __name__ == "__main__":
    run_script(main)
