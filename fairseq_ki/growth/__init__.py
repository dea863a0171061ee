"""Students that begin with their teacher's weights, made wider and deeper.

    old, new = shape_of(teacher), shape_of(student)
    student.load_state_dict(grown(teacher.state_dict(), old, new, depth="identity", seed=1))

``widths.py`` and ``depths.py`` are the two steps, state dict in and state dict out;
``promises.py`` says when the grown model's logits equal the teacher's, and ``checkpoints.py`` does
all of it with files.
"""

from fairseq_ki.growth.checkpoints import (
    Origin,
    Student,
    check_free,
    grow,
    read_origin,
    write_student,
)
from fairseq_ki.growth.depths import DEPTHS, deepened
from fairseq_ki.growth.grown import grown
from fairseq_ki.growth.promises import Promise, promise
from fairseq_ki.growth.shapes import Shape, check_growth, shape_of
from fairseq_ki.growth.widths import widened

__all__ = [
    "DEPTHS",
    "Origin",
    "Promise",
    "Shape",
    "Student",
    "check_free",
    "check_growth",
    "deepened",
    "grow",
    "grown",
    "promise",
    "read_origin",
    "shape_of",
    "widened",
    "write_student",
]
