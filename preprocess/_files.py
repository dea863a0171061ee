"""Files of the steps in this folder: refusals, compressed input, atomic output."""

import argparse
import contextlib
import gzip
import lzma
import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import IO, Any, BinaryIO, cast

MAX_LINE_BYTES = 64 << 20
MOST_PROCESSES = 1024
_OPENERS: dict[str, Callable[..., Any]] = {".xz": lzma.open, ".gz": gzip.open}


class Refusal(ValueError):
    """What a step was given is not usable; the message says how to mend it."""

    def __init__(self, expected: str, found: str, mend: str) -> None:
        super().__init__(expected, found, mend)  # the three are args: it must survive pickling

    def __str__(self) -> str:
        return "expected {}; found {}. To mend: {}.".format(*self.args)


def run_script(main: Callable[[Sequence[str] | None], None]) -> None:
    """Run a step's `main` for the command line: a refusal is one line on stderr and status 2.

    So is an error of the file system, which names the file itself.
    """
    try:
        main(None)
    except (Refusal, OSError) as refusal:  # the latter: the disk is full, a path is none
        print(f"{Path(sys.argv[0]).name}: {refusal}", file=sys.stderr)
        sys.exit(2)


def parser(doc: str | None) -> argparse.ArgumentParser:
    """An argument parser that shows a module's docstring and the defaults of its options."""
    return argparse.ArgumentParser(description=doc, formatter_class=_HelpFormatter)


class _HelpFormatter(argparse.ArgumentDefaultsHelpFormatter, argparse.RawDescriptionHelpFormatter):
    def _get_help_string(self, action: argparse.Action) -> str | None:
        if action.default in (None, False):  # required, explained in the text, or a switch
            return action.help
        return super()._get_help_string(action)


def positive_int(text: str) -> int:
    """Argument type: a whole number of at least 1."""
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"expected a whole number of at least 1, found {text}")
    return value


def process_count(text: str) -> int:
    """Argument type: how many processes or threads to start."""
    value = positive_int(text)
    if value > MOST_PROCESSES:  # they would be started until the machine stops
        raise argparse.ArgumentTypeError(f"expected at most {MOST_PROCESSES}, found {text}")
    return value


def require_file(path: Path, mend: str) -> Path:
    """Return `path` if it is a file that is not empty, else refuse."""
    if not path.is_file():
        raise Refusal(f"a file at {path}", "a directory" if path.is_dir() else "nothing", mend)
    if path.stat().st_size == 0:
        raise Refusal(f"text in {path}", "an empty file", mend)
    return path


def open_binary(path: Path) -> BinaryIO:
    """Open a plain, .xz or .gz file for reading bytes; the suffix decides."""
    return cast(BinaryIO, _OPENERS.get(path.suffix, open)(path, "rb"))


@contextlib.contextmanager
def reading(path: Path) -> Iterator[BinaryIO]:
    """`open_binary`, with a damaged or cut-off compressed file turned into a refusal."""
    try:
        with open_binary(path) as file:
            yield file
    except (lzma.LZMAError, gzip.BadGzipFile, EOFError) as error:
        raise Refusal(
            f"a whole {path.suffix} file at {path}", f"{error}", "fetch or compress the file again"
        ) from error


def bounded_line(file: BinaryIO, path: Path) -> bytes:
    """The next line, b"" at the end; refuses one that would take all memory (a zip bomb's)."""
    line = file.readline(MAX_LINE_BYTES + 1)
    if len(line) > MAX_LINE_BYTES:
        raise Refusal(
            f"lines of at most {MAX_LINE_BYTES >> 20} MiB in {path}",
            "a longer one",
            "check that it is text; break its lines",
        )
    return line


def check_outputs(outputs: Sequence[Path], overwrite: bool, inputs: Sequence[Path] = ()) -> None:
    """Refuse outputs that are already there, unless to be overwritten, or that are inputs."""
    present = [path for path in outputs if path.exists() and not _is_empty_directory(path)]
    if present and not overwrite:
        raise Refusal(
            "no earlier output",
            ", ".join(map(str, present)),
            "choose another place or add --overwrite",
        )
    own = {os.path.realpath(path) for path in inputs}
    clashes = [str(path) for path in outputs if os.path.realpath(path) in own]
    if clashes:
        raise Refusal("outputs other than the inputs", ", ".join(clashes), "write to another place")


def _is_empty_directory(path: Path) -> bool:
    return path.is_dir() and not any(path.iterdir())


@contextlib.contextmanager
def atomic_files(paths: Sequence[Path]) -> Iterator[list[IO[bytes]]]:
    """Open temporary files that become `paths`, in that order, only if the block succeeds.

    The last path is the commit mark: an older one is removed before the first rename, so that
    a killed run never leaves a mark beside files it does not describe.
    """
    with contextlib.ExitStack() as stack:
        for path in paths:
            stack.enter_context(_made_folder(path.parent))
        files: list[IO[bytes]] = []
        for path in paths:
            temporary = stack.enter_context(
                tempfile.NamedTemporaryFile(
                    dir=path.parent, prefix=f".{path.name}.partial-", delete=False
                )
            )
            stack.callback(Path(temporary.name).unlink, missing_ok=True)
            files.append(cast(IO[bytes], temporary))
        yield files
        for file in files:
            file.flush()
            os.fsync(file.fileno())
            os.fchmod(file.fileno(), 0o666 & ~_umask())  # temporary files are private
        paths[-1].unlink(missing_ok=True)
        for file, path in zip(files, paths, strict=True):
            os.replace(file.name, path)


@contextlib.contextmanager
def atomic_directory(path: Path, known_names: Sequence[str]) -> Iterator[Path]:
    """A temporary directory that becomes `path` only if the block succeeds.

    An older `path` is replaced, but never when it holds anything but `known_names`: a mistyped
    destination must not cost the user other files.
    """
    if path.exists() and not path.is_dir():
        raise Refusal(f"a directory at {path}", "a file", "choose another directory")
    foreign = sorted(set(os.listdir(path)) - set(known_names)) if path.exists() else []
    if foreign:
        raise Refusal(
            f"only the files of an earlier run in {path}",
            ", ".join(foreign[:5]),
            "choose another directory or move these files away",
        )
    with _made_folder(path.parent):
        staging = Path(tempfile.mkdtemp(dir=path.parent, prefix=f".{path.name}.partial-"))
        try:
            yield staging
            staging.chmod(0o777 & ~_umask())
            if path.exists():
                shutil.rmtree(path)
            os.replace(staging, path)
        finally:
            shutil.rmtree(staging, ignore_errors=True)


@contextlib.contextmanager
def _made_folder(folder: Path) -> Iterator[None]:
    """`folder`, made if it is not there; if the block fails, what is new and empty goes again."""
    new = [path for path in (folder, *folder.parents) if not path.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    try:
        yield
    except BaseException:
        for path in new:
            with contextlib.suppress(OSError):
                path.rmdir()
        raise


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
