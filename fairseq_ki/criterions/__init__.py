"""Importing this package registers the criterion ``ki`` with fairseq."""

from fairseq_ki.criterions import ki  # noqa: F401
