"""A pre-trained checkpoint with what it takes to fine-tune it: options, dictionary, pieces."""

import hashlib
import os
from argparse import ArgumentParser, Namespace
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fairseq.data import Dictionary
from fairseq.models import ARCH_CONFIG_REGISTRY, ARCH_MODEL_REGISTRY
from fairseq.models.roberta import RobertaModel
from sentencepiece import SentencePieceProcessor

from fairseq_ki.compat import load_checkpoint
from fairseq_ki.lineage.files import recorded_lineage, recorded_state

MASK = "<mask>"
_EMBEDDING = "sentence_encoder.embed_tokens.weight"
# set for fine-tuning, whatever pre-training had
_OURS = {"dropout", "attention_dropout", "max_positions", "load_checkpoint_heads"}


@dataclass(frozen=True)
class Pretrained:
    """A masked LM that can be fine-tuned.

    Attributes:
        model_words: its architecture as options of fairseq-train.
        positions: longest input in tokens, special tokens included.
        dictionary: without ``<mask>``, which tasks append.
        updates: how long it was trained.
        fine_tuned: on a task of labelled texts, with a head for it.
    """

    path: Path
    sha256: str
    arch: str
    model_words: tuple[str, ...]
    positions: int
    updates: int
    fine_tuned: bool
    dict_path: Path
    dictionary: Dictionary
    spm_path: Path
    spm: SentencePieceProcessor


def read_pretrained(path: Path, data_bin: Path | None, spm: Path | None) -> Pretrained:
    """Read and check a checkpoint, its dictionary and its SentencePiece model.

    Args:
        path: fairseq checkpoint of a RoBERTa.
        data_bin: folder with ``dict.txt`` and ``spm.model``; default: the one that it was
            trained on.
        spm: the SentencePiece model, where it is not in that folder.

    Raises:
        ValueError: for what cannot be fine-tuned, or does not belong together.
    """
    if not path.is_file():
        raise ValueError(f"{path}: expected a checkpoint, found no file at that path")
    state = load_checkpoint(path)
    options = _options(state, path)
    arch = _checked_arch(options, state["model"], path)
    recorded = _recorded_data(state)
    folder = data_bin or recorded
    if folder is None or not folder.is_dir():
        raise ValueError(
            f"{path}: expected the data that it was trained on, found no folder "
            f"{folder or '(none is recorded)'}; name a folder with its dict.txt and spm.model by "
            "--data-bin"
        )
    dict_path, spm_path = folder / "dict.txt", spm or folder / "spm.model"
    dictionary = _dictionary(dict_path)
    known = (path.parent / "dict.txt", *([recorded / "dict.txt"] if recorded else []))
    own = next((p for p in known if p.is_file()), None)
    if own is not None:
        _check_same(dictionary, dict_path, _dictionary(own), own, path)
    else:
        _check_recorded(state, dict_path, path)
    rows = next(v.size(0) for k, v in state["model"].items() if k.endswith(_EMBEDDING))
    if rows != len(dictionary) + 1:
        raise ValueError(
            f"{path}: expected {len(dictionary) + 1} embeddings, the symbols of {dict_path} and "
            f"{MASK}, found {rows}; name the data-bin that it was trained on by --data-bin"
        )
    model = _spm(spm_path, dictionary, dict_path)
    history = state.get("optimizer_history") or [{}]
    return Pretrained(
        path=path,
        sha256=_sha256(path),
        arch=arch,
        model_words=tuple(_model_words(options, arch)),
        positions=_positions(options, state["model"]),
        updates=int(history[-1].get("num_updates", 0)),
        fine_tuned=any(name.startswith("classification_heads.") for name in state["model"]),
        dict_path=dict_path,
        dictionary=dictionary,
        spm_path=spm_path,
        spm=model,
    )


def _options(state: dict, path: Path) -> Namespace:
    """The model's options as fairseq-train had them."""
    options = state.get("args") or (state.get("cfg") or {}).get("model")
    if isinstance(options, dict):  # of a model with a dataclass
        options = Namespace(**options)
    if not isinstance(options, Namespace):
        raise ValueError(
            f"{path}: expected its training options under 'cfg' or 'args', found neither; was it "
            "written by fairseq-train?"
        )
    return options


