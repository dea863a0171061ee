"""What stored rows say to the objective, against the live teacher they were taken from."""

import pytest
import torch
from scipy import stats

from fairseq_ki.data.stored_rows import collate_rows
from fairseq_ki.objective.signals import DenseSignal
from fairseq_ki.store import Dense, Encoding, Sampled, TopK, TopP
from fairseq_ki.teachers.stored import stored_signal

VOCABULARY = 200


@pytest.fixture
def log_probs():
    """(40, V) of a teacher that is rather sure."""
    generator = torch.Generator().manual_seed(3)
    return torch.log_softmax(4 * torch.randn(40, VOCABULARY, generator=generator), dim=1)


TARGETS = torch.arange(40) * 3


def stored(encoding: Encoding, log_probs):
    """As they come out of a store, two samples to a batch."""
    uniform = encoding.uniforms("a" * 64, 1, 0, 40)
    rows = encoding.select(log_probs.numpy(), TARGETS.numpy(), uniform)
    read = [encoding.decode(encoding.encode(rows[part]), n) for part, n in
            ((slice(0, 25), 25), (slice(25, 40), 15))]  # fmt: skip
    return collate_rows(read)


@pytest.mark.parametrize("temperature", [1.0, 2.0])
def test_topk_is_the_live_teachers_renormalised_topk(log_probs, temperature):
    signal = stored_signal(stored(TopK(VOCABULARY, k=10), log_probs), temperature, False)
    best = log_probs.topk(10)
    assert torch.equal(signal.ids, best.indices)
    expected = torch.softmax(best.values.half().float() / temperature, dim=1)
    torch.testing.assert_close(signal.probs, expected, rtol=0, atol=1e-7)
    exact = torch.softmax(best.values / temperature, dim=1)
    # a float16 log-probability is off by at most 2^-11 of itself
    furthest = float((best.values.abs() * 2**-11 / temperature).max())
    torch.testing.assert_close(signal.probs, exact, rtol=2 * furthest, atol=0)


def test_every_signal_has_the_target_and_the_first_id(log_probs):
    for encoding in (TopK(VOCABULARY, k=3), TopP(VOCABULARY, k=9), Sampled(VOCABULARY, draws=9)):
        signal = stored_signal(stored(encoding, log_probs), 1.0, False)
        assert torch.equal(signal.top1, log_probs.argmax(1))
        of_target = log_probs.gather(1, TARGETS.unsqueeze(1)).squeeze(1)
        torch.testing.assert_close(signal.target_log_prob, of_target, rtol=5e-4, atol=0)


def test_a_tail_completes_the_kept_probabilities(log_probs):
    signal = stored_signal(stored(TopK(VOCABULARY, k=4, tail=True), log_probs), 1.0, True)
    best = log_probs.exp().topk(4)
    torch.testing.assert_close(signal.probs, best.values, rtol=5e-3, atol=0)
    torch.testing.assert_close(signal.tail, 1 - best.values.sum(1), rtol=5e-3, atol=1e-5)


def test_topp_keeps_few_ids_and_pads_with_nothing(log_probs):
    signal = stored_signal(stored(TopP(VOCABULARY, p=0.7, k=50), log_probs), 1.0, False)
    torch.testing.assert_close(signal.probs.sum(1), torch.ones(40))
    mass = (log_probs.exp().gather(1, signal.ids) * (signal.probs > 0)).sum(1)
    assert (mass > 0.69).all()
    assert (signal.probs == 0).any()


def test_counts_are_shares_of_the_draws(log_probs):
    batch = stored(Sampled(VOCABULARY, draws=50), log_probs)
    signal = stored_signal(batch, 1.0, False)
    assert torch.equal((signal.probs * 50).round().int(), batch["values"])
    torch.testing.assert_close(signal.probs.sum(1), torch.ones(40))


def test_dense_rows_are_logits(log_probs):
    signal = stored_signal(stored(Dense(VOCABULARY), log_probs), 2.0, False)
    assert isinstance(signal, DenseSignal)
    torch.testing.assert_close(signal.logits, log_probs, rtol=5e-4, atol=0)


def drawn_counts(log_probs) -> tuple[torch.Tensor, int]:
    """How often each id was drawn of one row, over 50 seeds with 40 rows that are all alike."""
    rows, draws, seeds = log_probs.expand(40, -1), 50, 50
    counts = torch.zeros(VOCABULARY, dtype=torch.float64)
    for seed in range(seeds):
        signal = stored_signal(stored(Sampled(VOCABULARY, draws, seed=seed), rows), 1.0, False)
        counts.index_add_(0, signal.ids.flatten(), signal.probs.double().flatten() * draws)
    return counts, seeds * len(rows) * draws


def test_the_mean_of_many_draws_is_the_teacher(log_probs):
    """Chi-square at 1 %, ids that are expected less than 5 times in one bin.

    A bias of 5 % of the gradient in the logits of a student at its start (even over the vocabulary)
    is found in at least 95 of 100 cases; one that is exactly so is found here.
    """
    alpha = 0.01
    full = log_probs[0].double().exp()
    full /= full.sum()
    even = torch.full_like(full, 1 / VOCABULARY)

    def p_value(log_probs) -> float:
        counts, draws = drawn_counts(log_probs)
        expected, rare = draws * full, draws * full < 5
        bins = [torch.cat([x[~rare], x[rare].sum()[None]]) for x in (counts, expected)]
        return float(stats.chisquare(*bins).pvalue)

    assert p_value(log_probs[:1]) > alpha
    assert p_value((0.95 * full + 0.05 * even).log().float()[None]) < alpha

    bias = 0.05 * float((even - full).norm())
    draws = 40 * 50 * 50
    rare = draws * full < 5
    freedom = int((~rare).sum())
    # of all biases of this length, the one in the most probable id adds least to the statistic
    least = draws * bias**2 / float(full.max())
    assert stats.ncx2.sf(stats.chi2.isf(alpha, freedom), freedom, least) >= 0.95
    assert float(full[rare].sum()) < bias  # so it does not fit in among the rare ones
