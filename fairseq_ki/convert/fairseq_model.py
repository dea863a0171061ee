"""A language model of fairseq from its checkpoint, and whether transformers can say the same."""

from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from fairseq import checkpoint_utils, models
from fairseq.data import Dictionary
from fairseq.models import BaseFairseqModel
from fairseq.models.roberta import RobertaModel
from fairseq.models.transformer_lm import TransformerLanguageModel
from omegaconf import DictConfig, open_dict
from torch import Tensor

from fairseq_ki.convert.key_maps import FIRST_POSITION
from fairseq_ki.convert.shapes import Shape, to_hf_activation
from fairseq_ki.convert.vocabulary import MASK
from fairseq_ki.models.hf_shapes import ABSENT_LOGIT, KIGPT2, LAYER_NORM_EPS

# option -> what it has to be, in the only shape that transformers' classes have
_ROBERTA = {
    "encoder_normalize_before": False,
    "layernorm_embedding": True,
    "encoder_learned_pos": True,
    "no_token_positional_embeddings": False,
    "no_scale_embedding": True,
    "activation_fn": "gelu",
    "quant_noise_pq": 0,
    "quant_noise_scalar": 0,
}
_LM = {
    "decoder_normalize_before": True,
    "no_decoder_final_norm": False,
    "decoder_learned_pos": True,
    "no_token_positional_embeddings": False,
    "layernorm_embedding": False,
    "character_embeddings": False,
    "adaptive_input": False,
    "adaptive_softmax_cutoff": None,
    "base_layers": 0,
    "scale_fc": False,
    "scale_attn": False,
    "scale_heads": False,
    "scale_resids": False,
    "quant_noise_pq": 0,
    "quant_noise_scalar": 0,
}


@dataclass(frozen=True)
class FairseqModel:
    """A checkpoint's model.

    model: built, with its weights in float32.
    weights: by fairseq's present names, in the type in which they were stored.
    dictionary: with ``<mask>`` for masked LMs.
    shape: ``symbols`` and ``first_position`` are fairseq's.
    heads: classes of each classification head.
    absent: symbols that the model cannot predict.
    ppl: of the validation that ended with this checkpoint, None where it was something else.
    adds_bos: whether the model was trained with ``--add-bos-token``.
    """

    model: BaseFairseqModel
    weights: dict[str, Tensor]
    dictionary: Dictionary
    shape: Shape
    heads: dict[str, int]
    absent: tuple[str, ...]
    ppl: float | None
    adds_bos: bool

    @property
    def causal(self) -> bool:
        return isinstance(self.model, TransformerLanguageModel)


def read_model(path: Path, dictionary: Path) -> FairseqModel:
    """Read a checkpoint of fairseq.

    Args:
        path: of the checkpoint.
        dictionary: its dict.txt.

    Raises:
        ValueError: for what is no language model of fairseq, or has a shape that no class of
            transformers has.
    """
    if not path.is_file():
        raise ValueError(f"{path}: expected a checkpoint of fairseq, found no file")
    try:
        state = checkpoint_utils.load_checkpoint_to_cpu(str(path))
    except (ValueError, OSError):
        raise
    except Exception as e:  # old and foreign files make fairseq fail in any way
        raise ValueError(
            f"{path}: expected a checkpoint of fairseq, found a file whose contents it does not "
            f"know ({type(e).__name__}: {e})"
        ) from e
    try:
        return _read(state, dictionary)
    except ValueError as e:
        raise ValueError(f"{path}: {e}") from e


def _read(state: Mapping[str, Any], dict_path: Path) -> FairseqModel:
    stored, cfg = state["model"], state.get("cfg")
    if cfg is None or cfg.get("model") is None:
        raise ValueError("expected its training options under 'cfg' or 'args', found neither")
    causal = any(name.startswith("decoder.layers.") for name in stored)
    dictionary = _read_dictionary(dict_path, causal)
    embedding = next((n for n in stored if n.endswith("embed_tokens.weight")), None)
    if embedding is None or len(stored[embedding]) != len(dictionary):
        found = "none" if embedding is None else len(stored[embedding])
        raise ValueError(
            f"expected {len(dictionary)} rows in its embedding ({dict_path}"
            f"{'' if causal else ' and <mask>'}), found {found}"
        )
    model = _build(cfg.model, stored, dictionary)
    dtype = stored[embedding].dtype
    weights = {
        name: tensor.detach().to(dtype) if tensor.is_floating_point() else tensor
        for name, tensor in model.state_dict().items()
    }
    shape = _lm_shape(model) if causal else _roberta_shape(model)
    heads = {
        name: head.out_proj.out_features
        for name, head in getattr(model, "classification_heads", {}).items()
    }
    task = cfg.get("task") or {}
    return FairseqModel(
        model=model,
        weights=weights,
        dictionary=dictionary,
        shape=shape,
        heads=heads,
        absent=_absent(model, weights, dictionary),
        ppl=_perplexity(state, cfg),
        adds_bos=bool(getattr(task, "add_bos_token", False)),
    )


