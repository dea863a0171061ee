"""Importing this package registers the paper's architectures and the teacher wrapper."""

from fairseq_ki.models import ki_teacher, paper_archs  # noqa: F401
