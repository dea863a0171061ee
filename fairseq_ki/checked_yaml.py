"""A YAML file whose mistakes are named with file, line and what was expected."""

from collections.abc import Hashable, Mapping
from pathlib import Path
from typing import Any, NoReturn

import yaml

_NAMES = {str: "text", dict: "a mapping", list: "a list", int: "an integer", float: "a number"}
_MOST_ENTRIES = 100_000
_LONGEST_SHOWN = 200


def shown(value: object) -> str:
    """A value as messages have it, which are one line."""
    try:
        text = repr(value)
    except ValueError:  # Python writes no number of more than 4,300 digits
        return "a number of thousands of digits"
    return text if len(text) <= _LONGEST_SHOWN else f"{text[:_LONGEST_SHOWN]}..."


class YamlFileError(ValueError):
    """A file that cannot be used: its name, the line, expected and found."""


def _can_be_a_name(text: str) -> bool:
    """False for a NUL, which no path can have, and for halves of characters."""
    return "\0" not in text and not any("\ud800" <= letter <= "\udfff" for letter in text)


class CheckedYaml:
    """The data of a YAML file, with the line of every key.

    Raises:
        YamlFileError: if it cannot be read, is not YAML, or gives a key twice (YAML would keep
            the last).
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.lines: dict[tuple, int] = {}
        try:
            text = path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as e:
            raise YamlFileError(f"{path}: expected a file of text, found {e}") from None
        try:
            loader = yaml.SafeLoader(text)
            node = loader.get_single_node()
            if node is not None:
                self._note(node, (), loader)
            self.data = None if node is None else loader.construct_document(node)
        except YamlFileError:
            raise
        except (yaml.YAMLError, RecursionError, ValueError) as e:  # the last: dates that are none
            raise YamlFileError(f"{path}: expected YAML, found {e}") from None

    def _note(self, node: yaml.Node, where: tuple, loader: yaml.SafeLoader) -> None:
        self.lines.setdefault(where, node.start_mark.line + 1)
        if len(self.lines) > _MOST_ENTRIES:  # a few aliases of aliases can stand for billions
            raise YamlFileError(
                f"{self.path}: expected at most {_MOST_ENTRIES} entries, found more"
            )
        if isinstance(node, yaml.ScalarNode) and not _can_be_a_name(node.value):
            raise YamlFileError(
                f"{self.path}, line {self.lines[where]}: expected text that can be a path or a "
                f"name, found {ascii(node.value)[:_LONGEST_SHOWN]}"
            )
        if isinstance(node, yaml.MappingNode):
            seen = set()
            for key, value in node.value:
                line = key.start_mark.line + 1
                found = _as_read(key, loader)
                if not isinstance(found, Hashable):
                    raise YamlFileError(
                        f"{self.path}, line {line}: expected keys of text, found a collection"
                    )
                if found in seen:
                    raise YamlFileError(
                        f"{self.path}, line {line}: expected each key once, "
                        f"found {key.value!r} again"
                    )
                seen.add(found)
                self.lines[(*where, found)] = line
                self._note(value, (*where, found), loader)
        elif isinstance(node, yaml.SequenceNode):
            for i, value in enumerate(node.value):
                self._note(value, (*where, i), loader)

    def refuse(self, where: tuple, expected: str, found: object) -> NoReturn:
        """Raise the error about what stands at ``where``, a path of keys and indices."""
        inner = where
        while inner and inner not in self.lines:
            inner = inner[:-1]
        name = ".".join(k if isinstance(k, str) else shown(k) for k in where) or "the file"
        line = self.lines.get(inner, 1)
        raise YamlFileError(f"{self.path}, line {line}: {name}: expected {expected}, found {found}")

    def mapping(
        self, value: Any, known: Mapping[str, type], where: tuple, required: tuple[str, ...] = ()
    ) -> dict[str, Any]:
        """A copy of ``value``, if it is a mapping with known keys of the right types only."""
        if not isinstance(value, dict):
            self.refuse(where, f"a mapping with {', '.join(known)}", shown(value))
        for key, item in value.items():
            if key not in known:
                self.refuse((*where, key), f"one of {', '.join(known)}", shown(key))
            kind = known[key]
            fits = isinstance(item, (int, float) if kind is float else kind)
            if not fits or isinstance(item, bool):
                self.refuse((*where, key), _NAMES[kind], shown(item))
        for key in required:
            if key not in value:
                self.refuse(where, f"the key {key!r}", f"only {', '.join(map(str, value))}")
        return dict(value)

    def items(self, values: list, kind: type, where: tuple) -> list:
        """``values``, if all of them are of one type."""
        for i, value in enumerate(values):
            if not isinstance(value, kind) or isinstance(value, bool):
                self.refuse((*where, i), _NAMES[kind], shown(value))
        return values


def _as_read(key: yaml.Node, loader: yaml.SafeLoader) -> Any:
    """What a key becomes in the data: ``no`` is False there. A merge (``<<``) becomes none."""
    if not isinstance(key, yaml.ScalarNode):
        return []
    if key.tag == "tag:yaml.org,2002:merge":
        return key.value
    return loader.construct_object(key)
