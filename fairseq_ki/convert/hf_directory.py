"""A model directory of transformers, read without running anything that is in it.

Only files of the directory are read: nothing is looked up or downloaded, no Python file of it is
imported, and weights are safetensors unless the user allows pickles, which torch's restricted
unpickler then reads.
"""

import json
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from fairseq_ki.compat.checkpoint_archive import is_archive, what_is_wrong

CONFIG = "config.json"
WEIGHTS = "model.safetensors"
PICKLED_WEIGHTS = "pytorch_model.bin"
_MAX_JSON_BYTES = 64 * 2**20
_INDEX = ".index.json"


def read_config(folder: Path) -> dict[str, Any]:
    """config.json. ValueError where there is none, or it wants code of its own to be run."""
    if not folder.is_dir():
        raise ValueError(
            f"{folder}: expected a directory with {CONFIG}, found "
            f"{'a file' if folder.exists() else 'nothing'}; names of models on a hub are not "
            "looked up, so give the path of a copy on this disk"
        )
    config = read_json(folder / CONFIG)
    for name in (CONFIG, "tokenizer_config.json"):
        if (folder / name).is_file() and "auto_map" in read_json(folder / name):
            raise ValueError(
                f"{folder / name}: expected a model that transformers itself knows, found "
                "auto_map, which asks for Python code of the directory; it is never run"
            )
    return config


def read_json(path: Path) -> dict[str, Any]:
    """One JSON object."""
    if not path.is_file():
        raise ValueError(f"{path}: expected a JSON file of transformers, found none")
    if path.stat().st_size > _MAX_JSON_BYTES:
        raise ValueError(
            f"{path}: expected at most {_MAX_JSON_BYTES} bytes, found {path.stat().st_size}"
        )
    try:
        value = json.loads(path.read_bytes())
    except (ValueError, RecursionError) as e:
        raise ValueError(f"{path}: expected JSON, found something else: {e}") from None
    if not isinstance(value, dict):
        raise ValueError(f"{path}: expected a JSON object, found {type(value).__name__}")
    return value


def read_weights(folder: Path, allow_bin: bool = False) -> dict[str, Tensor]:
    """All tensors by name, on the CPU, as they are stored.

    Args:
        allow_bin: read pytorch_model.bin where there are no safetensors.

    Raises:
        ValueError: where there are no weights, or they are unreadable or pickles.
    """
    for name in (WEIGHTS, PICKLED_WEIGHTS):
        files = _parts(folder, name)
        if not files:
            continue
        if name == PICKLED_WEIGHTS and not allow_bin:
            raise ValueError(
                f"{folder}: expected {WEIGHTS}, found only {PICKLED_WEIGHTS}, which is a pickle: "
                "save the model with safe_serialization, or pass --allow-bin if you trust it "
                "(it is read by torch's restricted unpickler even then)"
            )
        tensors: dict[str, Tensor] = {}
        for file in files:
            tensors.update(_read_safetensors(file) if name == WEIGHTS else _read_pickle(file))
        return tensors
    raise ValueError(f"{folder}: expected {WEIGHTS} or {WEIGHTS}{_INDEX}, found neither")


def _parts(folder: Path, name: str) -> list[Path]:
    """The file ``name``, or the files that its index lists; none where there is neither."""
    if (folder / name).is_file():
        return [folder / name]
    index = folder / (name + _INDEX)
    if not index.is_file():
        return []
    listed = read_json(index).get("weight_map")
    if not isinstance(listed, dict) or not listed:
        raise ValueError(f"{index}: expected file names under 'weight_map', found none")
    for file in listed.values():
        if not _is_beside(folder, file):
            raise ValueError(f"{index}: expected names of files beside it, found {file!r}")
    return [folder / file for file in sorted(set(listed.values()))]


def _is_beside(folder: Path, name: Any) -> bool:
    """Whether a name that a file of the directory gives is a file's of the same directory."""
    return isinstance(name, str) and Path(name).name == name and (folder / name).is_file()


