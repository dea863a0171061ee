"""A model directory of transformers as a fairseq checkpoint."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from fairseq import options
from fairseq.data import Dictionary
from fairseq.dataclass.utils import convert_namespace_to_omegaconf
from omegaconf import OmegaConf
from torch import Tensor

from fairseq_ki.compat import write_together
from fairseq_ki.convert.hf_directory import read_config, read_tokenizer, read_weights
from fairseq_ki.convert.key_maps import (
    BIOGPT,
    BIOGPT_OUTPUT,
    FIRST_POSITION,
    GPT2,
    GPT2_OUTPUT,
    ROBERTA,
    ROBERTA_LM_HEAD,
    ROBERTA_OUTPUT,
    ROBERTA_TOKEN_TYPES,
    Entry,
    Form,
    Layout,
    classification_head,
    to_fairseq,
)
from fairseq_ki.convert.shapes import MASKED, Shape, read_shape
from fairseq_ki.convert.vocabulary import MASK, Vocabulary, read_vocabulary
from fairseq_ki.models.hf_shapes import LAYER_NORM_EPS

HEAD = "sentence_classification_head"  # fairseq's default name of a classification head
# buffers that older versions saved, and the pooler of RobertaModel, which no model here uses
_NO_WEIGHTS = re.compile(r"\.position_ids$|\.token_type_ids$|\.attn\.(masked_)?bias$|\.pooler\.")


@dataclass(frozen=True)
class HFModel:
    """A model of transformers in fairseq's terms.

    state: what ``checkpoint_utils.load_checkpoint_to_cpu`` gives for a fairseq checkpoint.
    dictionary: fairseq's, with ``<mask>`` last for masked LMs and classifiers.
    kind: ``masked``, ``causal`` or ``classifier``; the output layer of a classifier's masked LM
        is NaN, since there is none.
    vocabulary: fairseq's ids and the tokenizer's.
    notes: what a person should know of the conversion.
    """

    state: dict[str, Any]
    dictionary: Dictionary
    kind: str
    vocabulary: Vocabulary
    notes: tuple[str, ...]


def load_directory(path: str | Path, allow_bin: bool = False) -> HFModel:
    """Read the model of a directory; nothing is written, downloaded or run.

    Args:
        path: a directory with config.json, safetensors and a tokenizer.
        allow_bin: read pickled weights where there are no safetensors, as tensors alone.

    Raises:
        ValueError: for what cannot be read or cannot be expressed exactly in fairseq, with what
            was expected and found.
    """
    folder = Path(path)
    config = read_config(folder)
    shape = read_shape(config)
    tensors = read_weights(folder, allow_bin)
    tokenizer = read_tokenizer(folder)
    try:
        return _convert(config, shape, tensors, tokenizer)
    except ValueError as e:
        raise ValueError(f"{folder}: {e}") from e


def _convert(
    config: Mapping[str, Any], shape: Shape, tensors: dict[str, Tensor], tokenizer: Any
) -> HFModel:
    masked = config["model_type"] in MASKED
    if not masked and not any(name.startswith(("transformer.", "biogpt.")) for name in tensors):
        tensors = {f"transformer.{name}": tensor for name, tensor in tensors.items()}
    kind = "causal" if not masked else _masked_kind(tensors)
    if masked and tokenizer.pad_token_id != shape.first_position - 1:
        raise ValueError(
            f"expected pad_token_id {tokenizer.pad_token_id} (the tokenizer's) in config.json, "
            f"found {shape.first_position - 1}; positions would be counted from another row"
        )
    entries, outputs = _tables(config["model_type"], kind)
    # before a name is made for each: config.json may say any number
    _checked(entries[0].hf, (shape.symbols, shape.width), tensors)
    vocabulary = read_vocabulary(
        tokenizer.get_vocab(), tokenizer.special_tokens_map, shape.symbols, masked
    )
    layout = layout_of(shape, vocabulary.rows, tensors)
    if masked:
        types = ROBERTA_TOKEN_TYPES
        if shape.token_types == 1 and not _taken(types, layout, tensors).any():
            shape = replace(shape, token_types=0)  # as in all models that came from fairseq
        else:
            entries = (*entries, types)
    model, used = _take(entries, layout, tensors)
    used.add(ROBERTA_TOKEN_TYPES.hf)
    notes = []
    if outputs is None:
        _poison_lm_head(model, shape.width)
    else:
        used |= _take_output(model, entries[0], outputs, layout, tensors, shape.tied)
    module = "encoder.sentence_encoder" if masked else "decoder"
    model[f"{module}.version"] = torch.tensor([3.0])
    unused = sorted(n for n in tensors if n not in used and not _NO_WEIGHTS.search(n))
    if unused:
        notes.append(f"{len(unused)} tensors are not part of the model: {', '.join(unused[:5])}")
    if vocabulary.absent:
        notes.append(f"no probability for {' '.join(vocabulary.absent)}: no such tokens")
    state = _checkpoint(model, fairseq_options(config["model_type"], shape, vocabulary.absent))
    return HFModel(state, vocabulary.dictionary(), kind, vocabulary, tuple(notes))


def _masked_kind(tensors: Mapping[str, Tensor]) -> str:
    if "lm_head.dense.weight" in tensors:
        return "masked"
    if "classifier.out_proj.weight" in tensors:
        return "classifier"
    raise ValueError(
        "expected the weights of a masked LM (lm_head) or a sentence classifier (classifier), "
        f"found neither among {len(tensors)} tensors; save the model with its head"
    )


def _tables(model_type: str, kind: str) -> tuple[tuple[Entry, ...], Entry | None]:
    """The model's table, and the output layer where there is one."""
    if kind == "masked":
        return ROBERTA + ROBERTA_LM_HEAD, ROBERTA_OUTPUT
    if kind == "classifier":
        return ROBERTA + classification_head(HEAD), None
    return (GPT2, GPT2_OUTPUT) if model_type == "gpt2" else (BIOGPT, BIOGPT_OUTPUT)