def _read_dictionary(path: Path, causal: bool) -> Dictionary:
    if not path.is_file():
        raise ValueError(f"expected its dict.txt at {path}, found no file")
    try:
        dictionary = Dictionary.load(str(path))
    except Exception as e:  # fairseq raises that very class for a file that is not text
        raise ValueError(f"{path}: expected a dict.txt of fairseq, found: {e}") from e
    if not causal:
        dictionary.add_symbol(MASK)
    return dictionary


def _build(options, stored: Mapping[str, Tensor], dictionary: Dictionary) -> BaseFairseqModel:
    with open_dict(options) if isinstance(options, DictConfig) else nullcontext():
        options.load_checkpoint_heads = True
    task = SimpleNamespace(source_dictionary=dictionary, target_dictionary=dictionary)
    task.max_positions = lambda: None
    name = getattr(options, "_name", None) or getattr(options, "arch", None)
    try:
        with torch.random.fork_rng(devices=[]):
            model = models.build_model(options, task, from_checkpoint=True)
    except Exception as e:  # unknown architectures and options fail in any way
        raise ValueError(
            f"expected a masked or causal language model that fairseq can build, found {name!r}: "
            f"{type(e).__name__}: {e}"
        ) from e
    if not isinstance(model, (RobertaModel, TransformerLanguageModel)):
        raise ValueError(f"expected roberta or transformer_lm, found {name!r}")
    try:
        model.load_state_dict(dict(stored), strict=True, model_cfg=options)
    except RuntimeError as e:
        raise ValueError(f"expected the weights of {name!r}, found others: {e}") from None
    return model.eval()


def _absent(
    model: BaseFairseqModel, weights: Mapping[str, Tensor], dictionary: Dictionary
) -> tuple[str, ...]:
    if _is_gpt2(model):
        return tuple(model.decoder.args.ki_absent_symbols.split())
    bias = weights.get("encoder.lm_head.bias")
    if bias is not None and bias[dictionary.unk()] == ABSENT_LOGIT:
        return (dictionary.unk_word,)  # converted from a model without one, see vocabulary.py
    return ()


def _is_gpt2(model: BaseFairseqModel) -> bool:
    return isinstance(model, KIGPT2)


def _expect(options: Any, wanted: Mapping[str, Any]) -> None:
    for name, value in wanted.items():
        found = getattr(options, name, value)
        if found != value and (found or value):  # 0, None and False are the same here
            raise ValueError(
                f"no class of transformers is such a model: expected --{name.replace('_', '-')} "
                f"{value}, found {found}"
            )


def _roberta_shape(model: RobertaModel) -> Shape:
    options = model.args
    _expect(options, _ROBERTA)
    if model.classification_heads and options.pooler_activation_fn != "tanh":
        raise ValueError(
            "no class of transformers is such a model: expected --pooler-activation-fn tanh, "
            f"found {options.pooler_activation_fn}"
        )
    encoder = model.encoder.sentence_encoder
    return Shape(
        width=options.encoder_embed_dim,
        feed_forward=options.encoder_ffn_embed_dim,
        layers=len(encoder.layers),
        heads=options.encoder_attention_heads,
        symbols=encoder.embed_tokens.num_embeddings,
        positions=encoder.embed_positions.num_embeddings - FIRST_POSITION,
        first_position=FIRST_POSITION,
        activation="gelu",
        eps=encoder.layernorm_embedding.eps,
        tied=not options.untie_weights_roberta,
        token_types=getattr(options, "ki_token_types", 0),
        dropout=options.dropout,
        attention_dropout=options.attention_dropout,
        pooler_dropout=options.pooler_dropout,
    )


def _lm_shape(model: TransformerLanguageModel) -> Shape:
    decoder = model.decoder
    options = decoder.args
    _expect(options, _LM)
    for name in ("decoder_input_dim", "decoder_output_dim"):
        _expect(options, {name: options.decoder_embed_dim})
    to_hf_activation(options.activation_fn)  # refuses what transformers lacks
    if _is_gpt2(model):
        _expect(options, {"no_scale_embedding": True})
    return Shape(
        width=options.decoder_embed_dim,
        feed_forward=options.decoder_ffn_embed_dim,
        layers=len(decoder.layers),
        heads=options.decoder_attention_heads,
        symbols=decoder.embed_tokens.num_embeddings,
        positions=decoder.embed_positions.num_embeddings - FIRST_POSITION,
        first_position=FIRST_POSITION,
        activation=options.activation_fn,
        eps=options.ki_layer_norm_eps if _is_gpt2(model) else LAYER_NORM_EPS,
        tied=options.share_decoder_input_output_embed,
        scaled=not options.no_scale_embedding,
        dropout=options.dropout,
        attention_dropout=options.attention_dropout,
    )


def _perplexity(state: Mapping[str, Any], cfg: Any) -> float | None:
    """fairseq keeps the number by which it chooses checkpoints, by default the loss in bits."""
    metric = getattr(cfg.get("checkpoint"), "best_checkpoint_metric", None)
    loss = (state.get("extra_state") or {}).get("val_loss")
    if metric == "loss" and isinstance(loss, float) and 0 <= loss < 64:
        return 2**loss
    if metric == "ppl" and isinstance(loss, float) and loss >= 1:
        return loss
    return None
