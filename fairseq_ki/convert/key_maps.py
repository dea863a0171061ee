"""Which tensor of fairseq is which tensor of transformers: one table a model, read both ways.

Sizes in shapes: D width, F feed-forward width, V symbols, P rows of the position table, C classes,
T token types.
All shapes are those of fairseq's tensors.
"""

from enum import Enum
from typing import NamedTuple

import torch
from torch import Tensor

from fairseq_ki.models.hf_shapes import ABSENT_LOGIT

FIRST_POSITION = 2  # row of fairseq's position table that the first token gets: pad is 1


class Form(Enum):
    """How a tensor of transformers differs from fairseq's."""

    SAME = "the same tensor"
    SYMBOLS = "one row a symbol, in the order of the tokenizer"
    SYMBOL_BIAS = "one number a symbol, in the order of the tokenizer"
    POSITIONS = "the position table, whose first used row may be another one"
    TRANSPOSED = "inputs x outputs"


class Entry(NamedTuple):
    """One tensor of fairseq and its place in transformers; ``{n}`` is the layer."""

    fairseq: str
    hf: str
    shape: tuple[str, ...]
    form: Form = Form.SAME
    third: int | None = None  # which third of the tensor of transformers, along the outputs


def _linear(
    fairseq: str,
    hf: str,
    outputs: str,
    inputs: str,
    form: Form = Form.SAME,
    third: int | None = None,
) -> tuple[Entry, Entry]:
    return (
        Entry(f"{fairseq}.weight", f"{hf}.weight", (outputs, inputs), form, third),
        Entry(f"{fairseq}.bias", f"{hf}.bias", (outputs,), Form.SAME, third),
    )


def _norm(fairseq: str, hf: str) -> tuple[Entry, Entry]:
    return (
        Entry(f"{fairseq}.weight", f"{hf}.weight", ("D",)),
        Entry(f"{fairseq}.bias", f"{hf}.bias", ("D",)),
    )


_ENCODER = "encoder.sentence_encoder"
_LAYER = f"{_ENCODER}.layers.{{n}}"
_HF_LAYER = "roberta.encoder.layer.{n}"

ROBERTA = (
    Entry(
        f"{_ENCODER}.embed_tokens.weight",
        "roberta.embeddings.word_embeddings.weight",
        ("V", "D"),
        Form.SYMBOLS,
    ),
    Entry(
        f"{_ENCODER}.embed_positions.weight",
        "roberta.embeddings.position_embeddings.weight",
        ("P", "D"),
        Form.POSITIONS,
    ),
    *_norm(f"{_ENCODER}.layernorm_embedding", "roberta.embeddings.LayerNorm"),
    *_linear(f"{_LAYER}.self_attn.q_proj", f"{_HF_LAYER}.attention.self.query", "D", "D"),
    *_linear(f"{_LAYER}.self_attn.k_proj", f"{_HF_LAYER}.attention.self.key", "D", "D"),
    *_linear(f"{_LAYER}.self_attn.v_proj", f"{_HF_LAYER}.attention.self.value", "D", "D"),
    *_linear(f"{_LAYER}.self_attn.out_proj", f"{_HF_LAYER}.attention.output.dense", "D", "D"),
    *_norm(f"{_LAYER}.self_attn_layer_norm", f"{_HF_LAYER}.attention.output.LayerNorm"),
    *_linear(f"{_LAYER}.fc1", f"{_HF_LAYER}.intermediate.dense", "F", "D"),
    *_linear(f"{_LAYER}.fc2", f"{_HF_LAYER}.output.dense", "D", "F"),
    *_norm(f"{_LAYER}.final_layer_norm", f"{_HF_LAYER}.output.LayerNorm"),
)
ROBERTA_TOKEN_TYPES = Entry(
    f"{_ENCODER}.embed_positions.token_types",
    "roberta.embeddings.token_type_embeddings.weight",
    ("T", "D"),
)
ROBERTA_LM_HEAD = (
    *_linear("encoder.lm_head.dense", "lm_head.dense", "D", "D"),
    *_norm("encoder.lm_head.layer_norm", "lm_head.layer_norm"),
    Entry("encoder.lm_head.bias", "lm_head.bias", ("V",), Form.SYMBOL_BIAS),
)
ROBERTA_OUTPUT = Entry("encoder.lm_head.weight", "lm_head.decoder.weight", ("V", "D"), Form.SYMBOLS)


