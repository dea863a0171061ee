"""Rows become bytes and the same rows again, within the bytes promised."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from fairseq_ki.store import (
    ZERO,
    DamageError,
    Dense,
    MismatchError,
    Rows,
    Sampled,
    StoreError,
    TopK,
    TopP,
    bytes_per_row,
    make_encoding,
)

SAMPLE_OVERHEAD = 8 + 12  # index entry and record head


@st.composite
def encodings(draw):
    vocabulary = draw(st.integers(2, 600))
    k = draw(st.integers(1, vocabulary))
    return draw(
        st.sampled_from(
            [
                TopK(vocabulary, k=k),
                TopK(vocabulary, k=k, tail=True),
                TopP(vocabulary, p=0.9, k=k),
                TopP(vocabulary, p=1.0, k=k, tail=True),
                Sampled(vocabulary, draws=50),
                Sampled(vocabulary, draws=300, tau=2.0),
                Dense(vocabulary),
            ]
        )
    )


def select(synthetic, encoding, n, sharpness, seed=0, block=0):
    logprobs = synthetic.make_logprobs(
        0, 1, seed, n, vocabulary=encoding.vocabulary, sharpness=sharpness
    )
    targets = np.random.default_rng(seed).integers(0, encoding.vocabulary, n)
    return encoding.select(logprobs, targets, encoding.uniforms("a" * 64, 1, block, n))


def as_dicts(rows):
    """Per row what is kept of it: {id: value}, ids without weight left out."""
    ids = np.broadcast_to(np.arange(rows.values.shape[1]), rows.values.shape)
    ids = ids if rows.ids is None else rows.ids
    return [
        {int(i): float(v) for i, v in zip(ids[r], rows.values[r]) if v != 0 and v > ZERO}
        for r in range(len(rows))
    ]


@settings(max_examples=300)
@given(encodings(), st.integers(0, 9), st.floats(0.0, 8.0), st.integers(0, 99))
def test_round_trip(synthetic, encoding, n, sharpness, seed):
    rows = select(synthetic, encoding, n, sharpness, seed)
    body = encoding.encode(rows)
    assert len(body) <= encoding.max_body(n)
    again = encoding.decode(body, n)
    encoding.check(again)
    assert as_dicts(again) == as_dicts(rows)
    np.testing.assert_array_equal(again.top1, rows.top1)
    np.testing.assert_array_equal(again.target_logprob, rows.target_logprob)
    assert again.values.shape[1] <= encoding.width
    if encoding.keeps_tail:
        np.testing.assert_array_equal(again.tail, rows.tail)
    assert encoding.encode(again) == body  # canonical


@settings(max_examples=300)
@given(encodings(), st.integers(0, 5), st.binary(max_size=400))
def test_any_bytes_give_rows_or_an_error(encoding, n, body):
    try:
        rows = encoding.decode(body, n)
    except DamageError:
        return
    assert len(rows) == n


@settings(max_examples=100)
@given(encodings(), st.integers(1, 4), st.integers(-3, 3).filter(bool))
def test_a_body_of_another_length_is_refused(synthetic, encoding, n, longer):
    body = encoding.encode(select(synthetic, encoding, n, 2.0))
    changed = body + bytes([1] * longer) if longer > 0 else body[:longer]
    with pytest.raises(DamageError):
        encoding.decode(changed, n)


def test_what_is_kept_is_what_the_teacher_said(synthetic):
    n, vocabulary = 6, 300
    logprobs = synthetic.make_logprobs(0, 1, 0, n)
    targets = np.array([0, 1, 2, 297, 298, 299])
    for name, encoding in synthetic.ENCODINGS.items():
        rows = encoding.select(logprobs, targets, encoding.uniforms("a" * 64, 1, 0, n))
        np.testing.assert_allclose(rows.target_logprob, logprobs[range(n), targets], rtol=1e-3)
        np.testing.assert_array_equal(rows.top1, logprobs.argmax(axis=1))
        if name == "sampled":
            assert (rows.values.sum(axis=1) == 50).all()
            continue
        for row, kept in enumerate(as_dicts(rows)):
            assert kept.keys() <= set(range(vocabulary))
            for i, value in kept.items():
                assert value == pytest.approx(logprobs[row, i], rel=1e-3)
        if encoding.keeps_tail:
            in_top = np.exp(np.sort(logprobs, axis=1)[:, -10:].astype(np.float64)).sum(axis=1)
            np.testing.assert_allclose(np.exp(rows.tail.astype(float)), 1 - in_top, rtol=1e-2)


def test_rows_of_many_samples_can_be_cut(synthetic):
    for encoding in synthetic.ENCODINGS.values():
        together = select(synthetic, encoding, 9, 2.0)
        body = encoding.encode(together[3:7])
        expected = as_dicts(together)[3:7]
        assert as_dicts(encoding.decode(body, 4)) == expected
        np.testing.assert_array_equal(encoding.decode(body, 4).top1, together.top1[3:7])


def zipf_logprobs(vocabulary, rows, exponent):
    """A fixed sharp teacher: Zipf's law over ids that differ from row to row."""
    ranks = np.arange(1, vocabulary + 1, dtype=np.float64)
    logprobs = -exponent * np.log(ranks)
    logprobs -= np.log(np.exp(logprobs).sum())
    rng = np.random.default_rng(0)
    return np.stack([logprobs[rng.permutation(vocabulary)] for _ in range(rows)]).astype(np.float32)


