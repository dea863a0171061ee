"""Floating-point operations of training, counted from sizes.

A matrix product of (m, k) by (k, n) counts 2mkn; what is linear in the activations (norms,
activation functions, soft-max, embeddings, the optimizer) is not counted. For a Transformer of
h layers, width d, feed-forward width f, vocabulary V, on N tokens in sequences of length L with
M rows that have a loss, one forward pass is

    N h (8 d^2 + 4 d f + 4 L d)  +  M (2 d V + 2 d^2 if the head has a dense layer)

with 8 d^2 for the four projections of attention, 4 d f for the feed-forward layer and 4 L d for
attention's two products, over all L positions also in a causal model, as fairseq computes them.
The backward pass costs twice the forward pass; a teacher has none.
"""

import re
from dataclasses import dataclass
from pathlib import Path

import torch

from fairseq_ki.compat import load_checkpoint

_LAYER = re.compile(r"\.layers\.(\d+)\.fc1\.weight$")


@dataclass(frozen=True)
class Sizes:
    """What the count needs of a model; ``dense_head`` is RoBERTa's layer before the output."""

    layers: int
    d_model: int
    d_ffn: int
    vocabulary: int
    dense_head: bool


@dataclass(frozen=True)
class Batch:
    """What one update sees: tokens and loss rows over all ranks and micro-batches."""

    tokens: float
    sequence_length: int
    loss_rows: float


def forward_flops(sizes: Sizes, batch: Batch) -> float:
    """FLOPs of one forward pass: a teacher's share of an update."""
    d = sizes.d_model
    layer = 8 * d**2 + 4 * d * sizes.d_ffn + 4 * batch.sequence_length * d
    head = 2 * d * sizes.vocabulary + (2 * d**2 if sizes.dense_head else 0)
    return batch.tokens * sizes.layers * layer + batch.loss_rows * head


def teacher_flops(sizes: Sizes, batch: Batch) -> float:
    """FLOPs of a live teacher's forward pass.

    That of a masked LM computes its last layer at the loss rows alone, but for the keys and
    values (``models/_row_features.py``).
    """
    if not sizes.dense_head:
        return forward_flops(sizes, batch)
    d = sizes.d_model
    spared = 4 * d**2 + 4 * d * sizes.d_ffn + 4 * batch.sequence_length * d
    return forward_flops(sizes, batch) - (batch.tokens - batch.loss_rows) * spared


def training_flops(sizes: Sizes, batch: Batch) -> float:
    """FLOPs of one update of a student: forward and backward."""
    return 3 * forward_flops(sizes, batch)


def read_checkpoint(path: str | Path) -> tuple[Sizes, dict]:
    """Sizes from the shapes of a fairseq checkpoint's weights, and its configuration of the task.

    Raises:
        ValueError: if it is not a fairseq RoBERTa or Transformer LM checkpoint.
    """
    state = load_checkpoint(path)
    try:
        sizes = sizes_of(state["model"])
    except ValueError as e:
        raise ValueError(f"{path}: {e}") from None
    cfg = state.get("cfg")
    task = cfg["task"] if cfg else vars(state["args"])
    return sizes, dict(task if isinstance(task, dict) else vars(task))


def sizes_of(weights: dict[str, torch.Tensor]) -> Sizes:
    """Sizes from the shapes of a state dict's tensors. Raises ValueError for other models."""
    embeddings = [w for name, w in weights.items() if name.endswith("embed_tokens.weight")]
    fc1 = {int(m[1]): w for name, w in weights.items() if (m := _LAYER.search(name))}
    if not embeddings or not fc1:
        raise ValueError(
            "expected the weights of a RoBERTa or Transformer LM (embed_tokens, layers.N.fc1), "
            f"found {sorted(weights)[:3]} ..."
        )
    vocabulary, width = embeddings[0].shape
    d_ffn, d_model = fc1[0].shape
    if width != d_model:
        raise ValueError(
            f"expected embeddings as wide as the layers, found {width} and {d_model}; "
            "projected embeddings are not counted"
        )
    dense_head = any(name.endswith("lm_head.dense.weight") for name in weights)
    return Sizes(len(fc1), d_model, d_ffn, vocabulary, dense_head)


def batch_of(task: dict, tokens: float) -> Batch:
    """The batch of a run from its task's configuration and its logged tokens per update.

    A masked LM's loss rows are the masked ones (``mask_prob``), a causal LM's are all tokens.
    """
    rows = tokens * task["mask_prob"] if task.get("mask_prob") is not None else tokens
    return Batch(tokens, int(task["tokens_per_sample"]), rows)
