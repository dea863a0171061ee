"""Which class of transformers a model of fairseq becomes, and its config.json."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fairseq.data import Dictionary

from fairseq_ki.convert.fairseq_model import FairseqModel
from fairseq_ki.convert.key_maps import (
    BIOGPT,
    BIOGPT_OUTPUT,
    GPT2,
    GPT2_OUTPUT,
    ROBERTA,
    ROBERTA_LM_HEAD,
    ROBERTA_OUTPUT,
    ROBERTA_TOKEN_TYPES,
    Entry,
    Layout,
    classification_head,
)
from fairseq_ki.convert.shapes import to_hf_activation
from fairseq_ki.convert.vocabulary import SPECIAL
from fairseq_ki.models.hf_shapes import KIGPT2


@dataclass(frozen=True)
class Target:
    """The class of transformers that a model becomes.

    output: the output layer, None for a classifier.
    classes: of a classifier's head, else None.
    """

    model_type: str
    architecture: str
    entries: tuple[Entry, ...]
    output: Entry | None
    classes: int | None = None


def choose_target(source: FairseqModel, asked: str | None) -> Target:
    """The class for a model.

    Args:
        asked: name of a classification head, ``none`` for the masked LM, None for the only head.

    Raises:
        ValueError: for a head that is not there, several without a choice, and a masked LM that
            was made from a classifier.
    """
    head = _chosen_head(source, asked)
    if isinstance(source.model, KIGPT2):
        return Target("gpt2", "GPT2LMHeadModel", GPT2, GPT2_OUTPUT)
    if source.causal:
        return Target("biogpt", "BioGptForCausalLM", BIOGPT, BIOGPT_OUTPUT)
    encoder = ROBERTA + ((ROBERTA_TOKEN_TYPES,) if source.shape.token_types else ())
    if head is None:
        entries = encoder + ROBERTA_LM_HEAD
        if source.weights["encoder.lm_head.dense.weight"].isnan().any():
            raise ValueError(
                "expected a masked LM, found NaN in its output layer: it was made from a "
                "classifier, so name its --head"
            )
        return Target("roberta", "RobertaForMaskedLM", entries, ROBERTA_OUTPUT)
    entries = encoder + classification_head(head)
    name = "RobertaForSequenceClassification"
    return Target("roberta", name, entries, None, source.heads[head])


def _chosen_head(source: FairseqModel, asked: str | None) -> str | None:
    names = sorted(source.heads)
    if asked == "none" or (asked is None and not names):
        return None
    if asked in names:
        return asked
    if asked is None and len(names) == 1:
        return names[0]
    raise ValueError(
        f"expected --head to be one of {', '.join(names) or 'no heads'} or none, found "
        f"{asked or 'several'}"
    )


def config_of(
    source: FairseqModel, target: Target, layout: Layout, labels: list[str] | None
) -> Any:
    """transformers' configuration of the model.

    Args:
        labels: names of the classes, for a classification head.
    """
    import transformers

    shape, rows = source.shape, layout.rows
    bos, pad, eos = (rows[SPECIAL.index(s)] for s in ("<s>", "<pad>", "</s>"))
    common: dict[str, Any] = {
        "vocab_size": layout.hf_symbols,
        "tie_word_embeddings": shape.tied,
        "architectures": [target.architecture],
        "dtype": str(next(iter(source.weights.values())).dtype).removeprefix("torch."),
        "pad_token_id": pad,
        "eos_token_id": eos,
        "bos_token_id": bos if not source.causal or source.adds_bos else eos,
    }
    if target.model_type == "gpt2":
        return transformers.GPT2Config(
            **common,
            n_positions=shape.positions,
            n_embd=shape.width,
            n_layer=shape.layers,
            n_head=shape.heads,
            n_inner=shape.feed_forward,
            activation_function=to_hf_activation(shape.activation),
            layer_norm_epsilon=shape.eps,
            resid_pdrop=shape.dropout,
            embd_pdrop=shape.dropout,
            attn_pdrop=shape.attention_dropout,
        )
    common |= {
        "hidden_size": shape.width,
        "num_hidden_layers": shape.layers,
        "num_attention_heads": shape.heads,
        "intermediate_size": shape.feed_forward,
        "hidden_act": to_hf_activation(shape.activation),
        "hidden_dropout_prob": shape.dropout,
        "attention_probs_dropout_prob": shape.attention_dropout,
        "layer_norm_eps": shape.eps,
    }
    if target.model_type == "biogpt":
        return transformers.BioGptConfig(
            **common, max_position_embeddings=shape.positions, scale_embedding=shape.scaled
        )
    if target.classes is not None:
        names = labels or [f"LABEL_{i}" for i in range(target.classes)]
        common |= {
            "classifier_dropout": shape.pooler_dropout,
            "id2label": dict(enumerate(names)),
            "label2id": {name: i for i, name in enumerate(names)},
        }
        if len(names) == 1:
            common["problem_type"] = "regression"
    return transformers.RobertaConfig(
        **common,
        max_position_embeddings=shape.positions + layout.first_position,
        type_vocab_size=shape.token_types or 1,
    )


def read_labels(path: Path | None, target: Target) -> list[str] | None:
    """The names of the classes in the label/dict.txt of the training. ValueError for others."""
    if path is None:
        return None
    classes = target.classes
    if classes is None:
        raise ValueError("--labels: expected a classification head to be converted, found none")
    if not path.is_file():
        raise ValueError(f"--labels: expected the label/dict.txt of the training at {path}")
    dictionary = Dictionary.load(str(path))
    names = dictionary.symbols[dictionary.nspecial :][:classes]
    if len(names) < classes:
        raise ValueError(f"{path}: expected {classes} labels, found {len(names)}")
    return names


def generation_config_of(config: Any, rows: tuple[int | None, ...]) -> Any:
    """transformers' settings of generation: never <s> or <pad>, no longer than the positions."""
    from transformers import GenerationConfig

    never = [rows[SPECIAL.index(s)] for s in ("<s>", "<pad>")]
    never = [row for row in never if row is not None]
    return GenerationConfig(
        bos_token_id=config.bos_token_id,
        eos_token_id=config.eos_token_id,
        pad_token_id=config.eos_token_id if config.pad_token_id is None else config.pad_token_id,
        max_length=config.max_position_embeddings,
        suppress_tokens=never or None,
    )
