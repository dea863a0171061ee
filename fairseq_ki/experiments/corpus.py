"""What a data-bin holds, so that results name the text they were measured on."""

import hashlib
import json
import os
from pathlib import Path
from typing import Any

_SUFFIXES = (".bin", ".idx")


def fingerprint(data: str) -> dict[str, Any]:
    """Path, SHA-256 over names and contents of dict.txt, *.bin and *.idx, and corpus.json's facts.

    ``data`` is fairseq's: one folder, or several shards with a colon between them.

    Raises:
        ValueError: where a folder holds no binarised data.
    """
    total = hashlib.sha256()
    for folder in map(Path, data.split(os.pathsep)):
        files = sorted(p for p in folder.glob("*") if p.suffix in _SUFFIXES)
        dictionary = folder / "dict.txt"
        if not files or not dictionary.is_file():
            raise ValueError(
                f"{folder}: expected a data-bin of fairseq-preprocess (dict.txt, train.bin, "
                f"train.idx ...), found {sorted(p.name for p in folder.glob('*'))[:5]}"
            )
        for file in (dictionary, *files):
            total.update(f"{file.name} {file.stat().st_size}\n".encode())
            with open(file, "rb") as content:
                total.update(hashlib.file_digest(content, "sha256").digest())
    found = {"path": data, "sha256": total.hexdigest()}
    description = _description(Path(data.split(os.pathsep)[0]))
    return {**found, "description": description} if description else found


def _description(folder: Path) -> dict[str, str]:
    """Counts and hashes from the corpus.json that preprocessing puts into a data-bin."""
    file = folder / "corpus.json"
    if not file.is_file():
        return {}
    record = json.loads(file.read_text(encoding="utf-8"))
    facts = {"made by": str(record.get("made_by", ""))}
    for name, split in record.get("splits", {}).items():
        facts[name] = ", ".join(f"{key} {value}" for key, value in split.items())
    return facts