def layout_of(shape: Shape, rows: tuple[int | None, ...], tensors: Mapping[str, Tensor]) -> Layout:
    """What the tables of ``key_maps`` leave open."""
    sizes = {
        "D": shape.width,
        "F": shape.feed_forward,
        "P": shape.positions + FIRST_POSITION,
        "T": shape.token_types,
    }
    classes = tensors.get("classifier.out_proj.weight")
    if classes is not None and classes.dim():
        sizes["C"] = classes.size(0)
    return Layout(rows, shape.first_position, shape.layers, sizes)


def _take(
    entries: tuple[Entry, ...], layout: Layout, tensors: Mapping[str, Tensor]
) -> tuple[dict[str, Tensor], set[str]]:
    """fairseq's tensors, and the names of those of transformers that were used."""
    model, used = {}, set()
    for entry in layout.of_layers(entries):
        model[entry.fairseq] = _taken(entry, layout, tensors)
        used.add(entry.hf)
    return model, used


def _taken(entry: Entry, layout: Layout, tensors: Mapping[str, Tensor]) -> Tensor:
    tensor = _checked(entry.hf, layout.hf_shape(entry), tensors)
    return to_fairseq(entry, tensor, layout)


def _checked(name: str, expected: tuple[int, ...], tensors: Mapping[str, Tensor]) -> Tensor:
    tensor = tensors.get(name)
    if tensor is None:
        raise ValueError(f"expected a tensor {name} of shape {expected}, found none")
    if tuple(tensor.shape) != expected or not tensor.is_floating_point():
        raise ValueError(
            f"expected {name} of shape {expected} (from config.json) in floating point, found "
            f"{tuple(tensor.shape)} in {tensor.dtype}"
        )
    return tensor


def _take_output(
    model: dict[str, Tensor],
    embedding: Entry,
    output: Entry,
    layout: Layout,
    tensors: Mapping[str, Tensor],
    tied: bool,
) -> set[str]:
    """The output layer, which may be the embedding; the names that were used."""
    if not tied and output.hf not in tensors:
        raise ValueError(f"expected {output.hf}, because tie_word_embeddings is false, found none")
    stored = tensors.get(output.hf)
    if tied and stored is not None and not torch.equal(stored, tensors[embedding.hf]):
        raise ValueError(
            f"expected {output.hf} to equal {embedding.hf}, because tie_word_embeddings is not "
            "false in config.json, found other numbers"
        )
    model[output.fairseq] = model[embedding.fairseq] if tied else _taken(output, layout, tensors)
    bias = "lm_head.decoder.bias"  # where it is stored, transformers computes with this one
    if bias in tensors and output is ROBERTA_OUTPUT:
        entry = Entry("encoder.lm_head.bias", bias, ("V",), Form.SYMBOL_BIAS)
        model[entry.fairseq] = _taken(entry, layout, tensors)
    return {output.hf, bias}