def _read_safetensors(path: Path) -> dict[str, Tensor]:
    try:
        with safe_open(path, framework="pt", device="cpu") as file:
            return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, RuntimeError, OSError) as e:
        raise ValueError(f"{path}: expected a file of safetensors, found a damaged one: {e}") from e


def _read_pickle(path: Path) -> dict[str, Tensor]:
    wrong = what_is_wrong(path, contents=True) if is_archive(path) else None
    if wrong is not None:
        raise ValueError(f"{path}: expected weights as torch.save writes them, found that {wrong}")
    try:
        tensors = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as e:  # a file can make the reader fail in any way
        asked = re.findall(r"GLOBAL ([\w.]+)", str(e))  # torch's text advises against the check
        raise ValueError(
            f"{path}: expected tensors alone, found something else, and nothing of it was run: "
            f"{', '.join(asked) or type(e).__name__}"
        ) from None
    if not isinstance(tensors, dict) or not all(
        isinstance(k, str) and isinstance(v, Tensor) for k, v in tensors.items()
    ):
        raise ValueError(f"{path}: expected tensors by name, found something else")
    return tensors


def read_tokenizer(folder: Path) -> Any:
    """The directory's tokenizer, as transformers builds it.

    Raises:
        ValueError: where there is none, or it would read files outside the directory.
    """
    if not any((folder / name).is_file() for name in _TOKENIZER_FILES):
        raise ValueError(
            f"{folder}: expected the files of a tokenizer (one of {', '.join(_TOKENIZER_FILES)}), "
            "found none; save it beside the model with tokenizer.save_pretrained"
        )
    named = _named_files(folder)
    with offline():
        from transformers import AutoTokenizer

        try:
            return AutoTokenizer.from_pretrained(
                str(folder), local_files_only=True, trust_remote_code=False, use_fast=True, **named
            )
        except Exception as e:  # whatever a file of the directory makes it do
            first = (str(e).splitlines() or [""])[0]
            raise ValueError(
                f"{folder}: expected a tokenizer that transformers can load, found one where it "
                f"raises {type(e).__name__}: {first}"
            ) from e


def _named_files(folder: Path) -> dict[str, str]:
    """The files that tokenizer_config.json names for its tokenizer to read, by their whole paths.

    transformers opens what is named there before what is in the directory, wherever that leads; a
    bare name would lead to the directory that the command was given in.
    """
    path = folder / "tokenizer_config.json"
    if not path.is_file():
        return {}
    config = read_json(path)
    files = {
        key: value
        for key, value in config.items()
        if key.endswith(("_file", "_spm")) and key not in _UNREAD and value is not None
    }
    versions = config.get("fast_tokenizer_files") or []
    versions = versions if isinstance(versions, list) else [versions]
    named = [*files.items(), *(("fast_tokenizer_files", name) for name in versions)]
    if config.get("init_inputs"):  # whatever its class takes first, which may be a file
        named.append(("init_inputs", config["init_inputs"]))
    for key, value in named:
        if not _is_beside(folder, value):
            raise ValueError(
                f"{path}: {key}: expected names of files beside it, found {value!r}; a tokenizer "
                "is read from its own directory alone: take the entry out, or copy the file there"
            )
    return {key: str(folder / name) for key, name in files.items()}


# where a tokenizer was once saved from; left in many directories, and opened by nobody
_UNREAD = ("special_tokens_map_file",)
_TOKENIZER_FILES = (
    "tokenizer.json",
    "vocab.json",
    "vocab.txt",
    "sentencepiece.bpe.model",
    "spiece.model",
    "tokenizer.model",
)


@contextmanager
def offline() -> Iterator[None]:
    """transformers imported and used so that it asks nothing of any network."""
    before = os.environ.get("HF_HUB_OFFLINE")
    os.environ["HF_HUB_OFFLINE"] = "1"
    try:
        yield
    finally:
        if before is None:
            del os.environ["HF_HUB_OFFLINE"]
        else:
            os.environ["HF_HUB_OFFLINE"] = before
