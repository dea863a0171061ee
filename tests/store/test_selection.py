"""Top-K, top-p and draws against naive references; draws against the distribution."""

import hashlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from fairseq_ki.store import Sampled, StoreError, draw, select_topk, select_topp, tally
from fairseq_ki.store import selection as selection_module
from fairseq_ki.store.rows import ZERO
from fairseq_ki.store.selection import log_tail, uniforms


def log_softmax(logits):
    logits = np.asarray(logits, np.float64)
    logits = logits - logits.max(axis=1, keepdims=True)
    return (logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))).astype(np.float32)


def random_logprobs(n, vocabulary, sharpness=3.0, seed=0):
    return log_softmax(sharpness * np.random.default_rng(seed).standard_normal((n, vocabulary)))


def naive_topk(logprobs, k):
    order = [sorted(range(len(row)), key=lambda i: (-row[i], i))[:k] for row in logprobs]
    return np.array(order).reshape(len(logprobs), k)


@pytest.mark.parametrize("vocabulary", [2, 31, 32, 33, 1000, 3001])
@pytest.mark.parametrize("k", [1, 2, 10, 100, 1000])
def test_topk_is_a_stable_sort(vocabulary, k):
    k = min(k, vocabulary)
    logprobs = random_logprobs(5, vocabulary)
    ids, values = select_topk(logprobs, k)
    np.testing.assert_array_equal(ids, naive_topk(logprobs, k))
    np.testing.assert_array_equal(values, np.take_along_axis(logprobs, ids, axis=1))
    np.testing.assert_array_equal(ids[:, 0], logprobs.argmax(axis=1))


@given(st.data())
def test_topk_breaks_ties_by_id(data):
    vocabulary = data.draw(st.integers(2, 200))
    values = data.draw(
        st.lists(st.sampled_from([-1.0, -2.0, -np.inf]), min_size=vocabulary, max_size=vocabulary)
    )
    k = data.draw(st.integers(1, vocabulary))
    logprobs = np.array([values, values[::-1]], np.float32)
    np.testing.assert_array_equal(select_topk(logprobs, k)[0], naive_topk(logprobs, k))


def test_no_result_depends_on_the_rows_beside_it(monkeypatch):
    logprobs = random_logprobs(40, 777, sharpness=2.0)
    uniform = uniforms([1, 2, 3], 40, 50)
    together = [
        select_topk(logprobs, 9),
        (draw(logprobs, uniform),),
        (draw(logprobs, uniform, tau=2.0),),
    ]
    for rows_per_chunk in (1, 7):
        monkeypatch.setattr(selection_module, "_CHUNK", 777 * rows_per_chunk)
        again = [
            select_topk(logprobs, 9),
            (draw(logprobs, uniform),),
            (draw(logprobs, uniform, tau=2.0),),
        ]
        for one, other in zip(together, again):
            for left, right in zip(one, other):
                np.testing.assert_array_equal(left, right)
    alone = [draw(logprobs[r : r + 1], uniform[r : r + 1])[0] for r in range(40)]
    np.testing.assert_array_equal(together[1][0], np.array(alone))


@settings(max_examples=50)
@given(st.integers(0, 1000), st.floats(0.01, 1.0), st.integers(1, 30))
def test_topp_keeps_the_fewest_that_reach_p(seed, p, cap):
    logprobs = random_logprobs(6, 30, seed=seed)
    ids, values = select_topp(logprobs, p, cap)
    for row in range(6):
        expected, reached = [], 0.0
        for i in naive_topk(logprobs[row : row + 1], cap)[0]:
            if expected and reached >= p:
                break
            expected.append(i)
            reached += float(np.exp(logprobs[row, i], dtype=np.float64))
        kept = values[row] > ZERO
        np.testing.assert_array_equal(ids[row][kept], expected)
        assert (ids[row][~kept] == 0).all()
    assert (values > ZERO).any(axis=0).all()  # no column for nothing


def test_topp_of_one_and_all_is_everything_with_a_probability():
    logprobs = log_softmax([[0.0, -np.inf, 1.0, -np.inf]])
    ids, values = select_topp(logprobs, 1.0, 4)
    np.testing.assert_array_equal(ids, [[2, 0]])
    assert (values > ZERO).all()


def test_log_tail_keeps_small_tails():
    logits = np.full((1, 1000), -30.0)
    logits[0, 17] = 0.0
    logprobs = log_softmax(logits)
    ids, _ = select_topk(logprobs, 1)
    tail = log_tail(logprobs, ids, np.ones(ids.shape, bool))
    np.testing.assert_allclose(tail, np.log(999) - 30.0, rtol=1e-6)
    everything = np.arange(1000)[None]
    assert log_tail(logprobs, everything, np.ones((1, 1000), bool))[0] == -np.inf


def test_uniforms_are_frozen():
    """Draws must be reproducible with a later numpy: numbers of numpy 2.4, PCG64's raw bits."""
    found = uniforms([1, 2, 3], 4, 50)
    assert found.shape == (4, 50)
    assert found.min() >= 0
    assert found.max() < 1
    np.testing.assert_array_equal(found.ravel()[:50], uniforms([1, 2, 3], 1, 50)[0])
    digest = hashlib.sha256(found.astype("<f8").tobytes()).hexdigest()
    assert digest == "89f3ae34b0cff56e58c0712628043f22a4828fa3fa2ed068491443d29f81e149"