def _poison_lm_head(model: dict[str, Tensor], width: int) -> None:
    """A classifier has no masked LM, but fairseq's model has the place for one.

    NaN says that it must not be used; fine-tuning and classifying do not touch it.
    """
    embedding = model["encoder.sentence_encoder.embed_tokens.weight"]
    nan = embedding.new_full((width,), float("nan"))
    model["encoder.lm_head.weight"] = embedding
    model["encoder.lm_head.bias"] = embedding.new_full((len(embedding),), float("nan"))
    model["encoder.lm_head.dense.weight"] = nan.expand(width, width).contiguous()
    model["encoder.lm_head.dense.bias"] = nan
    model["encoder.lm_head.layer_norm.weight"] = nan.clone()
    model["encoder.lm_head.layer_norm.bias"] = nan.clone()


def fairseq_options(model_type: str, shape: Shape, absent: tuple[str, ...] = ()) -> list[str]:
    """The options of fairseq-train that build the model, after the data directory."""
    side = "encoder" if model_type in MASKED else "decoder"
    given = {
        f"--{side}-layers": shape.layers,
        f"--{side}-embed-dim": shape.width,
        f"--{side}-ffn-embed-dim": shape.feed_forward,
        f"--{side}-attention-heads": shape.heads,
        "--activation-fn": shape.activation,
        "--dropout": shape.dropout,
        "--attention-dropout": shape.attention_dropout,
        "--tokens-per-sample": shape.positions,
    }
    flags = []
    if model_type in MASKED:
        given |= {
            "--task": "masked_lm",
            "--criterion": "masked_lm",
            "--max-positions": shape.positions,
            "--pooler-dropout": shape.pooler_dropout,
            "--arch": "roberta",
        }
        if not shape.tied:
            flags.append("--untie-weights-roberta")
        if shape.eps != LAYER_NORM_EPS or shape.token_types:
            given |= {
                "--arch": "ki_roberta",
                "--ki-layer-norm-eps": shape.eps,
                "--ki-token-types": shape.token_types,
            }
    else:
        given |= {
            "--task": "language_modeling",
            "--criterion": "cross_entropy",
            "--max-target-positions": shape.positions,
            "--decoder-input-dim": shape.width,
            "--decoder-output-dim": shape.width,
            "--arch": "transformer_lm",
        }
        flags += ["--decoder-normalize-before", "--decoder-learned-pos"]
        if shape.tied:
            flags.append("--share-decoder-input-output-embed")
        if not shape.scaled:
            flags.append("--no-scale-embedding")
        if model_type == "gpt2":
            given |= {"--arch": "ki_gpt2", "--ki-layer-norm-eps": shape.eps}
            if absent:
                given["--ki-absent-symbols"] = " ".join(absent)
    return [*(f"{name}={value}" for name, value in given.items()), *flags]


def _checkpoint(model: dict[str, Tensor], arguments: list[str]) -> dict[str, Any]:
    parser = options.get_training_parser()
    args = options.parse_args_and_arch(parser, input_args=[".", *arguments])
    history = {
        "criterion_name": "",
        "optimizer_name": "",
        "lr_scheduler_state": {"best": None},
        "num_updates": 0,
    }
    return {
        "args": None,
        "cfg": convert_namespace_to_omegaconf(args),
        "model": model,
        "optimizer_history": [history],
        "task_state": {},
        "extra_state": {"train_iterator": {"epoch": 1, "iterations_in_epoch": 0}},
        "last_optimizer_state": None,
    }


def write_checkpoint(loaded: HFModel, out: Path) -> Path:
    """Write the checkpoint and dict.txt beside it; the latter's path.

    Raises FileExistsError where one of them is there already, before anything is written.
    """
    dictionary = out.parent / "dict.txt"
    for path in (out, dictionary):
        if path.exists():
            raise FileExistsError(f"{path} exists; give --out in a directory of its own")
    out.parent.mkdir(parents=True, exist_ok=True)
    cfg = loaded.state["cfg"].copy()
    cfg.task.data = str(out.parent.resolve())
    state = {**loaded.state, "cfg": OmegaConf.to_container(cfg, resolve=True, enum_to_str=True)}
    symbols = [s for s in loaded.dictionary.symbols[4:] if s != MASK or loaded.kind == "causal"]
    lines = "".join(f"{symbol} 1\n" for symbol in symbols)
    write_together(
        {
            str(dictionary): lambda file: file.write(lines.encode()),
            str(out): lambda file: torch.save(state, file),
        }
    )
    return dictionary
