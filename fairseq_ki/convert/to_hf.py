"""A fairseq checkpoint as a model directory of transformers."""

import json
import os
import shutil
import tempfile
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor

from fairseq_ki.convert.fairseq_model import FairseqModel, read_model
from fairseq_ki.convert.hf_directory import WEIGHTS, offline, read_tokenizer
from fairseq_ki.convert.key_maps import (
    FIRST_POSITION,
    ROBERTA_TOKEN_TYPES,
    Layout,
    join_thirds,
    to_hf,
)
from fairseq_ki.convert.model_card import model_card
from fairseq_ki.convert.spm_tokenizer import fast_tokenizer
from fairseq_ki.convert.targets import (
    Target,
    choose_target,
    config_of,
    generation_config_of,
    read_labels,
)
from fairseq_ki.convert.vocabulary import MASK, SPECIAL, rows_of


def convert(
    checkpoint: Path,
    dictionary: Path,
    out: Path,
    spm: Path | None = None,
    tokenizer: Path | None = None,
    head: str | None = None,
    labels: Path | None = None,
    drop_missing_pieces: bool = False,
) -> str:
    """Write the directory; the name of the class that loads it.

    Args:
        checkpoint, dictionary: fairseq's, and its dict.txt.
        out: the directory, which must not be there.
        spm: SentencePiece model of the training data; or
        tokenizer: a directory of transformers whose tokenizer it is.
        head: name of the classification head to convert, ``none`` for the masked LM; by default
            the only one.
        labels: the label/dict.txt of the head's training.
        drop_missing_pieces: see :func:`spm_tokenizer.fast_tokenizer`.

    Raises:
        ValueError: for what cannot be read or expressed exactly, and where the disk is full.
        FileExistsError: where ``out`` is there.
    """
    if out.exists():
        raise FileExistsError(f"{out} exists; name a directory that does not")
    source = read_model(checkpoint, dictionary)
    target = choose_target(source, head)
    built, rows = _tokenizer(source, spm, tokenizer, drop_missing_pieces)
    layout = _layout(source, target, rows)
    config = config_of(source, target, layout, read_labels(labels, target))
    with _new_directory(out) as folder, offline():
        save_file(_tensors(source, target, layout), folder / WEIGHTS, metadata={"format": "pt"})
        config.save_pretrained(folder)
        built.save_pretrained(folder)
        _name_tokenizer_class(folder)
        if source.causal:
            generation_config_of(config, rows).save_pretrained(folder)
        facts = {
            "Layers, width": f"{source.shape.layers}, {source.shape.width}",
            "Vocabulary": f"{layout.hf_symbols:,} tokens",
            "Longest text": f"{source.shape.positions:,} tokens",
            "Converted from": f"`{checkpoint.name}`",
        }
        card = model_card(checkpoint, target.architecture, source.ppl, facts)
        (folder / "README.md").write_text(card, encoding="utf-8")
    return target.architecture


def _tokenizer(
    source: FairseqModel, spm: Path | None, folder: Path | None, drop_missing_pieces: bool
) -> tuple[Any, tuple[int | None, ...]]:
    """The tokenizer, and its id of each symbol of fairseq's dictionary."""
    if spm is not None and folder is None:
        if source.absent:
            raise ValueError(
                f"expected --tokenizer DIR, since {' '.join(source.absent)} cannot be predicted: "
                "the model was made from one of transformers"
            )
        fast = fast_tokenizer(spm, source.dictionary, _start(source), drop_missing_pieces)
        return _wrapped(fast, source), tuple(range(len(source.dictionary)))
    if folder is not None and spm is None:
        built = read_tokenizer(folder)
        built.model_max_length = source.shape.positions
        symbols = source.dictionary.symbols
        return built, rows_of(built, symbols, source.absent, masked=not source.causal)
    raise ValueError("expected either --spm MODEL or --tokenizer DIR, found both or neither")


def _layout(source: FairseqModel, target: Target, rows: tuple[int | None, ...]) -> Layout:
    shape = source.shape
    if target.model_type == "roberta":
        pad = rows[SPECIAL.index("<pad>")]
        assert pad is not None  # rows_of gives masked LMs all special symbols
        first = pad + 1
    else:
        first = 0 if target.model_type == "gpt2" else FIRST_POSITION
    sizes = {"D": shape.width, "F": shape.feed_forward, "P": shape.positions + FIRST_POSITION}
    sizes["T"] = shape.token_types
    if target.classes is not None:
        sizes["C"] = target.classes
    return Layout(rows, first, shape.layers, sizes)


