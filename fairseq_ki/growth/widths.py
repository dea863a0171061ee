"""Wider models: the neurons of the teacher are copied and what reads them is divided among them.

Function-preserving initialisation (FPI) of bert2BERT (Chen et al. 2022, arXiv 2110.07143), after
Net2Net, with whole attention heads, and with the average units of ``axes.Stream`` where they keep a
layer norm exact.
"""

from collections.abc import Callable

import torch
from torch import Generator, Tensor

from fairseq_ki.growth.axes import attention, split, spread, stream
from fairseq_ki.growth.shapes import Shape

# of learned positions, before the first one: fairseq counts from the padding's id on, which is 1
PADDING_ROWS = 2


def widened(
    weights: dict[str, Tensor], old: Shape, new: Shape, generator: Generator
) -> dict[str, Tensor]:
    """The state dict of a model of shape ``new``, but with as many layers as ``old``.

    Args:
        weights: state dict of a model of shape ``old``.
        old, new: for which ``check_growth`` is content.
        generator: which units are copied once more where not all can be, and how weights are split.

    Returns:
        float64 tensors.

    Raises:
        ValueError: if the state dict has weights that are not known.
    """
    return _Widening(weights, old, new, generator).everything()


class _Widening:
    def __init__(
        self, weights: dict[str, Tensor], old: Shape, new: Shape, generator: Generator
    ) -> None:
        self.weights = {name: value.double() for name, value in weights.items()}
        self.old, self.new, self.generator = old, new, generator
        self.result: dict[str, Tensor] = {}
        self.stream = stream(old.width, new.width, old.linear_stream, generator)

    def everything(self) -> dict[str, Tensor]:
        old, trunk = self.old, self.old.trunk
        if trunk + "version" in self.weights:
            self.result[trunk + "version"] = self.weights[trunk + "version"]
        self._embeddings()
        for layer in range(old.layers):
            self._layer(f"{trunk}layers.{layer}.")
        if old.pre_norm:
            self._norm(trunk + "layer_norm")
        self._output()
        if unknown := sorted(self.result.keys() ^ self.weights.keys()):
            raise ValueError(
                "expected the weights of fairseq's RoBERTa or transformer_lm, found a difference "
                f"in {', '.join(unknown[:5])}"
            )
        return self.result

    def _embeddings(self) -> None:
        old, trunk = self.old, self.old.trunk
        ratio = old.embed_scale / self.new.embed_scale
        tokens = ratio * self.stream.write(self.weights[trunk + "embed_tokens.weight"].T).T
        self.result[trunk + "embed_tokens.weight"] = tokens
        if old.positions:
            rows = self.weights[trunk + "embed_positions.weight"]
            rows = self.stream.write(_more_positions(rows, old, self.new).T).T
            self.result[trunk + "embed_positions.weight"] = rows
        if old.norm_embedding:
            self._norm(trunk + "layernorm_embedding")

    def _layer(self, layer: str) -> None:
        old, new, stream = self.old, self.new, self.stream
        heads = attention(old.heads, old.head_width, new.heads, new.head_width, self.generator)
        hidden = spread(old.ffn, new.ffn, self.generator)
        attn = layer + "self_attn."
        self._put(attn + "q_proj", heads.queries(self._reading(attn + "q_proj", stream.read)))
        keys = self._reading(attn + "k_proj", stream.read)
        self._put(attn + "k_proj", heads.keys(keys, self.generator))
        self._put(attn + "v_proj", heads.values(self._reading(attn + "v_proj", stream.read)))
        self._put(attn + "out_proj", stream.write(self._reading(attn + "out_proj", heads.read)))
        self._norm(layer + "self_attn_layer_norm")
        self._put(layer + "fc1", self._reading(layer + "fc1", stream.read)[hidden])
        fc2 = self._reading(layer + "fc2", lambda weight, g: split(weight, hidden, g))
        self._put(layer + "fc2", stream.write(fc2))
        self._norm(layer + "final_layer_norm")

    def _output(self) -> None:
        old, stream = self.old, self.stream
        if old.causal:
            output = "decoder.output_projection.weight"
            last_layer = f"{old.trunk}layers.{old.layers - 1}."
            last_norm = (
                old.trunk + "layer_norm" if old.pre_norm else last_layer + "final_layer_norm"
            )
        else:
            output, last_norm = "encoder.lm_head.weight", "encoder.lm_head.layer_norm"
            dense = self._reading("encoder.lm_head.dense", stream.read)
            # through an activation no average passes: its units are copies, as RoBERTa's stream
            self._put("encoder.lm_head.dense", dense[stream.sources])
            self._norm(last_norm)
            self.result["encoder.lm_head.bias"] = self.weights["encoder.lm_head.bias"]
        if old.tied:
            share = stream.output_share() * self.new.embed_scale / old.embed_scale
            for part in (".weight", ".bias"):
                self.result[last_norm + part] = self.result[last_norm + part] * share
            self.result[output] = self.result[old.trunk + "embed_tokens.weight"]
        else:
            self.result[output] = stream.read(self.weights[output], self.generator)

    def _reading(self, name: str, read: Callable[[Tensor, Generator], Tensor]) -> Tensor:
        """(outputs, new inputs + 1): a linear layer after ``read`` on its weight, its bias last."""
        weight = read(self.weights[name + ".weight"], self.generator)
        return torch.cat([weight, self.weights[name + ".bias"][:, None]], dim=1)

    def _put(self, name: str, joined: Tensor) -> None:
        self.result[name + ".weight"] = joined[:, :-1].contiguous()
        self.result[name + ".bias"] = joined[:, -1].contiguous()

    def _norm(self, name: str) -> None:
        parts = (name + ".weight", name + ".bias")
        grown = self.stream.norm(*(self.weights[part] for part in parts))
        self.result |= zip(parts, grown)


def _more_positions(rows: Tensor, old: Shape, new: Shape) -> Tensor:
    """(positions, width): those beyond the teacher's begin as its own, from the first one on."""
    offset = PADDING_ROWS
    further = torch.arange(new.positions - old.positions) % (old.positions - offset)
    return torch.cat([rows, rows[offset + further]])