def classification_head(name: str) -> tuple[Entry, ...]:
    """fairseq keeps several heads, each with a name; transformers keeps one."""
    head = f"classification_heads.{name}"
    return (
        *_linear(f"{head}.dense", "classifier.dense", "D", "D"),
        *_linear(f"{head}.out_proj", "classifier.out_proj", "C", "D"),
    )


_LAYER = "decoder.layers.{n}"
_HF_LAYER = "transformer.h.{n}"

GPT2 = (
    Entry("decoder.embed_tokens.weight", "transformer.wte.weight", ("V", "D"), Form.SYMBOLS),
    Entry("decoder.embed_positions.weight", "transformer.wpe.weight", ("P", "D"), Form.POSITIONS),
    *_norm(f"{_LAYER}.self_attn_layer_norm", f"{_HF_LAYER}.ln_1"),
    *_linear(
        f"{_LAYER}.self_attn.q_proj", f"{_HF_LAYER}.attn.c_attn", "D", "D", Form.TRANSPOSED, 0
    ),
    *_linear(
        f"{_LAYER}.self_attn.k_proj", f"{_HF_LAYER}.attn.c_attn", "D", "D", Form.TRANSPOSED, 1
    ),
    *_linear(
        f"{_LAYER}.self_attn.v_proj", f"{_HF_LAYER}.attn.c_attn", "D", "D", Form.TRANSPOSED, 2
    ),
    *_linear(f"{_LAYER}.self_attn.out_proj", f"{_HF_LAYER}.attn.c_proj", "D", "D", Form.TRANSPOSED),
    *_norm(f"{_LAYER}.final_layer_norm", f"{_HF_LAYER}.ln_2"),
    *_linear(f"{_LAYER}.fc1", f"{_HF_LAYER}.mlp.c_fc", "F", "D", Form.TRANSPOSED),
    *_linear(f"{_LAYER}.fc2", f"{_HF_LAYER}.mlp.c_proj", "D", "F", Form.TRANSPOSED),
    *_norm("decoder.layer_norm", "transformer.ln_f"),
)
GPT2_OUTPUT = Entry("decoder.output_projection.weight", "lm_head.weight", ("V", "D"), Form.SYMBOLS)

_HF_LAYER = "biogpt.layers.{n}"

BIOGPT = (
    Entry("decoder.embed_tokens.weight", "biogpt.embed_tokens.weight", ("V", "D"), Form.SYMBOLS),
    Entry(
        "decoder.embed_positions.weight",
        "biogpt.embed_positions.weight",
        ("P", "D"),
        Form.POSITIONS,
    ),
    *_norm(f"{_LAYER}.self_attn_layer_norm", f"{_HF_LAYER}.self_attn_layer_norm"),
    *_linear(f"{_LAYER}.self_attn.q_proj", f"{_HF_LAYER}.self_attn.q_proj", "D", "D"),
    *_linear(f"{_LAYER}.self_attn.k_proj", f"{_HF_LAYER}.self_attn.k_proj", "D", "D"),
    *_linear(f"{_LAYER}.self_attn.v_proj", f"{_HF_LAYER}.self_attn.v_proj", "D", "D"),
    *_linear(f"{_LAYER}.self_attn.out_proj", f"{_HF_LAYER}.self_attn.out_proj", "D", "D"),
    *_norm(f"{_LAYER}.final_layer_norm", f"{_HF_LAYER}.final_layer_norm"),
    *_linear(f"{_LAYER}.fc1", f"{_HF_LAYER}.fc1", "F", "D"),
    *_linear(f"{_LAYER}.fc2", f"{_HF_LAYER}.fc2", "D", "F"),
    *_norm("decoder.layer_norm", "biogpt.layer_norm"),
)
BIOGPT_OUTPUT = Entry(
    "decoder.output_projection.weight", "output_projection.weight", ("V", "D"), Form.SYMBOLS
)


