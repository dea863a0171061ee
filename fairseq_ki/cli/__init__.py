"""The console script ``fairseq-ki``."""
