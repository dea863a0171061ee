"""Importing this package registers its criterions with fairseq."""

from fairseq_ki.criterions import ki, ki_sentence_prediction  # noqa: F401
