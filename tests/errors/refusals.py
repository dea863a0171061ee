"""The cases: how each refusal of docs/errors.md is provoked. The page has the messages."""

import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from forking import REPO
from world import World

PAGE = REPO / "docs" / "errors.md"
_ROW = re.compile(r"^\| ([a-z0-9-]+) \| `(.+?)` \| (.+) \|$")

Prepare = Callable[[World, Path], object]


@dataclass(frozen=True)
class Case:
    """One bad input.

    Attributes:
        refusal: its row of the page.
        command: as typed; ``{data}`` and the like are names of the world.
        prepare: puts the bad input into the working directory.
        status: the exit status; None: what the page says of the program.
        environment: variables beside those of every command.
    """

    refusal: str
    command: str
    prepare: Prepare | None = None
    status: int | None = None
    environment: Mapping[str, str] = field(default_factory=dict)

    @property
    def expected_status(self) -> int:
        if self.status is not None:
            return self.status
        return 1 if self.command.startswith("fairseq-train") else 2


def messages() -> dict[str, str]:
    """Every row of the page: its name and its message. Raises for a name given twice."""
    found: dict[str, str] = {}
    for line in PAGE.read_text(encoding="utf-8").splitlines():
        row = _ROW.match(line)
        if row:
            assert row[1] not in found, f"{row[1]} twice in {PAGE}"
            found[row[1]] = row[2]
        elif line.startswith("| ") and not line.startswith("| |"):
            raise AssertionError(f"{PAGE}: not a row of name, message and mend: {line}")
    return found


def said(message: str, output: str) -> bool:
    """Whether a command printed a message, in which ``…`` stands for anything."""
    pattern = ".*?".join(map(re.escape, message.split("…")))
    return re.search(pattern, " ".join(output.split()), re.DOTALL) is not None


def files(contents: dict[str, str | bytes]) -> Prepare:
    """Writes files by their names."""

    def prepare(world: World, folder: Path) -> None:
        for name, content in contents.items():
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content if isinstance(content, bytes) else content.encode())

    return prepare


def spoiled(name: str, target: str, spoil: Callable[[Path], object]) -> Prepare:
    """A copy of something good, at ``target``, that ``spoil`` gets the path of."""
    return lambda world, folder: spoil(world.copy(name, folder / target))


def teacher(alter: Callable[[dict], object], name: str = "teacher") -> Prepare:
    """``t/c.pt``: a teacher with another content, its dict.txt beside it."""
    return lambda world, folder: world.altered(name, folder / "t" / "c.pt", alter)


def model_options(**options) -> Callable[[dict], None]:
    """Alters what a checkpoint says of its model."""
    return lambda state: vars(state["cfg"]["model"]).update(options)


def cut(path: Path, size: int) -> None:
    path.write_bytes(path.read_bytes()[:size])


def flip(path: Path, at: int) -> None:
    content = bytearray(path.read_bytes())
    content[at] ^= 0xFF
    path.write_bytes(content)


def link(path: Path) -> None:
    """Moves a file away and leaves a link."""
    moved = path.rename(path.parent.parent / path.name)
    path.symlink_to(os.path.relpath(moved, path.parent))
