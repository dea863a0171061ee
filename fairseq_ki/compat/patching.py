"""How a patch is described and put in place, once, on objects of the host.

A patch never edits a file: it replaces one attribute of a fairseq module or class, or adds a
filter. It does nothing where the host already does the right thing.
"""

import types
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

_MARK = "_fairseq_ki_wraps"


class CompatError(ValueError):
    """What was asked cannot be done here; the message says what was found and how to mend it.

    fairseq's commands print it as one line, without a traceback (see :mod:`.commands`).
    """


@dataclass(frozen=True)
class Patch:
    """One deviation from the host.

    ``install`` returns whether it changed anything: False where the host needs no change.
    """

    name: str
    reason: str
    install: Callable[[], bool]


def replace(owner: Any, attribute: str, wrap: Callable[[Any], Any]) -> bool:
    """Puts ``wrap(original)`` in the place of ``owner.attribute``; False if that was done before.

    Static methods of a class stay static. One attribute may be wrapped by several patches.
    """
    original = getattr(owner, attribute)
    done = getattr(original, _MARK, ())
    name = f"{wrap.__module__}.{wrap.__qualname__}"
    if name in done:
        return False
    new = wrap(original)
    setattr(new, _MARK, (*done, name))
    is_static = isinstance(owner, type) and isinstance(owner.__dict__.get(attribute), staticmethod)
    setattr(owner, attribute, staticmethod(new) if is_static else new)
    return True


class _ModuleView(types.ModuleType):
    """A module as one other module shall see it: some names differ, the rest is the original's."""

    def __init__(self, module: types.ModuleType, names: dict[str, Any]):
        super().__init__(module.__name__, module.__doc__)
        self.__dict__.update(names)
        self.__dict__["_module"] = module

    def __getattr__(self, name: str) -> Any:
        return getattr(self.__dict__["_module"], name)


def show_module_with(owner: types.ModuleType, attribute: str, **names: Any) -> bool:
    """Lets ``owner`` alone see the module it calls ``attribute`` with other ``names``.

    So ``torch.load`` or ``np.compat`` mean something else in one file of the host and nowhere
    else. False if that was done before.
    """
    module = getattr(owner, attribute)
    if isinstance(module, _ModuleView):
        return False
    setattr(owner, attribute, _ModuleView(module, names))
    return True
