"""A resumed run goes on with the mixture that it was trained with, unless its user says otherwise.

A checkpoint holds the place in the data, and that is a place in the samples of one mixture: with
other domains, weights or stores the run would go on silently with other samples.
"""

import os
from collections.abc import Mapping, Sequence

from fairseq_ki.models._teacher_files import HUGGING_FACE
from fairseq_ki.tasks._mixture_file import Domain

_SHOWN = 3  # differences in a message

# a text, a number, or a path with its places; a path of an older checkpoint is text
Entry = str | float | dict[str, str | list[str]]


def mixture_record(mixture: Sequence[Domain]) -> dict[str, Entry]:
    """What of a mixture decides a run's results, for its checkpoints: by place in the file."""
    if not mixture:
        return {}
    record: dict[str, Entry] = {"domains": ", ".join(domain.name for domain in mixture)}
    for domain in mixture:
        record[f"{domain.name}.data"] = _path(domain.data)
        record[f"{domain.name}.weight"] = domain.weight
        for number, teacher in enumerate(domain.teachers):
            where = f"{domain.name}.teachers.{number}"
            paths = {
                "checkpoint": teacher.checkpoint,
                "store": teacher.store,
                "dict": teacher.dictionary,
            }
            record |= {f"{where}.{k}": _path(v) for k, v in paths.items() if v is not None}
            record[f"{where}.weight"] = teacher.weight
    return record


def check_resumed(recorded: Mapping[str, Entry], mixture: Sequence[Domain], save_dir: str) -> None:
    """Refuse to go on with another mixture.

    Args:
        recorded: `mixture_record` of the run that is resumed; empty if it had no mixture.
        mixture: of this run; empty if it has none.
        save_dir: of its checkpoints, for the message.

    Raises:
        ValueError: with what differs, expected and found.
    """
    found = mixture_record(mixture)
    differing = [
        name for name in {**recorded, **found} if not _same(recorded.get(name), found.get(name))
    ]
    if "domains" in differing:  # all else that differs comes of that
        differing = ["domains"]
    if not differing:
        return
    what = "; ".join(
        f"{name}: expected {_named(recorded.get(name))}, found {_named(found.get(name))}"
        for name in differing[:_SHOWN]
    )
    more = f"; and {len(differing) - _SHOWN} more" if len(differing) > _SHOWN else ""
    raise ValueError(
        f"--save-dir {save_dir}: expected the --ki-mixture that its checkpoints were trained with, "
        f"found another one ({what}{more}); put it back, name another --save-dir, or add "
        "--reset-dataloader, once, to go on with this one from the beginning of its data"
    )


def _path(path: str) -> dict[str, str | list[str]]:
    """A path as it is named, and its places: the name, where it is, and where links lead from it.

    When the run is resumed the working directory may be another one, what was moved may be found
    through a link at its old place, and all of it may be elsewhere under the old names.
    """
    prefix = HUGGING_FACE if path.startswith(HUGGING_FACE) else ""
    bare = path.removeprefix(prefix)
    places = {path, prefix + os.path.abspath(bare), prefix + os.path.realpath(bare)}
    return {"path": path, "places": sorted(places)}


def _same(one: Entry | None, other: Entry | None) -> bool:
    """Equal, or two paths of one place."""
    if isinstance(one, str) and isinstance(other, dict):
        one = _path(one)
    if isinstance(one, dict) and isinstance(other, dict):
        return not set(one["places"]).isdisjoint(other["places"])
    return one == other


def _named(entry: Entry | None) -> str:
    """For messages."""
    if isinstance(entry, dict):
        return str(entry["path"])
    return "none" if entry is None else str(entry)
