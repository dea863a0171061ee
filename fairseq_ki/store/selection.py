"""From a teacher's log-probabilities to the entries a store keeps.

Shapes: N rows, V vocabulary, K kept entries, D draws. All of it is a function of each row alone:
no result depends on which rows share a call.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable

import numpy as np

from .errors import StoreError
from .rows import ZERO

# A vocabulary is cut into blocks of this many ids, so that one cheap pass (a maximum, a sum) over
# the blocks leaves only V / 32 numbers for the dear ones (partition, cumulative sum).
_BLOCK = 32
_CHUNK = 1 << 20  # floats of one working buffer: 4 MiB stays near the core
_SCALE = 2.0**40  # what a row's probabilities sum to, as integers
_ROW_SHIFT = 41


def select_topk(logprobs: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """The k most probable ids of each row and their log-probabilities, most probable first.

    logprobs: (N, V) float32. Returns ids (N, k) int32 and float32 values (N, k). Exact; equal
    values are ordered by id, so the first id is the row's argmax.
    """
    n, vocabulary = _shape(logprobs)
    if not 1 <= k <= vocabulary:
        raise StoreError(f"k must be between 1 and the vocabulary's {vocabulary}, found {k}")
    ids = np.empty((n, k), np.int32)
    values = np.empty((n, k), np.float32)
    for rows in _chunks(n, vocabulary):
        ids[rows], values[rows] = _topk_chunk(np.asarray(logprobs[rows], np.float32), k)
    return ids, values


def _topk_chunk(logprobs: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    n, vocabulary = logprobs.shape
    # At least k entries reach the k-th largest of the block maxima, and few others do.
    largest = _blocks(logprobs, fill=-np.inf).max(axis=1)
    if np.isnan(largest).any():
        raise StoreError("the teacher's log-probabilities must be numbers: found NaN")
    pool = largest if 2 * k <= largest.shape[1] else logprobs
    threshold = np.partition(pool, pool.shape[1] - k, axis=1)[:, pool.shape[1] - k]
    flat = np.flatnonzero(logprobs >= threshold[:, None])
    row, candidate = np.divmod(flat, vocabulary)
    value = logprobs.ravel()[flat]
    order = np.lexsort((-value, row))  # stable, and `flat` ascends: ties stay in order of id
    first = np.searchsorted(row, np.arange(n))
    best = order[first[:, None] + np.arange(k)]
    return candidate[best].astype(np.int32), value[best]


def select_topp(logprobs: np.ndarray, p: float, k: int) -> tuple[np.ndarray, np.ndarray]:
    """The fewest most probable ids that together reach probability p, at most k of them.

    As `select_topk`, at temperature 1, with K = the widest row; the columns a row does not need
    hold id 0 and ZERO.
    """
    ids, values = select_topk(logprobs, k)
    probability = np.exp(values, dtype=np.float64)
    before = np.cumsum(probability, axis=1) - probability
    keep = (before < p) & (values > ZERO)
    keep[:, 0] = True
    ids[~keep] = 0
    values[~keep] = ZERO
    width = keep.sum(axis=1).max(initial=1)
    return ids[:, :width], values[:, :width]


def log_tail(logprobs: np.ndarray, ids: np.ndarray, kept: np.ndarray) -> np.ndarray:
    """Log of the probability outside `ids` (N, K) where `kept` (N, K) is true: (N,) float32.

    The rest is summed by itself: 1 minus the kept part would lose every small tail to rounding.
    """
    n, vocabulary = _shape(logprobs)
    tail = np.empty(n, np.float32)
    for rows in _chunks(n, vocabulary):
        rest = np.exp(logprobs[rows], dtype=np.float32)
        row, column = np.nonzero(kept[rows])
        rest[row, ids[rows][row, column]] = 0.0
        with np.errstate(divide="ignore"):
            tail[rows] = np.log(rest.sum(axis=1))
    return np.minimum(tail, 0.0)


def uniforms(words: list[int], n: int, draws: int) -> np.ndarray:
    """(n, draws) float64 numbers in [0, 1), a function of the 32-bit `words` and the position.

    Taken from PCG64's raw bits, which numpy keeps stable between versions.
    """
    # an array: SeedSequence takes five times as long over a list
    seed = np.random.SeedSequence(np.array(words, np.uint32))
    bits = np.random.PCG64(seed).random_raw(n * draws)
    return ((bits >> np.uint64(11)) * 2.0**-53).reshape(n, draws)


def draw(logprobs: np.ndarray, uniform: np.ndarray, tau: float = 1.0) -> np.ndarray:
    """Draw ids with replacement from softmax(logprobs / tau), by inversion in order of id.

    logprobs: (N, V) float32; uniform: (N, D) in [0, 1). Returns (N, D) int32 ids, ascending.

    Exactness: an id's probability is its float32 exp(logprob / tau) over the row's sum; the sums
    are off by at most 32 float32 roundings (2e-6 relative). An id of probability 0 is never
    drawn. The result is a function of (row, uniforms); another processor's exp may differ in its
    last bit and move a draw that falls within 1e-7 of a boundary to the neighbouring id.
    """
    n, vocabulary = _shape(logprobs)
    if uniform.shape[0] != n:
        raise StoreError(f"expected uniforms for {n} rows, found {uniform.shape[0]}")
    ids = np.empty(uniform.shape, np.int32)
    scale = np.float32(1.0 / tau)
    for rows in _chunks(n, vocabulary):
        ids[rows] = _draw_chunk(np.asarray(logprobs[rows], np.float32), uniform[rows], scale)
    return ids


def _draw_chunk(logprobs: np.ndarray, uniform: np.ndarray, scale: np.float32) -> np.ndarray:
    n = len(logprobs)
    if scale != 1.0:
        # Keeps the largest weight at 1, where a small tau would underflow every one of them.
        logprobs = (logprobs - logprobs.max(axis=1, keepdims=True)) * scale
    missing = -logprobs.shape[1] % _BLOCK
    weights = np.pad(np.exp(logprobs), ((0, 0), (0, missing))).reshape(n, -1, _BLOCK)
    mass = weights.sum(axis=2)
    totals = mass.sum(axis=1, dtype=np.float64)
    if not (np.isfinite(totals) & (totals > 0)).all():
        raise StoreError("the teacher's log-probabilities must be numbers: found NaN or no mass")
    if scale == 1.0 and np.abs(totals - 1.0).max(initial=0.0) > 1e-2:
        raise StoreError(
            f"expected log-probabilities that sum to 1, found a sum of {totals.max():.4g}; "
            "apply log_softmax over the vocabulary first"
        )
    flat = weights.reshape(-1, _BLOCK)
    return draw_by_block(mass, uniform, lambda block: flat[block].T.copy())


def draw_by_block(
    mass: np.ndarray, uniform: np.ndarray, weights_of: Callable[[np.ndarray], np.ndarray]
) -> np.ndarray:
    """Draw the block of consecutive ids first, then the id in it: few ids are looked at.

    mass: (N, M) weights of the blocks of each row, finite; uniform: (N, D); weights_of: for G
    blocks, row * M + block, the (W, G) float32 weights of the W ids in each, in an array that may
    be changed, to any scale. Returns (N, D) int32 ids, ascending. A block that has less than 2^-40
    of its row's weight is never drawn.
    """
    n, count = mass.shape
    share = mass.astype(np.float64)
    share = (share * (_SCALE / share.sum(axis=1, keepdims=True))).astype(np.int64)
    # integers, so that the edges of all rows, one after another, make one list to search in
    edges = share.cumsum(axis=1)
    totals = edges[:, -1:]
    points = np.sort(uniform, axis=1) * totals
    # A product rounded up to the total would fall behind the last id.
    whole = np.minimum(points.astype(np.int64), totals - 1)
    offset = np.arange(n)[:, None] << _ROW_SHIFT
    block = (edges + offset).ravel().searchsorted((whole + offset).ravel(), side="right")
    width = share.ravel()[block]
    within = (points.ravel() - (edges.ravel()[block] - width)) / width

    reached = weights_of(block)
    for before, member in itertools.pairwise(reached):  # numpy's cumsum takes ten times as long
        member += before
    last = reached[-1]
    point = np.minimum((within * last).astype(np.float32), np.nextafter(last, np.float32(0)))
    member = (reached <= point).view(np.uint8).sum(axis=0, dtype=np.uint8)
    first = (block.reshape(n, -1) - np.arange(n)[:, None] * count) * len(reached)
    return (first + member.reshape(n, -1)).astype(np.int32)


def tally(drawn: np.ndarray, vocabulary: int) -> tuple[np.ndarray, np.ndarray]:
    """Drawn ids (N, D), ascending -> distinct ids (N, K) and counts (N, K), both int32, ascending.

    K is the largest number of distinct ids; unused columns hold id 0 and count 0.
    """
    n, draws = drawn.shape
    keys = (drawn + np.arange(n, dtype=np.int64)[:, None] * vocabulary).ravel()
    starts = np.flatnonzero(np.diff(keys, prepend=-1))
    row, distinct_ids = np.divmod(keys[starts], vocabulary)
    width = np.bincount(row, minlength=n)
    used = np.arange(width.max(initial=0)) < width[:, None]
    ids = np.zeros(used.shape, np.int32)
    counts = np.zeros(used.shape, np.int32)
    ids[used] = distinct_ids
    counts[used] = np.diff(starts, append=n * draws)
    return ids, counts


def _shape(logprobs: np.ndarray) -> tuple[int, int]:
    if logprobs.ndim != 2:
        raise StoreError(f"expected log-probabilities of shape (N, V), found {logprobs.shape}")
    return logprobs.shape[0], logprobs.shape[1]


def _chunks(n: int, vocabulary: int) -> list[slice]:
    step = max(1, _CHUNK // vocabulary)
    return [slice(start, start + step) for start in range(0, n, step)]


def _blocks(values: np.ndarray, fill: float) -> np.ndarray:
    """(n, V) -> (n, _BLOCK, ceil(V / _BLOCK)), filled at the end: id = b * M + m."""
    n, vocabulary = values.shape
    columns = -(-vocabulary // _BLOCK)
    if vocabulary < columns * _BLOCK:
        padded = np.full((n, columns * _BLOCK), fill, np.float32)
        padded[:, :vocabulary] = values
        values = padded
    return values.reshape(n, _BLOCK, columns)
