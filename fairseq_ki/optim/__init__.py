"""Importing this package registers ``--optimizer ki_adam``."""

from fairseq_ki.optim import ki_adam  # noqa: F401
