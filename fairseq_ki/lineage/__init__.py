"""Who taught whom: ``lineage.json`` beside checkpoints, and the family tree of a checkpoint.

``records.py`` is the file's content and what is accepted as such, ``files.py`` reads and writes it
and knows what a checkpoint alone tells, ``recorder.py`` is what training calls, ``family.py`` the
tree and the sums.
"""

from fairseq_ki.lineage.family import Costs, costs, tree
from fairseq_ki.lineage.files import (
    LINEAGE,
    STATE,
    TREE,
    of_checkpoint,
    read_lineage,
    teacher_sha256,
    write_lineage,
)
from fairseq_ki.lineage.growing import grown_lineage
from fairseq_ki.lineage.recorder import Recorder, Source
from fairseq_ki.lineage.records import Lineage, LineageError, Model, Parent, merged, new_id

__all__ = [
    "LINEAGE",
    "STATE",
    "TREE",
    "Costs",
    "Lineage",
    "LineageError",
    "Model",
    "Parent",
    "Recorder",
    "Source",
    "costs",
    "grown_lineage",
    "merged",
    "new_id",
    "of_checkpoint",
    "read_lineage",
    "teacher_sha256",
    "tree",
    "write_lineage",
]
