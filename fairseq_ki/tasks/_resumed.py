"""What a task left in its checkpoint, checked before a run goes on with it."""

from typing import Any


def check_resumed_state(state: Any, path: str) -> None:
    """Refuse what no task of ours wrote.

    Args:
        state: what fairseq found under the task's name.
        path: of the checkpoint, for the message.

    Raises:
        ValueError: with the part, what it has to be and what was found.
    """
    if not isinstance(state, dict):
        raise _refusal(path, "the state of the task", "a dictionary", state)
    for name in ("mixture", "inheritance", "lineage"):
        if not isinstance(state.get(name, {}), dict):
            raise _refusal(path, name, "a dictionary", state[name])
    teachers = state.get("teachers", [])
    if not isinstance(teachers, list) or not all(map(_is_teacher, teachers)):
        raise _refusal(path, "teachers", "a list of records of teachers", teachers)
    inheritance = state.get("inheritance")
    if inheritance is None:
        return
    for name in ("let_go_at", "streak"):
        found = inheritance.get(name, "nothing")
        may_be_none = name == "let_go_at" and found is None
        if not may_be_none and not (isinstance(found, int) and found >= 0):
            raise _refusal(path, f"inheritance.{name}", "a number of updates", found)


def _is_teacher(record: Any) -> bool:
    return isinstance(record, dict) and all(
        isinstance(record.get(name, 0), kind)
        for name, kind in (("domain", str), ("path", str), ("sha256", str | None))
    )


def _refusal(path: str, part: str, expected: str, found: Any) -> ValueError:
    shown = found if found == "nothing" else f"a {type(found).__name__}"
    shown = repr(found) if type(found) is int and abs(found) < 10**15 else shown
    return ValueError(
        f"{path}: {part}: expected {expected}, found {shown}; it was altered after it was written: "
        "take another checkpoint, or give it to --finetune-from-model of a new run"
    )