def _tensors(source: FairseqModel, target: Target, layout: Layout) -> dict[str, Tensor]:
    thirds: dict[str, list[Tensor]] = defaultdict(list)
    tensors = {}
    used = set()
    for entry in layout.of_layers(target.entries):
        weight = source.weights[entry.fairseq]
        used.add(entry.fairseq)
        expected = layout.fairseq_shape(entry)
        if tuple(weight.shape) != expected:
            raise ValueError(
                f"expected {entry.fairseq} of shape {expected}, found {tuple(weight.shape)}"
            )
        tensor = to_hf(entry, weight, layout)
        if entry.third is None:
            tensors[entry.hf] = tensor
        else:
            thirds[entry.hf].append(tensor)  # the tables have them in their order
            if len(thirds[entry.hf]) == 3:
                tensors[entry.hf] = join_thirds(entry, thirds.pop(entry.hf))
    if target.output is not None:
        used.add(target.output.fairseq)
        if not source.shape.tied:
            weight = source.weights[target.output.fairseq]
            tensors[target.output.hf] = to_hf(target.output, weight, layout)
    if target.model_type == "roberta":
        width = layout.sizes["D"]
        zeros = torch.zeros(1, width, dtype=next(iter(tensors.values())).dtype)
        tensors.setdefault(ROBERTA_TOKEN_TYPES.hf, zeros)
        if "lm_head.bias" in tensors and not source.shape.tied:
            tensors["lm_head.decoder.bias"] = tensors["lm_head.bias"].clone()
    _check_leftovers(source, used)
    return tensors


def _check_leftovers(source: FairseqModel, used: set[str]) -> None:
    """Whatever else is in the model would be lost: heads not asked for may be, no other part."""
    dropped = ("encoder.lm_head.", "classification_heads.")
    left = [
        name
        for name in source.weights
        if name not in used and not name.startswith(dropped) and not name.endswith(".version")
    ]
    if left:
        raise ValueError(
            f"no class of transformers is such a model: expected no other parts, found {left[0]} "
            f"and {len(left) - 1} more"
        )


def _wrapped(fast: Any, source: FairseqModel) -> Any:
    """The tokenizer with the names of its special tokens, as transformers saves it."""
    from transformers import PreTrainedTokenizerFast

    names = {"unk_token": "<unk>", "pad_token": "<pad>", "eos_token": "</s>"}
    if source.causal:
        names["bos_token"] = "<s>" if source.adds_bos else "</s>"
    else:
        names |= {"bos_token": "<s>", "cls_token": "<s>", "sep_token": "</s>", "mask_token": MASK}
    return PreTrainedTokenizerFast(
        tokenizer_object=fast,
        model_max_length=source.shape.positions,
        model_input_names=["input_ids", "attention_mask"],
        clean_up_tokenization_spaces=False,
        **names,
    )


def _start(source: FairseqModel) -> tuple[str, ...]:
    """The tokens in front of a text, as the model was shown them in training."""
    if not source.causal:
        return ("<s>",)
    return ("<s>", "</s>") if source.adds_bos else ("</s>",)


def _name_tokenizer_class(folder: Path) -> None:
    """Let versions 4 and 5 of transformers load it: 5 has another name for the same class."""
    path = folder / "tokenizer_config.json"
    content = json.loads(path.read_bytes())
    if content.get("tokenizer_class") == "TokenizersBackend":
        content["tokenizer_class"] = "PreTrainedTokenizerFast"
        path.write_text(json.dumps(content, indent=2, ensure_ascii=False), encoding="utf-8")


@contextmanager
def _new_directory(out: Path) -> Iterator[Path]:
    """A directory that becomes ``out`` when all is written, and is gone if anything fails."""
    out.parent.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix=f".{out.name}.", dir=out.parent))
    try:
        yield folder
        folder.chmod(0o755)
        os.rename(folder, out)
    except (OSError, SafetensorError) as error:  # the latter is what safetensors makes of it
        shutil.rmtree(folder, ignore_errors=True)
        free = shutil.disk_usage(out.parent).free
        raise ValueError(
            f"{out} could not be written: {error} ({free / 2**30:.2f} GiB free in "
            f"{out.parent.resolve()}); nothing is left of it: make room, or mend that, then give "
            "the same command again"
        ) from error
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise
