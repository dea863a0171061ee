"""Importing this package registers the paper's architectures and the teacher wrapper."""

from fairseq_ki.models import hf_shapes, ki_teacher, paper_archs  # noqa: F401