def stored_bytes(encoding, logprobs):
    """Mean bytes per row in a shard of such samples, everything counted, and mean distinct ids."""
    n, samples, total, distinct = len(logprobs), 6, 0, 0
    for block in range(samples):
        uniform = encoding.uniforms("a" * 64, 1, block, n)
        rows = encoding.select(logprobs, np.zeros(n, np.int64), uniform)
        total += len(encoding.encode(rows)) + SAMPLE_OVERHEAD
        distinct += (rows.values > (0 if encoding.name == "sampled" else ZERO)).sum()
    return total / n / samples, distinct / n / samples


@pytest.mark.parametrize("rows", [19, 77])  # 15 % of blocks of 128 and 512
@pytest.mark.parametrize("tail", [False, True])
def test_ten_ids_of_50265_take_at_most_46_bytes(rows, tail):
    per_row, _ = stored_bytes(TopK(50265, k=10, tail=tail), zipf_logprobs(50265, rows, 1.8))
    assert per_row <= 46


@pytest.mark.parametrize("rows", [19, 77])
def test_a_sharp_teacher_takes_at_most_36_bytes(rows):
    per_row, distinct = stored_bytes(Sampled(50265), zipf_logprobs(50265, rows, 1.8))
    assert 11.5 < distinct < 12.5
    assert per_row <= 36


@pytest.mark.parametrize("rows", [19, 77])
@pytest.mark.parametrize("exponent", [0.5, 1.0, 1.3, 1.6, 2.0, 2.5, 3.0, 4.0])
def test_sampled_rows_stay_within_their_budget(rows, exponent):
    per_row, distinct = stored_bytes(Sampled(50265), zipf_logprobs(50265, rows, exponent))
    assert per_row <= 2.2 * distinct + 8


@pytest.mark.parametrize("exponent", [1.3, 1.8, 2.5])
@pytest.mark.parametrize(
    "encoding",
    [TopK(50265), TopP(50265), Sampled(50265), Sampled(50265, 100), Dense(2000), TopK(8000, 50)],
    ids=repr,
)
def test_forecast_is_what_is_stored(encoding, exponent):
    logprobs = zipf_logprobs(encoding.vocabulary, 40, exponent)
    per_row, distinct = stored_bytes(encoding, logprobs)
    assert bytes_per_row(encoding, 40, distinct) == pytest.approx(per_row, rel=0.03)
    assert bytes_per_row(encoding, 40) >= 0.99 * per_row


