"""A resumed run goes on with the mixture that it was trained with, unless its user says otherwise.

A checkpoint holds the place in the data, and that is a place in the samples of one mixture: with
other domains, weights or stores the run would go on silently with other samples.
"""

import os
from collections.abc import Mapping, Sequence

from fairseq_ki.tasks._mixture_file import Domain

_SHOWN = 3  # differences in a message


def mixture_record(mixture: Sequence[Domain]) -> dict[str, str | float]:
    """What of a mixture decides a run's results, for its checkpoints: by place in the file."""
    if not mixture:
        return {}
    record: dict[str, str | float] = {"domains": ", ".join(domain.name for domain in mixture)}
    for domain in mixture:
        record |= {f"{domain.name}.data": domain.data, f"{domain.name}.weight": domain.weight}
        for number, teacher in enumerate(domain.teachers):
            options = {
                "checkpoint": teacher.checkpoint,
                "store": teacher.store,
                "dict": teacher.dictionary,
                "weight": teacher.weight,
            }
            given = {key: value for key, value in options.items() if value is not None}
            record |= {f"{domain.name}.teachers.{number}.{k}": v for k, v in given.items()}
    return record


def check_resumed(
    recorded: Mapping[str, str | float], mixture: Sequence[Domain], save_dir: str
) -> None:
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
        f"{name}: expected {recorded.get(name, 'none')}, found {found.get(name, 'none')}"
        for name in differing[:_SHOWN]
    )
    more = f"; and {len(differing) - _SHOWN} more" if len(differing) > _SHOWN else ""
    raise ValueError(
        f"--save-dir {save_dir}: expected the --ki-mixture that its checkpoints were trained with, "
        f"found another one ({what}{more}); put it back, name another --save-dir, or add "
        "--reset-dataloader, once, to go on with this one from the beginning of its data"
    )


def _same(one: object, other: object) -> bool:
    """Equal, or two paths of one place."""
    if isinstance(one, str) and isinstance(other, str):
        return one == other or os.path.realpath(one) == os.path.realpath(other)
    return one == other
