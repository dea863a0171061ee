"""Text as the symbols of a converted model's dictionary, for fairseq-preprocess."""

import os
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

from fairseq_ki.compat import write_whole
from fairseq_ki.convert.hf_directory import read_config, read_tokenizer
from fairseq_ki.convert.shapes import MASKED, read_shape
from fairseq_ki.convert.vocabulary import read_vocabulary

_BATCH = 1000  # lines


def encode_file(folder: Path, text: Path, out: Path, documents: bool = False) -> tuple[int, int]:
    """Write the symbols of a text, separated by spaces; the numbers of lines and symbols.

    Args:
        folder: the directory of transformers.
        text: UTF-8. Each line becomes a line; or
        documents: each run of lines without a blank one between them becomes a line.
        out: the file to write, which must not be there.
    """
    if out.exists():
        raise FileExistsError(f"{out} exists; name a file that does not")
    if not text.is_file():
        raise ValueError(f"{text}: expected a text file, found none")
    config = read_config(folder)
    tokenizer = read_tokenizer(folder)
    tokens = tokenizer.get_vocab()
    vocabulary = read_vocabulary(
        tokens,
        tokenizer.special_tokens_map,
        # rows behind the last token are in no text, and config.json may say any number of them
        min(read_shape(config).symbols, max(tokens.values(), default=0) + 1),
        config["model_type"] in MASKED,
    )
    symbols = vocabulary.by_row()
    counts = [0, 0]

    def write(file) -> None:
        for batch in _batches(_documents(text) if documents else _lines(text)):
            for ids in tokenizer(batch, add_special_tokens=False, split_special_tokens=True)[
                "input_ids"
            ]:
                file.write((" ".join(symbols[i] for i in ids) + "\n").encode())
                counts[0] += 1
                counts[1] += len(ids)

    out.parent.mkdir(parents=True, exist_ok=True)
    write_whole(os.fspath(out), write)
    return counts[0], counts[1]


def _lines(path: Path) -> Iterator[str]:
    with open(path, encoding="utf-8", newline="\n") as file:
        try:
            for line in file:
                yield line.removesuffix("\n")
        except UnicodeDecodeError as e:
            raise ValueError(f"{path}: expected UTF-8, found something else: {e}") from None


def _documents(path: Path) -> Iterator[str]:
    document: list[str] = []
    for line in _lines(path):
        if line.strip():
            document.append(line)
        elif document:
            yield "\n".join(document)
            document = []
    if document:
        yield "\n".join(document)


def _batches(lines: Iterator[str]) -> Iterator[list[str]]:
    while batch := list(islice(lines, _BATCH)):
        yield batch
