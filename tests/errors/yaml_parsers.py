"""What reads YAML from a user, by name: each takes the path of the file."""

import tempfile
from pathlib import Path

from fairseq_ki.experiments import recipe
from fairseq_ki.tasks._mixture_file import read_mixture


def mixture(path: Path) -> object:
    with tempfile.NamedTemporaryFile("w", suffix="dict.txt") as dictionary:
        dictionary.write("a 1\n")
        dictionary.flush()
        return read_mixture(str(path), dictionary.name)


PARSERS = {"recipe": recipe.load, "mixture": mixture}
