"""The lineage of a model that was grown from another one, without training."""

from dataclasses import asdict

from fairseq_ki.evaluation.flops import Sizes
from fairseq_ki.lineage.files import (
    folder_name,
    now,
    of_checkpoint,
    teacher_sha256,
    versions,
)
from fairseq_ki.lineage.records import Lineage, Model, Parent, merged, printable


def grown_lineage(
    model: str, checkpoint: str, *, origin: str, arch: str, sizes: Sizes, dictionary: str
) -> Lineage:
    """What a grown model comes from.

    Args:
        model: its id.
        checkpoint: where it is going to be.
        origin: the checkpoint that it was grown from.
        dictionary: SHA-256 of its dict.txt.

    Raises:
        ValueError, OSError: where the origin or its lineage.json cannot be read.
    """
    family, updates = of_checkpoint(origin)
    own = Model(
        how="grown",
        name=folder_name(checkpoint),
        arch=arch,
        sizes=asdict(sizes),
        updates=0,
        tokens=0.0,
        flops=0.0,
        dictionary=dictionary,
        versions=versions(),
        written=now(),
        parents=(
            Parent(family.model, "origin", printable(origin), teacher_sha256(origin), updates),
        ),
    )
    return merged(model, own, [family])
