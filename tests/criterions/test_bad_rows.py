"""A teacher that says no numbers: reported with name and samples, or skipped and counted."""

import logging
import math
import re
import shutil

import pytest
import torch

from fairseq_ki import compat
from fairseq_ki.criterions._bad_rows import BadRowsWatch, BadTeacherError, _Look
from fairseq_ki.criterions.ki import KICriterion

KI = "--task ki_mlm --criterion ki"
WORD = 4 + 50  # its embedding is broken: what stands beside it in a sample gets no number


@pytest.fixture(scope="module")
def broken(fairseq_train, data_bin, tmp_path_factory):
    """A teacher that knows all words but one; its output layer is whole."""
    save_dir = tmp_path_factory.mktemp("broken")
    fairseq_train(
        data_bin,
        save_dir,
        "--task masked_lm --criterion masked_lm --max-update 3 --untie-weights-roberta",
        "--arch roberta --encoder-layers 1 --encoder-embed-dim 16 --encoder-ffn-embed-dim 32 "
        "--encoder-attention-heads 2 --max-positions 32",
    )
    path = save_dir / "checkpoint_last.pt"
    state = compat.load_checkpoint(path)
    # finite, or it would be refused when it is loaded; its layer norm overflows
    state["model"]["encoder.sentence_encoder.embed_tokens.weight"][WORD] = 3e38
    torch.save(state, path)
    shutil.copy(data_bin / "dict.txt", save_dir)
    return path


@pytest.fixture(scope="module", params=["dense", "fused"])
def form(request):
    """Few rows go through full logits, many through the fused loss."""
    return {"dense": "--batch-size 4", "fused": "--batch-size 24"}[request.param]


def test_training_stops_with_the_teachers_name_and_the_samples(
    fairseq_train, data_bin, broken, tmp_path, form
):
    with pytest.raises(SystemExit, match=r"^error: live teacher .*expected numbers") as stopped:
        fairseq_train(
            data_bin, tmp_path, f"{KI} --ki-teacher {broken} --ki-steps 9 --max-update 9 {form}"
        )
    message = str(stopped.value)
    assert str(broken) in message
    assert re.search(r"NaN or infinite logits for \d+ of \d+ rows at update 0", message)
    assert re.search(r"samples with the ids \d+", message)
    assert not list(tmp_path.glob("*.pt"))  # neither fairseq's crash.pt nor a student of NaN


def test_the_samples_are_those_that_hold_the_broken_word(
    fairseq_train, data_bin, broken, tmp_path, monkeypatch
):
    holding = []
    look = BadRowsWatch.look

    def comparing(self, bad, ids, update, teacher):
        holding.append((ids[bad].unique().tolist(), expected.pop(0)))
        look(self, bad, ids, update, teacher)

    expected = []
    forward = KICriterion.forward

    def remembering(self, model, sample, reduce=True):
        tokens, rows = sample["net_input"]["src_tokens"], self.task.loss_rows(sample)
        there = tokens.eq(WORD).any(1) & rows.mask.any(1)
        expected.append(sample["id"][there].sort().values.tolist())
        return forward(self, model, sample, reduce)

    monkeypatch.setattr(BadRowsWatch, "look", comparing)
    monkeypatch.setattr(KICriterion, "forward", remembering)
    fairseq_train(
        data_bin,
        tmp_path,
        f"{KI} --ki-teacher {broken} --ki-steps 99 --max-update 20 --ki-skip-bad-rows",
    )
    assert len(holding) == 20
    assert all(found == there for found, there in holding)
    assert any(found for found, _ in holding)
    assert any(len(found) < 8 for found, _ in holding)


def test_skipped_rows_are_counted_and_the_rest_is_learnt(
    fairseq_train, data_bin, broken, tmp_path, caplog, form
):
    extra = f"{KI} --ki-teacher {broken} --ki-steps 99 --max-update 12 {form}"
    with caplog.at_level(logging.WARNING):
        run = fairseq_train(data_bin, tmp_path, f"{extra} --ki-skip-bad-rows")
    assert caplog.text.count("expected numbers, found NaN") == 1
    assert str(broken) in caplog.text
    assert all(math.isfinite(float(r[key])) for r in run.train for key in ("loss", "ki_objective"))
    assert all(0 <= float(r["ki_loss"]) < 20 for r in run.train)
    assert sum(float(r["ki_bad_rows"]) for r in run.train) > 0
    assert all(w.isfinite().all() for w in run.state()["model"].values())


