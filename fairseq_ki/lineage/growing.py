"""The lineage of a model that was grown from another one, without training."""

import os
from dataclasses import asdict

from fairseq_ki.evaluation.flops import Sizes
from fairseq_ki.lineage.files import (
    folder_name,
    now,
    of_checkpoint,
    teacher_sha256,
    versions,
    write_lineage,
)
from fairseq_ki.lineage.records import Model, Parent, merged, printable
from fairseq_ki.store import file_sha256


def write_grown(checkpoint: str, model: str, *, origin: str, arch: str, sizes: Sizes) -> None:
    """Write lineage.json beside a grown checkpoint.

    Args:
        checkpoint: of the grown model; dict.txt lies beside it.
        model: its id, which the checkpoint has too.
        origin: the checkpoint that it was grown from.

    Raises:
        ValueError, OSError: where the origin or its lineage.json cannot be read.
    """
    folder = os.path.dirname(os.path.abspath(checkpoint))
    family, updates = of_checkpoint(origin)
    own = Model(
        how="grown",
        name=folder_name(checkpoint),
        arch=arch,
        sizes=asdict(sizes),
        updates=0,
        tokens=0.0,
        flops=0.0,
        dictionary=file_sha256(os.path.join(folder, "dict.txt")),
        versions=versions(),
        written=now(),
        parents=(
            Parent(family.model, "origin", printable(origin), teacher_sha256(origin), updates),
        ),
    )
    write_lineage(merged(model, own, [family]), folder)