def test_uniforms_differ_by_every_part_of_the_key():
    keys = [("a" * 64, 1, 0), ("b" * 64, 1, 0), ("a" * 64, 2, 0), ("a" * 64, 1, 1)]
    found = [Sampled(100, seed=1).uniforms(*key, 3) for key in keys]
    found.append(Sampled(100, seed=2).uniforms(*keys[0], 3))
    found.append(Sampled(100, seed=1 << 32).uniforms(*keys[0], 3))
    found.append(Sampled(100, seed=1).uniforms("a" * 64, 1, 1 << 32, 3))
    assert len({array.tobytes() for array in found}) == len(found)
    np.testing.assert_array_equal(found[0], Sampled(100, seed=1).uniforms(*keys[0], 3))


def test_a_draw_is_the_inverse_of_the_distribution():
    """Against a naive walk of the cumulative sum, in order of id (FORMAT.md)."""
    logprobs = random_logprobs(3, 100)
    uniform = np.sort(uniforms([5], 3, 20), axis=1)
    found = draw(logprobs, uniform)
    for row in range(3):
        edges = np.cumsum(np.exp(logprobs[row].astype(np.float64)))
        expected = np.searchsorted(edges / edges[-1], uniform[row], side="right")
        np.testing.assert_array_equal(found[row], expected)


@pytest.mark.parametrize("tau", [1.0, 2.0, 0.5])
@pytest.mark.parametrize("vocabulary", [3, 40, 500])
def test_draws_follow_the_distribution(tau, vocabulary):
    """Chi-square at 1 % for each case; the numbers are seeded, so the verdict does not vary."""
    row = random_logprobs(1, vocabulary, sharpness=2.0, seed=vocabulary)
    n, draws = 4000, 50
    drawn = draw(np.repeat(row, n, axis=0), uniforms([vocabulary, int(10 * tau)], n, draws), tau)
    expected = np.exp(log_softmax(row / tau)[0].astype(np.float64)) * n * draws
    found = np.bincount(drawn.ravel(), minlength=vocabulary)
    rare = expected < 5
    if rare.any():
        expected = np.append(expected[~rare], expected[rare].sum())
        found = np.append(found[~rare], found[rare].sum())
    assert stats.chisquare(found, expected * found.sum() / expected.sum()).pvalue > 0.01


def test_the_test_above_would_see_a_bias_of_five_percent():
    row = random_logprobs(1, 40, sharpness=2.0, seed=40)
    biased = row.copy()
    biased[0, row[0].argmax()] += 0.05
    drawn = draw(np.repeat(log_softmax(biased), 4000, axis=0), uniforms([40, 10], 4000, 50))
    expected = np.exp(row[0].astype(np.float64)) * drawn.size
    found = np.bincount(drawn.ravel(), minlength=40)
    keep = expected >= 5
    expected, found = expected[keep], found[keep]
    assert stats.chisquare(found, expected * found.sum() / expected.sum()).pvalue < 0.01


def test_what_has_no_probability_is_never_drawn():
    logits = np.full((1, 100), -np.inf)
    logits[0, [3, 50, 96]] = [0.0, 1.0, 2.0]
    edge = np.array([[0.0, np.nextafter(1.0, 0.0), 0.5]])
    for tau in (1.0, 1e-3, 100.0):
        assert set(draw(log_softmax(logits), edge, tau).ravel()) <= {3, 50, 96}
    np.testing.assert_array_equal(draw(log_softmax(logits), edge, 1e-3), [[96, 96, 96]])


def test_a_small_temperature_does_not_underflow():
    logprobs = random_logprobs(2, 50000, sharpness=0.1)
    drawn = draw(logprobs, uniforms([1], 2, 50), tau=0.01)
    assert (tally(drawn, 50000)[1].sum(axis=1) == 50).all()


@given(st.integers(1, 6), st.integers(1, 12), st.integers(2, 9), st.integers(0, 99))
def test_tally_counts(n, draws, vocabulary, seed):
    drawn = np.sort(np.random.default_rng(seed).integers(0, vocabulary, (n, draws)), axis=1)
    ids, counts = tally(drawn, vocabulary)
    for row in range(n):
        expected_ids, expected_counts = np.unique(drawn[row], return_counts=True)
        used = counts[row] > 0
        np.testing.assert_array_equal(ids[row][used], expected_ids)
        np.testing.assert_array_equal(counts[row][used], expected_counts)
    assert counts.shape[1] == (counts > 0).sum(axis=1).max()


def test_nothing_of_no_rows():
    nothing = np.zeros((0, 100), np.float32)
    assert select_topk(nothing, 5)[0].shape == (0, 5)
    assert select_topp(nothing, 0.9, 5)[0].shape[0] == 0
    assert draw(nothing, np.zeros((0, 50))).shape == (0, 50)
    assert tally(np.zeros((0, 50), np.int32), 100)[0].shape == (0, 0)


def test_what_is_no_distribution_is_refused():
    broken = random_logprobs(2, 100)
    broken[1, 7] = np.nan
    for select in (
        lambda: select_topk(broken, 3),
        lambda: select_topk(broken, 100),
        lambda: draw(broken, uniforms([1], 2, 5)),
        lambda: draw(broken, uniforms([1], 2, 5), tau=2.0),
    ):
        with pytest.raises(StoreError, match="NaN"):
            select()
    with pytest.raises(StoreError, match="log_softmax"):
        draw(random_logprobs(2, 100) + 1, uniforms([1], 2, 5))
    with pytest.raises(StoreError, match="k must be between 1 and the vocabulary's 100"):
        select_topk(random_logprobs(2, 100), 101)
    with pytest.raises(StoreError, match="uniforms for 2 rows, found 3"):
        draw(random_logprobs(2, 100), uniforms([1], 3, 5))