def test_of_several_teachers_the_domains_own_one_is_named(
    fairseq_train, data_bin, teacher, broken, tmp_path
):
    mixture = tmp_path / "mixture.yaml"
    mixture.write_text(
        "domains:\n"
        f"  good: {{data: {data_bin}, teachers: [{{checkpoint: {teacher}}}]}}\n"
        f"  ill: {{data: {data_bin}, teachers: [{{checkpoint: {broken}}}]}}\n"
    )
    extra = f"{KI} --ki-mixture {mixture} --ki-steps 9 --max-update 9"
    with pytest.raises(SystemExit) as stopped:
        fairseq_train(data_bin, tmp_path / "run", extra)
    message = str(stopped.value)
    assert "in ill: live teacher" in message
    assert str(broken) in message
    assert str(teacher) not in message
    # of three domains one has no teacher: some batches of two samples are of that one alone
    mixture.write_text(mixture.read_text() + f"  own: {{data: {data_bin}, weight: 8}}\n")
    extra += " --ki-skip-bad-rows --ki-valid-teacher --batch-size 2"
    run = fairseq_train(data_bin, tmp_path / "skipping", extra)
    assert sum(float(r["ki_bad_rows"]) for r in run.train) > 0
    assert all(math.isfinite(float(r["ill_teacher_ppl"])) for r in run.train)


def test_it_is_a_matter_of_live_teachers(fairseq_train, data_bin, tmp_path):
    with pytest.raises(ValueError, match=r"--ki-skip-bad-rows: expected a teacher"):
        fairseq_train(data_bin, tmp_path, f"{KI} --ki-skip-bad-rows --max-update 1")


def test_without_bad_rows_the_option_changes_nothing(fairseq_train, data_bin, teacher, tmp_path):
    extra = f"{KI} --ki-teacher {teacher} --ki-steps 9 --max-update 12"
    plain = fairseq_train(data_bin, tmp_path / "plain", extra)
    skipping = fairseq_train(data_bin, tmp_path / "skipping", f"{extra} --ki-skip-bad-rows")
    assert [float(r["ki_bad_rows"]) for r in skipping.train] == [0.0] * 12
    for a, b in zip(plain.train, skipping.train):
        assert {
            k: v for k, v in b.items() if k in a and k.startswith(("loss", "ki_o", "ki_l"))
        } == {k: v for k, v in a.items() if k.startswith(("loss", "ki_o", "ki_l"))}
    for key, value in plain.state()["model"].items():
        assert torch.equal(value, skipping.state()["model"][key]), key


def test_samples_are_named():
    ids = torch.tensor([10, 30, 30])
    for bad, named in (([1, 0, 0], "ids 10."), ([0, 0, 1], "ids 30."), ([1, 1, 0], "ids 10, 30.")):
        with pytest.raises(BadTeacherError, match=re.escape(named)):
            BadRowsWatch(skip=False).look(
                torch.tensor(bad, dtype=torch.bool), ids, 5, lambda: "some teacher"
            )
    many = torch.ones(12, dtype=torch.bool)
    with pytest.raises(BadTeacherError, match=r"12 of 12 rows at update 7.* 8, 9, \.\.\."):
        BadRowsWatch(skip=False).look(many, torch.arange(12), 7, lambda: "some teacher")


@pytest.mark.gpu
def test_on_cuda_the_answer_comes_later_and_is_not_lost():
    watch = BadRowsWatch(skip=False)
    ids = torch.arange(3, device="cuda")
    good = torch.zeros(3, dtype=torch.bool, device="cuda")
    watch.look(good, ids, 0, lambda: "some teacher")
    watch.look(~good, ids, 1, lambda: "some teacher")
    torch.cuda.synchronize()
    with pytest.raises(BadTeacherError, match="at update 1"):
        watch.look(good, ids, 2, lambda: "some teacher")


def test_nothing_is_kept_of_a_teacher_that_is_let_go():
    class Event:
        def synchronize(self):
            pass

    watch, bad = BadRowsWatch(skip=False), torch.ones(2, dtype=torch.bool)
    for update, found in ((0, False), (1, True)):
        look = _Look(torch.tensor(found), Event(), bad, torch.arange(2), update, lambda: "x")
        watch._pending.append(look)
    with pytest.raises(BadTeacherError, match="at update 1"):
        watch.finish()
    assert not watch._pending
