"""The teacher's pass over rows in groups, against its plain forward pass."""

import pytest
import torch

from fairseq_ki.capture import teacher
from fairseq_ki.capture.samples import Sample
from fairseq_ki.capture.teacher import groups


def said(session, size: int, blocks: int = 40):
    split = session.splits[0]
    split.set_epoch(1)
    return [
        one for batch in split.batches(range(blocks), size) for one in session.teacher.say(batch)
    ]


def test_log_probabilities_are_the_models(session):
    split = session.splits[0]
    split.set_epoch(1)
    (batch,) = split.batches(range(16), 16)
    model = session.teacher.model.model
    with torch.no_grad():
        logits = model(**batch.net_input)[0][batch.rows]
    found = torch.cat([one.scores.log_probs for one in session.teacher.say(batch)])
    torch.testing.assert_close(found, torch.log_softmax(logits, dim=1), rtol=0, atol=1e-5)


def test_bits_do_not_depend_on_how_samples_are_batched(session):
    """On this CPU, for blocks of one length; a resumed capture needs less: the same batches."""
    whole = torch.cat([one.scores.log_probs for one in said(session, 40)])
    for size in (1, 7, 16):
        parts = torch.cat([one.scores.log_probs for one in said(session, size)])
        assert torch.equal(parts, whole), size


def test_groups_hold_whole_samples(session):
    def sample(block, rows):
        return Sample(block, torch.zeros(9), torch.zeros(9), torch.zeros(rows), 0)

    samples = [sample(i, rows) for i, rows in enumerate([5, 0, 6, 20, 1, 2])]
    found = [([s.block for s in members], rows) for members, rows in groups(samples, 11)]
    assert found == [([0, 1, 2], 11), ([3], 20), ([4, 5], 3)]


def test_a_batch_without_rows(session):
    split = session.splits[0]
    split.set_epoch(1)
    (batch,) = split.batches([0, 1], 2)
    bare = [Sample(s.block, s.inputs, s.rows & False, s.targets[:0], 0) for s in batch.samples]
    empty = type(batch)(bare, batch.net_input, batch.rows & False)
    (one,) = session.teacher.say(empty)
    assert one.scores.log_probs.shape == (0, len(session.task.source_dictionary))
    assert one.samples == bare


def test_the_head_never_sees_all_rows_of_a_large_vocabulary(session, monkeypatch):
    monkeypatch.setitem(teacher._CHUNK, "cpu", 64 * 65)
    pieces = said(session, 40)
    assert len(pieces) > 2
    assert max(len(one.scores.log_probs) for one in pieces) <= 64


@pytest.mark.gpu
def test_a_gpu_says_the_same(settings, session):
    from fairseq_ki.capture.session import Session

    there = Session.open(settings(device="cuda"), "cuda:0")
    ours = torch.cat([one.scores.log_probs.cpu() for one in said(there, 16)])
    torch.testing.assert_close(
        ours, torch.cat([one.scores.log_probs for one in said(session, 16)]), rtol=0, atol=2e-3
    )