class Layout(NamedTuple):
    """What the tables leave open.

    rows: for each fairseq id the row in transformers, None for a symbol that has none there; the
        rows that are named cover those of transformers, each once.
    first_position: row of the position table of transformers that the first token gets.
    layers: number of layers.
    sizes: of D, F, P and, where there is one, of C and T.
    """

    rows: tuple[int | None, ...]
    first_position: int
    layers: int
    sizes: dict[str, int]

    @property
    def hf_symbols(self) -> int:
        return sum(row is not None for row in self.rows)

    def of_layers(self, entries: tuple[Entry, ...]) -> list[Entry]:
        """The entries with every layer's number filled in."""
        return [
            entry._replace(fairseq=entry.fairseq.format(n=n), hf=entry.hf.format(n=n))
            for entry in entries
            for n in (range(self.layers) if "{n}" in entry.fairseq else (0,))
        ]

    def fairseq_shape(self, entry: Entry) -> tuple[int, ...]:
        sizes = {**self.sizes, "V": len(self.rows)}
        return tuple(sizes[s] for s in entry.shape)

    def hf_shape(self, entry: Entry) -> tuple[int, ...]:
        moved = self.sizes["P"] - FIRST_POSITION + self.first_position
        sizes = {**self.sizes, "V": self.hf_symbols, "P": moved}
        outputs, *inputs = (sizes[s] for s in entry.shape)
        shape = (outputs * (1 if entry.third is None else 3), *inputs)
        return shape[::-1] if entry.form is Form.TRANSPOSED else shape


def to_fairseq(entry: Entry, tensor: Tensor, layout: Layout) -> Tensor:
    """fairseq's tensor, of shape ``layout.fairseq_shape(entry)``.

    Args:
        tensor: the one of transformers, of shape ``layout.hf_shape(entry)``.
    """
    if entry.form is Form.TRANSPOSED:
        tensor = tensor.t()
    if entry.third is not None:
        tensor = tensor.chunk(3)[entry.third]
    if entry.form is Form.POSITIONS and layout.first_position != FIRST_POSITION:
        unused = tensor.new_zeros(FIRST_POSITION, tensor.size(1))
        tensor = torch.cat([unused, tensor[layout.first_position :]])
    if entry.form in (Form.SYMBOLS, Form.SYMBOL_BIAS):
        absent = 0.0 if entry.form is Form.SYMBOLS else ABSENT_LOGIT
        moved = tensor.new_full((len(layout.rows), *tensor.shape[1:]), absent)
        present = [i for i, row in enumerate(layout.rows) if row is not None]
        moved[present] = tensor[[layout.rows[i] for i in present]]
        tensor = moved
    return tensor.contiguous()


def to_hf(entry: Entry, tensor: Tensor, layout: Layout) -> Tensor:
    """The tensor of transformers, or the third of it that ``entry`` is."""
    if entry.form is Form.POSITIONS and layout.first_position != FIRST_POSITION:
        unused = tensor.new_zeros(layout.first_position, tensor.size(1))
        tensor = torch.cat([unused, tensor[FIRST_POSITION:]])
    if entry.form in (Form.SYMBOLS, Form.SYMBOL_BIAS):
        moved = tensor.new_empty((layout.hf_symbols, *tensor.shape[1:]))
        present = [i for i, row in enumerate(layout.rows) if row is not None]
        moved[[layout.rows[i] for i in present]] = tensor[present]
        tensor = moved
    if entry.form is Form.TRANSPOSED:
        tensor = tensor.t()
    return tensor.contiguous()


def join_thirds(entry: Entry, thirds: list[Tensor]) -> Tensor:
    """The whole tensor of transformers from its three thirds."""
    return torch.cat(thirds, dim=-1 if entry.form is Form.TRANSPOSED else 0)
