"""``for`` in a recipe: one entry written once, for many values.

    runs:
      "ki_{h}": {for: [{h: 4, steps: 22000}, {h: 6, steps: 35000}], options: {ki-steps: "{steps}"}}
    compare:
      - {for: {h: [4, 6]}, inherited: "ki_{h}", alone: self}

``for`` is a list of values that belong together, or a mapping of names to lists, which gives every
combination. ``{h}`` in keys and text is filled in; text that is ``{h}`` alone becomes the value.
"""

import itertools
import re
from typing import Any

from fairseq_ki.experiments.recipe_file import RecipeFile

FOR = "for"


def repeated(source: RecipeFile, value: Any, where: tuple = ()) -> Any:
    """``value`` with every entry that has a ``for`` in the place of itself, once for each."""
    if isinstance(value, dict):
        result: dict = {}
        for key, item in value.items():
            here = (*where, key)
            for new_key, filled in _copies(source, key, item, here):
                if new_key in result:
                    expected = "other names, such as one with a {name} of its for"
                    source.refuse(here, expected, f"{new_key!r} again")
                source.renamed(here, (*where, new_key))
                result[new_key] = repeated(source, filled, (*where, new_key))
        return result
    if isinstance(value, list):
        return [
            repeated(source, filled, (*where, i))
            for i, item in enumerate(value)
            for _, filled in _copies(source, "", item, (*where, i))
        ]
    return value


def _copies(source: RecipeFile, key: Any, item: Any, where: tuple) -> list[tuple[Any, Any]]:
    if not isinstance(item, dict) or FOR not in item:
        return [(key, item)]
    rest = {k: v for k, v in item.items() if k != FOR}
    bindings = _bindings(source, item[FOR], (*where, FOR))
    return [(_filled(key, binding), _filled(rest, binding)) for binding in bindings]


def _bindings(source: RecipeFile, values: Any, where: tuple) -> list[dict[str, Any]]:
    if isinstance(values, list) and all(isinstance(v, dict) for v in values):
        return values
    if isinstance(values, dict) and all(isinstance(v, list) for v in values.values()):
        return [dict(zip(values, some)) for some in itertools.product(*values.values())]
    source.refuse(where, "a list of mappings, or a mapping of lists", repr(values))


def _filled(value: Any, binding: dict[str, Any]) -> Any:
    if isinstance(value, dict):
        return {_filled(k, binding): _filled(v, binding) for k, v in value.items()}
    if isinstance(value, list):
        return [_filled(v, binding) for v in value]
    if not isinstance(value, str):
        return value
    for name, bound in binding.items():
        if value == f"{{{name}}}":
            return bound
    return re.sub(r"\{([\w-]+)\}", lambda m: str(binding.get(m[1], m[0])), value)
