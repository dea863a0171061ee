"""The YAML of a recipe, put on top of the file that it includes."""

from pathlib import Path
from typing import Any, NoReturn

from fairseq_ki.checked_yaml import CheckedYaml

INCLUDE = "include"


def merged(base: dict, over: dict) -> dict:
    """``over`` on top of ``base``, mappings merged key by key."""
    result = dict(base)
    for key, value in over.items():
        old = result.get(key)
        if isinstance(old, dict) and isinstance(value, dict):
            value = merged(old, value)
        result[key] = value
    return result


class RecipeFile(CheckedYaml):
    """``include: other.yaml`` at the top names a file, relative to this one, to start from.

    Raises:
        YamlFileError: naming the file and the line, also where they are those of the other file.
    """

    def __init__(self, path: Path, above: tuple[Path, ...] = ()) -> None:
        super().__init__(path)
        self.base: RecipeFile | None = None
        self.own = set(self.lines)
        if not isinstance(self.data, dict) or INCLUDE not in self.data:
            return
        name = self.data.pop(INCLUDE)
        other = (path.parent / str(name)).resolve()
        if not isinstance(name, str) or not other.is_file():
            self.refuse((INCLUDE,), "the path of a file, relative to this one", repr(name))
        if other in (*above, path.resolve()):
            self.refuse((INCLUDE,), "files that do not include each other", repr(name))
        self.base = RecipeFile(other, (*above, path.resolve()))
        self.data = merged(self.base.data, self.data)
        self.lines = self.base.lines | self.lines

    def renamed(self, old: tuple, new: tuple) -> None:
        """What stands at ``old`` is from now on called ``new`` as well."""
        for where, line in list(self.lines.items()):
            if where[: len(old)] == old:
                place = (*new, *where[len(old) :])
                self.lines.setdefault(place, line)
                if where in self.own:
                    self.own.add(place)
        if self.base:
            self.base.renamed(old, new)

    def refuse(self, where: tuple, expected: str, found: Any) -> NoReturn:
        """As in CheckedYaml, about the file in which it stands."""
        inner = where
        while inner and inner not in self.lines:
            inner = inner[:-1]
        if self.base and inner not in self.own:
            self.base.refuse(where, expected, found)
        super().refuse(where, expected, found)