def _checked_arch(options: Namespace, weights: dict[str, Any], path: Path) -> str:
    arch = getattr(options, "arch", None) or getattr(options, "_name", None)
    if not any(name.endswith(_EMBEDDING) for name in weights):
        kind = "a causal language model" if "decoder.embed_tokens.weight" in weights else "another"
        raise ValueError(
            f"{path}: expected a masked language model (RoBERTa), found {kind} ({arch}); only "
            "masked ones are fine-tuned here"
        )
    model = ARCH_MODEL_REGISTRY.get(arch)
    if model is None or not issubclass(model, RobertaModel):
        raise ValueError(
            f"{path}: expected an architecture of RoBERTa that fairseq or fairseq_ki has, found "
            f"{arch!r}"
        )
    return str(arch)


def _model_words(options: Namespace, arch: str) -> list[str]:
    """``--arch``, and what differs from its defaults."""
    parser = ArgumentParser(add_help=False)
    ARCH_MODEL_REGISTRY[arch].add_args(parser)
    usual = Namespace()
    ARCH_CONFIG_REGISTRY[arch](usual)
    words = ["--arch", arch]
    for action in parser._actions:
        value = getattr(options, action.dest, None)
        default = getattr(usual, action.dest, action.default)
        if value is None or value == default or action.dest in _OURS:
            continue
        option = action.option_strings[-1]
        words += [option] if action.nargs == 0 else [option, str(value)]
    return words


def _positions(options: Namespace, weights: dict[str, Any]) -> int:
    recorded = getattr(options, "max_positions", None)
    if recorded:
        return int(recorded)
    # fairseq gives the padding symbol and those before it rows of their own
    table = next(v for k, v in weights.items() if k.endswith("embed_positions.weight"))
    return table.size(0) - 2


def _recorded_data(state: dict) -> Path | None:
    task = (state.get("cfg") or {}).get("task") or state.get("args")
    data = task.get("data") if isinstance(task, dict) else getattr(task, "data", None)
    return Path(str(data).split(os.pathsep)[0]) if data else None


def _dictionary(path: Path) -> Dictionary:
    if not path.is_file():
        raise ValueError(
            f"{path}: expected the dictionary of the checkpoint, found no file; name the data-bin "
            "that it was trained on by --data-bin"
        )
    try:
        return Dictionary.load(str(path))
    except Exception as e:  # fairseq raises that very class for a file that is not text
        raise ValueError(f"{path}: expected one symbol and its count a line, found: {e}") from e


def _check_same(ours: Dictionary, path: Path, other: Dictionary, beside: Path, ckpt: Path) -> None:
    if ours.symbols == other.symbols:
        return
    differing = [i for i, (a, b) in enumerate(zip(ours.symbols, other.symbols)) if a != b]
    example = ""
    if differing:
        i = differing[0]
        example = f", the first at id {i}: {other[i]!r} there, {ours[i]!r} here"
    raise ValueError(
        f"{ckpt}: expected a data-bin with the dictionary that it was trained with ({beside}, "
        f"{len(other)} symbols), found another ({path}, {len(ours)} symbols{example})"
    )


def _check_recorded(state: dict, path: Path, ckpt: Path) -> None:
    """By the hash in the checkpoint's lineage, where its own dictionary is not to be found."""
    recorded = recorded_state(state)
    lineage = recorded_lineage(recorded, str(ckpt)) if recorded else None
    wanted = lineage.own.dictionary if lineage else None
    if wanted is not None and wanted != _sha256(path):
        raise ValueError(
            f"{ckpt}: expected the dict.txt that it was trained with (SHA-256 {wanted}), found "
            f"another in {path.parent}; name its data-bin by --data-bin, or put its dict.txt "
            "beside the checkpoint"
        )


def _spm(path: Path, dictionary: Dictionary, dict_path: Path) -> SentencePieceProcessor:
    if not path.is_file():
        raise ValueError(
            f"{path}: expected the SentencePiece model that the data-bin was encoded with, found "
            "no file; name it by --spm"
        )
    try:
        model = SentencePieceProcessor(model_file=str(path))
    except (RuntimeError, OSError) as e:
        raise ValueError(
            f"{path}: expected a SentencePiece model, found another kind of file"
        ) from e
    missing = [
        model.id_to_piece(i)
        for i in range(model.get_piece_size())
        if not (model.is_control(i) or model.is_unknown(i) or model.is_unused(i))
        and model.id_to_piece(i) not in dictionary
    ]
    if missing:
        raise ValueError(
            f"{path}: expected every piece in {dict_path}, found {len(missing)} that are not, "
            f"such as {missing[:3]}; name the model of that dictionary by --spm"
        )
    return model


def _sha256(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
