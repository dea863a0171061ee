"""Importing this package registers the tasks ``ki_mlm`` and ``ki_lm`` with fairseq."""

from fairseq_ki.tasks import ki_lm, ki_mlm  # noqa: F401
