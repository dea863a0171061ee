"""Who a run's teachers are, for its checkpoints and for what it says of them.

A run that is resumed when its teachers have had their say goes on without them. A teacher that was
not among them would be silent for good and without a word, so it has to be told from them: by what
it is, not by where it lies.
"""

import os
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from fairseq import utils

from fairseq_ki.lineage import teacher_sha256
from fairseq_ki.tasks._mixture_file import Domain
from fairseq_ki.tasks._options import KITaskConfig

RESETS = "--reset-optimizer --reset-lr-scheduler --reset-meters --reset-dataloader"


class NamedTeacher(NamedTuple):
    """One teacher of a run, as its user named it.

    Args:
        domain: that it teaches; empty without a mixture.
        path: of a checkpoint, or of the directory of a store.
        where: option, or file and line, for messages.
        leave_out: how to go on without it.
    """

    domain: str
    path: str
    where: str
    leave_out: str


def named_teachers(config: KITaskConfig, mixture: Sequence[Domain]) -> list[NamedTeacher]:
    """In the order in which they are named."""
    given = {
        "--ki-teacher": [] if config.ki_teacher is None else [config.ki_teacher],
        "--ki-store": [] if config.ki_store is None else utils.split_paths(config.ki_store),
    }
    alone = [
        NamedTeacher("", path, f"{option} {path}", f"drop {option}")
        for option, paths in given.items()
        for path in paths
    ]
    mixed = [
        NamedTeacher(
            domain.name,
            teacher.checkpoint or teacher.store or "",
            teacher.where,
            "take the teachers out of the file of --ki-mixture",
        )
        for domain in mixture
        for teacher in domain.teachers
    ]
    return alone + mixed


def teacher_record(teachers: Iterable[NamedTeacher]) -> list[dict[str, str | None]]:
    """For checkpoints: domain, place and content of each. Reads all of them."""
    return [
        {
            "domain": teacher.domain,
            "path": os.path.realpath(teacher.path),
            "sha256": _sha256(teacher.path),
        }
        for teacher in teachers
    ]


def is_among(
    teacher: Mapping[str, str | None], recorded: Iterable[Mapping[str, str | None]]
) -> bool:
    """Whether a teacher of a record is in another one.

    By content, so that it may have been moved; by place if there is no content to compare, since a
    teacher that has had its say may be deleted.
    """
    for other in recorded:
        known = teacher["sha256"] is not None and other["sha256"] is not None
        kind = "sha256" if known else "path"
        if teacher["domain"] == other["domain"] and teacher[kind] == other[kind]:
            return True
    return False


def refusal_to_start(teacher: NamedTeacher, update: int) -> str:
    """Why a run that starts with a checkpoint of another one may not name a teacher."""
    return (
        f"a teacher is named, but the inheritance rate is already 0 at update {update}, where this "
        "run starts, so it would teach nothing. To continue from a trained student with a teacher, "
        f"use --finetune-from-model CHECKPOINT, or add {RESETS} to --restore-file; to go on "
        f"without a teacher, {teacher.leave_out}"
    )


def refusal_to_resume(teacher: NamedTeacher, update: int, save_dir: str, let_go: bool) -> str:
    """Why a run may not go on with a teacher that it did not have.

    Args:
        let_go: whether the teachers were surpassed, rather than at the end of their updates.
    """
    longer = "" if let_go else f"raise --ki-steps above {update}, or "
    return (
        f"{teacher.where}: expected a teacher that the checkpoints in --save-dir {save_dir} were "
        f"trained with, found a new one, but the inheritance rate is already 0 at update {update}, "
        f"where this run goes on, so it would teach nothing. To hear it, {longer}start a run in "
        "another --save-dir with --finetune-from-model CHECKPOINT; to go on without a teacher, "
        f"{teacher.leave_out}"
    )


def _sha256(path: str) -> str | None:
    """None for what cannot be read: perhaps it is not needed any more."""
    try:
        return teacher_sha256(path)
    except (OSError, ValueError):
        return None
