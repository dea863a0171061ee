"""Hugging Face directories to fairseq checkpoints and back. Needs the extra ``hf``."""
