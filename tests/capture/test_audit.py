"""The audit against a store that was really written, and what it says of encodings."""

import pytest
import torch

from fairseq_ki.capture import processes
from fairseq_ki.capture.audit import Candidate, audit
from fairseq_ki.capture.session import Session
from fairseq_ki.capture.teacher import TeacherPass
from fairseq_ki.models.ki_teacher import load_teacher
from fairseq_ki.store import MismatchError, StoreReader, make_encoding

V = 65


def candidate(name, **parameters):
    return Candidate(name, make_encoding(name, V, parameters))


@pytest.fixture(scope="module")
def findings(session):
    wanted = [
        candidate("dense"),
        candidate("topk", k=3),
        candidate("topk", k=30),
        candidate("topk", k=30, tail=True),
        candidate("sampled", draws=30),
    ]
    return audit(session, wanted, rows=400, temperature=1.0)


def test_the_whole_distribution_loses_nothing(findings):
    dense = findings[0]
    assert dense.mass == pytest.approx(1, abs=1e-5)
    assert dense.kl == pytest.approx(0, abs=0.002)
    assert dense.top1 > 0.99
    assert max(dense.row_angle, dense.part_angle, dense.update_angle) < 0.2


def test_more_ids_cost_more_and_lose_less(findings):
    _, few, many, tailed, _ = findings
    assert few.bytes_per_row < many.bytes_per_row < tailed.bytes_per_row
    assert few.mass < many.mass
    assert few.kl > many.kl > tailed.kl
    assert few.row_angle > many.row_angle
    assert few.update_angle > many.update_angle
    assert few.calibration > tailed.calibration
    assert few.ids == 3


def test_noise_averages_out_and_a_bias_does_not(findings):
    few, drawn = findings[1], findings[4]
    assert drawn.update_angle < 0.75 * drawn.part_angle
    assert few.update_angle > 0.8 * few.part_angle
    assert drawn.row_angle > few.row_angle
    assert drawn.update_angle < few.update_angle


def test_bytes_are_those_of_a_store(settings, tmp_path):
    session = Session.open(settings("topk", {"k": 5}))
    manifest = processes.write_here(tmp_path / "store", session, session.plan(), None)
    reader = StoreReader(tmp_path / "store")
    stored = Candidate("the store", reader.plan.encoding, reader, 0)
    every_row = manifest.rows
    found, selected = audit(session, [stored, candidate("topk", k=5)], every_row, 1.0)
    assert found.bytes_per_row == pytest.approx(manifest.shard_bytes / manifest.rows, rel=0.03)
    for name in ("bytes_per_row", "kl", "mass", "top1", "row_angle", "update_angle"):
        assert getattr(found, name) == pytest.approx(getattr(selected, name), rel=1e-6), name


def test_a_student_that_knows_much_feels_the_loss_more(session, teacher):
    """The nearer the student is, the smaller its gradient, and the larger the same error in it."""
    model = load_teacher(str(teacher), session.task, dictionary=None, causal=False, positions=32)
    generator = torch.Generator().manual_seed(0)
    for parameter in model.parameters():
        parameter += 0.02 * torch.randn(parameter.shape, generator=generator)
    wanted = [candidate("topk", k=30), candidate("sampled", draws=30)]
    begun = audit(session, wanted, 200, 1.0)
    trained = audit(session, wanted, 200, 1.0, TeacherPass(model, "cpu"))
    for one, other in zip(begun, trained):
        assert other.row_angle > one.row_angle
        assert (one.kl, one.mass, one.bytes_per_row) == (other.kl, other.mass, other.bytes_per_row)


def test_a_temperature_that_is_not_served(session):
    with pytest.raises(MismatchError, match="drawn at 1.0"):
        audit(session, [candidate("sampled", draws=5)], 100, temperature=2.0)
    with pytest.raises(MismatchError, match="tail mass serves 1.0"):
        audit(session, [candidate("topk", k=5, tail=True)], 100, temperature=2.0)
    (found,) = audit(session, [candidate("topk", k=5)], 100, temperature=2.0)
    assert found.mass < 0.9