@pytest.mark.parametrize("tau", [1.0, 2.0])
def test_stored_counts_are_unbiased(synthetic, tau):
    """Chi-square at 1 % of the counts of 40 blocks of 100 rows that share one distribution.

    Rows or blocks that shared random numbers would fail it, too: it counts them as independent.
    """
    encoding, n = Sampled(60, draws=50, tau=tau), 100
    row = synthetic.make_logprobs(0, 1, 0, 1, vocabulary=60, sharpness=1.5)
    probability = np.exp(row[0].astype(np.float64) / tau)
    expected = probability / probability.sum() * 40 * n * 50
    found = np.zeros(60)
    for block in range(40):
        uniform = encoding.uniforms("a" * 64, 1, block, n)
        rows = encoding.select(np.repeat(row, n, axis=0), np.zeros(n, np.int64), uniform)
        rows = encoding.decode(encoding.encode(rows), n)
        np.add.at(found, rows.ids, rows.values)
    assert expected.min() > 5
    assert stats.chisquare(found, expected).pvalue > 0.01


def test_probabilities_of_zero_are_kept_as_zero():
    logprobs = np.full((1, 20), -np.inf, np.float32)
    logprobs[0, 4] = 0.0
    for encoding in (TopK(20, k=3, tail=True), TopP(20, k=3, tail=True), Dense(20)):
        rows = encoding.select(logprobs, np.array([7]))
        again = encoding.decode(encoding.encode(rows), 1)
        encoding.check(again)
        probability = np.exp(again.values.astype(np.float32))
        assert probability.sum() == 1
        assert np.isfinite(again.values).all()
        assert again.target_logprob[0] == ZERO
        assert again.tail is None or again.tail[0] == ZERO


def replaced(rows, **changes):
    return dataclasses.replace(rows, **changes)


def with_entry(array, index, value):
    array = array.copy()
    array[index] = value
    return array


def test_rows_that_no_teacher_gave_are_refused(synthetic):
    topk, topp, sampled, dense = synthetic.ENCODINGS.values()
    good = {e.name: select(synthetic, e, 4, 3.0) for e in synthetic.ENCODINGS.values()}
    for encoding in synthetic.ENCODINGS.values():
        encoding.check(good[encoding.name])

    def ids(name, value, column=1):
        return replaced(good[name], ids=with_entry(good[name].ids, (2, column), value))

    def values(name, value, column=1):
        return replaced(good[name], values=with_entry(good[name].values, (2, column), value))

    bad = [
        (topk, ids("topk", 300), "id: expected 0 to 299, found [0-9]+ to 300"),
        (topk, ids("topk", -1), "id: expected 0 to 299, found -1"),
        (topk, ids("topk", int(good["topk"].ids[2, 0])), "found one twice"),
        (topk, ids("topk", 299 - good["topk"].ids[2, 0], 0), "first id of the row"),
        (topk, values("topk", np.float16(np.nan)), "finite"),
        (topk, values("topk", np.float16(-np.inf)), "finite"),
        (topk, values("topk", np.float16(0.5), 0), "at most 0"),
        (topk, values("topk", np.float16(-60), 1), "most probable id of a row first"),
        (topk, replaced(good["topk"], tail=None), "tail mass: expected one per row"),
        (topk, replaced(good["topk"], values=good["topk"].values.astype(np.float32)), "float16"),
        (topk, good["sampled"], "tail"),
        (topk, replaced(good["topk"], top1=good["topk"].top1[:2]), "top-1 id"),
        (topk, values("topk", np.float16(0), slice(None)), "sum of at most 1"),
        (topp, ids("topp", 300, 0), "id: expected 0 to 299"),
        (topp, values("topp", np.float16(-60), 0), "most probable id of a row first"),
        (sampled, values("sampled", 50), "sum of 50 draws"),
        (sampled, values("sampled", -1), "count: expected 0 to 50, found -1"),
        (sampled, ids("sampled", int(good["sampled"].ids[2, 0])), "found one twice"),
        (sampled, good["dense"], "count: expected integers"),
        (dense, values("dense", np.float16(-0.0001), slice(0, 9)), "sum of at most 1"),
        (dense, replaced(good["dense"], values=good["dense"].values[:, :9]), "float16"),
        (dense, values("dense", np.float16(ZERO), slice(None)), "expected a sum of 1"),
    ]
    for encoding, rows, message in bad:
        with pytest.raises(StoreError, match=message):
            encoding.encode(rows)
    target = replaced(good["dense"], target_logprob=np.full(4, np.nan, np.float16))
    with pytest.raises(StoreError, match="target log-probability"):
        dense.encode(target)


