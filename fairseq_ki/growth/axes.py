"""How one axis of a weight grows, so that what is computed stays the same.

Shapes: n old units, N new ones; a weight is (outputs, inputs), its bias a further column of inputs.

A unit is *copied* where a weight writes it. Where copies are read, the old weight is *split* among
them: the parts sum to it. The parts are random, other ones for every output: with equal parts, or
with one part per copy, the copies of a unit would get proportional gradients, which Adam makes
equal, and so stay copies for ever.
"""

import math
from dataclasses import dataclass

import torch
from torch import Generator, Tensor


def spread(old: int, new: int, generator: Generator) -> Tensor:
    """(N,) source of each new unit: whole rounds of all old units, then a random choice of them."""
    rest = torch.randperm(old, generator=generator)[: new % old]
    return torch.cat([torch.arange(old).repeat(new // old), rest])


def split(weight: Tensor, sources: Tensor, generator: Generator) -> Tensor:
    """(outputs, n) to (outputs, N): the columns that copies read, which sum to the old column."""
    parts = torch.rand(weight.size(0), len(sources), generator=generator, dtype=weight.dtype) + 0.5
    totals = torch.zeros_like(weight).index_add_(1, sources, parts)
    return weight[:, sources] * (parts / totals[:, sources])


@dataclass(frozen=True)
class Stream:
    """The residual stream: what every layer reads through a norm, and adds to.

    Where ``averages`` is above 0, that many last units hold the mean of all old units, every old
    unit has as many copies as the others, and the whole stream is ``scale`` times the old one,
    sqrt(N / (N - averages)). Its variance is then the old one's, and its norm the old one's but for
    that factor. The norm makes 0 of the averages, so whatever reads them may begin anywhere (LEMON,
    Wang et al. 2024, arXiv 2310.07999, calls it average expansion).

    Args:
        sources: (N - averages,) the unit that each new one is a copy of.
        old: n.
    """

    sources: Tensor
    old: int
    averages: int = 0

    @property
    def new(self) -> int:
        return len(self.sources) + self.averages

    @property
    def scale(self) -> float:
        return math.sqrt(self.new / len(self.sources))

    def write(self, weight: Tensor) -> Tensor:
        """(n, inputs) to (N, inputs): for what adds to the stream."""
        return self.scale * self._with_means(weight)

    def read(self, weight: Tensor, generator: Generator) -> Tensor:
        """(outputs, n) to (outputs, N): for what reads the norm of the stream."""
        anything = torch.randint(self.old, (self.averages,), generator=generator)
        return torch.cat([split(weight, self.sources, generator), weight[:, anything]], dim=1)

    def norm(self, weight: Tensor, bias: Tensor) -> tuple[Tensor, Tensor]:
        """Weight and bias (n,) to (N,) of a layer norm of the stream."""
        grown_bias = torch.cat([bias[self.sources], bias.new_zeros(self.averages)])
        return self._with_means(weight[:, None])[:, 0] / self.scale, grown_bias

    def output_share(self) -> Tensor:
        """(N,) by which a norm is multiplied whose output meets the grown embedding again."""
        counts = torch.bincount(self.sources, minlength=self.old)[self.sources]
        copies = torch.cat([counts, counts.new_ones(self.averages)])
        return 1.0 / (self.scale * copies)

    def _with_means(self, weight: Tensor) -> Tensor:
        means = weight.mean(dim=0, keepdim=True).expand(self.averages, -1)
        return torch.cat([weight[self.sources], means])


def stream(old: int, new: int, linear: bool, generator: Generator) -> Stream:
    """The stream of width ``new``.

    Args:
        linear: whether only linear layers write to it (pre-norm, no norm on the embeddings), so
            that averages are possible where ``new`` is no multiple of ``old``.
    """
    if linear:
        return Stream(torch.arange(old).repeat(new // old), old, averages=new % old)
    return Stream(spread(old, new, generator), old)


@dataclass(frozen=True)
class Attention:
    """The units of all heads, head by head: whole heads are copied, and units within heads.

    Args:
        whole: (new heads * old head width,) sources of the copied heads, in old units.
        within: (N,) sources of all new units, in units of the copied heads.
        gain: on queries, since attention divides their products by the root of the head's width.
    """

    whole: Tensor
    within: Tensor
    gain: float

    def queries(self, weight: Tensor) -> Tensor:
        """(n, inputs) to (N, inputs)."""
        return self.gain * weight[self.whole][self.within]

    def keys(self, weight: Tensor, generator: Generator) -> Tensor:
        """(n, inputs) to (N, inputs): split within each head, as queries read them there."""
        return split(weight[self.whole].T, self.within, generator).T

    def values(self, weight: Tensor) -> Tensor:
        """(n, inputs) to (N, inputs)."""
        return weight[self.whole][self.within]

    def read(self, weight: Tensor, generator: Generator) -> Tensor:
        """(outputs, n) to (outputs, N)."""
        return split(weight, self.whole[self.within], generator)


def attention(
    old_heads: int, old_width: int, new_heads: int, new_width: int, generator: Generator
) -> Attention:
    """From ``old_heads`` heads of ``old_width`` units to ``new_heads`` of ``new_width``."""
    heads = spread(old_heads, new_heads, generator)
    units = spread(old_width, new_width, generator)
    return Attention(
        whole=(heads[:, None] * old_width + torch.arange(old_width)).flatten(),
        within=(torch.arange(new_heads)[:, None] * old_width + units).flatten(),
        gain=math.sqrt(new_width / old_width),
    )