def test_logits_and_wrong_shapes_are_refused(synthetic):
    logprobs = synthetic.make_logprobs(0, 1, 0, 3)
    targets = np.zeros(3, np.int64)
    for encoding in synthetic.ENCODINGS.values():
        uniform = encoding.uniforms("a" * 64, 1, 0, 3)
        with pytest.raises(StoreError, match="log_softmax"):
            encoding.encode(encoding.select(logprobs + 40, targets, uniform))
        with pytest.raises(StoreError, match=r"\(3, 300\), found \(3, 299\)"):
            encoding.select(logprobs[:, :-1], targets, uniform)
    with pytest.raises(StoreError, match="uniforms"):
        synthetic.ENCODINGS["sampled"].select(logprobs, targets)
    with pytest.raises(StoreError, match="uniforms"):
        synthetic.ENCODINGS["sampled"].select(logprobs, targets, np.zeros((3, 49)))


def test_temperatures_that_an_encoding_cannot_serve_are_refused():
    for encoding in (TopK(100), TopP(100), Dense(100), Sampled(100, tau=2.0)):
        encoding.check_tau(2.0)
    TopK(100, tail=True).check_tau(1.0, tail=True)
    with pytest.raises(MismatchError, match=r"drawn at 1\.0 and serves no other, found 2\.0"):
        Sampled(100).check_tau(2.0)
    with pytest.raises(MismatchError, match=r"tail mass serves 1\.0, found 2\.0"):
        TopK(100, tail=True).check_tau(2.0, tail=True)
    for encoding in (TopK(100), Sampled(100), Dense(100)):
        with pytest.raises(MismatchError, match="keeps none"):
            encoding.check_tau(1.0, tail=True)


@pytest.mark.parametrize(
    ("name", "vocabulary", "parameters", "message"),
    [
        ("topq", 100, {}, "expected one of"),
        ("topk", 1, {}, "vocabulary: expected an integer from 2"),
        ("topk", 1 << 25, {}, "vocabulary"),
        ("topk", 100, {"k": 101}, "k: expected an integer from 1 to 100, found 101"),
        ("topk", 100, {"k": True}, "k: expected an integer"),
        ("topk", 100, {"k": 10.0}, "k: expected an integer"),
        ("topk", 100, {"tail": 1}, "tail: expected true or false"),
        ("topk", 100, {"p": 0.5}, "expected parameters among"),
        ("topp", 100, {"p": 0.0}, "p: expected a number above 0"),
        ("topp", 100, {"p": float("nan")}, "p: expected"),
        ("sampled", 100, {"draws": 1 << 16}, "draws"),
        ("sampled", 100, {"tau": -1.0}, "tau"),
        ("sampled", 100, {"tau": float("inf")}, "tau"),
        ("sampled", 100, {"seed": -1}, "seed"),
    ],
)
def test_impossible_parameters_are_refused(name, vocabulary, parameters, message):
    with pytest.raises(StoreError, match=message):
        make_encoding(name, vocabulary, parameters)


@given(encodings())
def test_parameters_rebuild_the_encoding(encoding):
    again = make_encoding(encoding.name, encoding.vocabulary, encoding.parameters())
    assert again == encoding


def test_a_row_of_bytes_of_hostile_widths_allocates_nothing_large():
    encoding = TopP(60000, k=60000)
    body = np.zeros(1000, "<f2").tobytes() + np.full(1000, 60000, "<u2").tobytes()
    with pytest.raises(DamageError, match=r"expected [0-9]+ bytes"):
        encoding.decode(body, 1000)


def test_rows_are_plain_arrays():
    rows = Rows(None, np.zeros((2, 3), np.float16), np.zeros(2, np.float16), np.zeros(2, np.int32))
    assert len(rows) == 2
    with pytest.raises(StoreError, match="dense"):
        rows.kept_ids()
