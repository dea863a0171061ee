"""Training on several domains: who is taught what by whom, and what is logged."""

import pytest
from trained import KI, capture, objectives, record_logs

from fairseq_ki.criterions.ki import KICriterion
from fairseq_ki.store import MismatchError
from fairseq_ki.tasks import _common
from fairseq_ki.teachers.live import LiveTeacher
from fairseq_ki.teachers.router import DOMAIN

KEYS = ("loss", "one_loss", "two_loss", "ki_loss", "ki_objective", "ki_teacher_ppl")
LOGGED = ("loss", "ppl", "teacher_ppl", "agreement")


def test_live_and_stored_teachers_give_the_same_losses(
    fairseq_train, data_bin, teacher, second_teacher, dense_stores, mixture, tmp_path, monkeypatch
):
    """Two teachers on two domains, one of them on both; all live, all stored, and some of each."""
    live = {"first": f"{{checkpoint: {teacher}", "second": f"{{checkpoint: {second_teacher}"}
    stored = {key: f"{{store: {path}" for key, path in dense_stores.items()}
    arms = {
        "live": (f"{live['first']}}}, {live['second']}, weight: 0.5}}", f"{live['second']}}}"),
        "stored": (
            f"{stored['first', 'one']}}}, {stored['second', 'one']}, weight: 0.5}}",
            f"{stored['second', 'two']}}}",
        ),
        "both": (
            f"{live['first']}}}, {stored['second', 'one']}, weight: 0.5}}",
            f"{stored['second', 'two']}}}",
        ),
    }
    logs, results = record_logs(monkeypatch), {}
    for name, teachers in arms.items():
        option = mixture(*teachers, name=f"{name}.yaml")
        extra = f"{KI} --ki-steps 40 --max-epoch 1 --num-workers 1 {option}"
        fairseq_train(data_bin, tmp_path / name, extra)
        results[name] = logs.copy()
        logs.clear()
    assert len(results["live"]) > 20
    for name in ("stored", "both"):
        found, expected = objectives(results[name]), objectives(results["live"])
        assert found == pytest.approx(expected, rel=1e-3)
        for log, reference in zip(results[name], results["live"], strict=True):
            for key in ("domain:one:teacher_nll", "domain:two:teacher_nll", "ki_loss"):
                assert log[key] == pytest.approx(reference[key], rel=1e-2, abs=1e-2), key
            assert log["domain:one:rows"] == reference["domain:one:rows"]


def test_each_teacher_sees_its_own_rows_alone(
    fairseq_train, data_bin, teacher, second_teacher, mixture, tmp_path, monkeypatch
):
    counted, batches, loaded = {}, [], []
    signal, forward, load = LiveTeacher.signal, KICriterion.forward, _common.load_teacher

    def counting(self, sample, rows, temperature):
        path = self.model.path
        counted[path] = counted.get(path, 0) + len(rows)
        assert len(sample["net_input"]["src_tokens"]) == rows.shape[0] < 8 or path == str(teacher)
        return signal(self, sample, rows, temperature)

    def recording(self, model, sample, reduce=True):
        batches.append((self.task.loss_rows(sample).mask.sum(1), sample[DOMAIN]))
        return forward(self, model, sample, reduce)

    def loading(path, *args, **kwargs):
        loaded.append(path)
        return load(path, *args, **kwargs)

    monkeypatch.setattr(LiveTeacher, "signal", counting)
    monkeypatch.setattr(KICriterion, "forward", recording)
    monkeypatch.setattr(_common, "load_teacher", loading)
    one = f"{{checkpoint: {teacher}}}, {{checkpoint: {second_teacher}, weight: 3}}"
    option = mixture(one, f"{{checkpoint: {teacher}}}")
    fairseq_train(data_bin, tmp_path / "run", f"{KI} --ki-steps 40 --max-update 6 {option}")
    rows = [sum(int(n[d == k].sum()) for n, d in batches) for k in (0, 1)]
    assert min(rows) > 0
    assert counted == {str(teacher): sum(rows), str(second_teacher): rows[0]}
    assert sorted(loaded) == sorted([str(teacher), str(second_teacher)])


def test_a_domain_without_teacher_learns_by_itself(
    fairseq_train, data_bin, teacher, mixture, tmp_path, monkeypatch
):
    """At rate 1 the taught rows count by their divergence alone, the others by cross-entropy."""
    logs = record_logs(monkeypatch)
    option = mixture(f"{{checkpoint: {teacher}}}")
    extra = f"{KI} --ki-schedule constant --ki-rate 1 --max-update 8"
    fairseq_train(data_bin, tmp_path / "run", f"{extra} {option}")
    for log in logs:
        own = 4 * log["ki_loss"] + log["domain:two:loss"]
        assert log["ki_objective"] == pytest.approx(own, rel=1e-5)
        assert log["domain:one:loss"] + log["domain:two:loss"] == pytest.approx(log["loss"])
        assert log["ki_rows"] == log["domain:one:taught"] == log["domain:one:rows"]
        assert log["ki_student_nll"] == pytest.approx(log["domain:one:loss"])
        assert "domain:two:taught" not in log


def test_every_update_logs_the_same_keys(
    fairseq_train, data_bin, teacher, mixture, tmp_path, monkeypatch
):
    """Batches of one sample are of one domain; and beyond the teachers' end."""
    option = mixture(f"{{checkpoint: {teacher}}}", f"{{checkpoint: {teacher}}}")
    run = fairseq_train(
        data_bin,
        tmp_path / "run",
        f"{KI} --ki-steps 8 --max-update 12 --batch-size 1 --update-freq 2 {option}",
    )
    per_domain = {f"{d}_{k}" for d in ("one", "two") for k in LOGGED}
    assert per_domain <= set(run.train[0])
    assert len({frozenset(r) for r in run.train}) == 1
    absent = [r for r in run.train if float(r["one_loss"]) == 0]
    present = [r for r in run.train[:8] if float(r["one_loss"]) > 0]
    assert absent
    assert present
    assert all(float(r[f"one_{key}"]) == 0 for r in absent for key in LOGGED)
    assert all(float(r["one_teacher_ppl"]) > 1 for r in present)
    assert float(run.train[-1]["two_teacher_ppl"]) == 0


def test_masks_are_those_of_the_data_bin_alone(
    fairseq_train, data_bin, second_bin, teacher, mixture, tmp_path
):
    """A store of one data-bin and mask seed serves the domain: every read checks its masks."""
    store = capture(second_bin, teacher, tmp_path / "s", "--seed 9 --encoding sampled --draws 9")
    option = mixture("", f"{{store: {store}}}")
    extra = f"{KI} {option} --ki-steps 90 --ki-temperature 1 --max-epoch 2"
    run = fairseq_train(data_bin, tmp_path / "run", f"{extra} --ki-mask-seed 9")
    assert max(float(r["two_teacher_ppl"]) for r in run.train) > 1
    with pytest.raises(
        MismatchError, match=r"line 3: domains\.two\.teachers\.0: (?s:.*)data\.seed"
    ):
        fairseq_train(data_bin, tmp_path / "other", extra)
    with pytest.raises(ValueError, match=r"line 3: domains\.two.*temperature.* drawn at 1"):
        fairseq_train(data_bin, tmp_path / "hot", f"{extra} --ki-temperature 2 --ki-mask-seed 9")


def test_half_precision(fairseq_train, data_bin, teacher, dense_stores, mixture, tmp_path):
    both = f"{{checkpoint: {teacher}}}, {{store: {dense_stores['second', 'one']}}}"
    extra = f"{KI} {mixture(both)} --ki-steps 40 --max-update 8 --bf16"
    run = fairseq_train(data_bin, tmp_path / "run", extra)
    assert float(run.train[-1]["ki_loss"]) < float(run.train[0]["ki_loss"])


def test_without_any_teacher_it_is_self_learning(fairseq_train, data_bin, mixture, tmp_path):
    run = fairseq_train(data_bin, tmp_path / "run", f"{KI} {mixture()} --max-update 4")
    assert float(run.train[0]["one_loss"]) > 0
    assert not any(key.startswith("ki_") for key in run.train[0])
    with pytest.raises(ValueError, match=r"--ki-steps: expected a teacher"):
        fairseq_train(data_bin, tmp_path / "no", f"{KI} {mixture()} --ki-steps 4")


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["legacy_ddp", "pytorch_ddp"])
def test_two_ranks_equal_one(
    fairseq_train,
    data_bin,
    teacher,
    dense_stores,
    mixture,
    student_options,
    torchrun_train,
    tmp_path,
    backend,
):
    """Small batches, so that often a rank has no row of a domain; dropout 0: ranks draw own."""
    option = mixture(f"{{checkpoint: {teacher}}}", f"{{store: {dense_stores['second', 'two']}}}")
    extra = (
        f"{KI} {option} --ki-steps 30 --max-update 12 --dropout 0 --attention-dropout 0 "
        "--num-workers 1 --batch-size 2"
    )
    one = fairseq_train(data_bin, tmp_path / "one", f"{extra} --update-freq 4")
    ranks = f"{student_options} {extra} --update-freq 2 --ddp-backend {backend}"
    two = torchrun_train(data_bin, tmp_path / "two", ranks)
    assert len(two) == 12
    assert len({frozenset(r) for r in two}) == 1
    for a, b in zip(one.train, two):
        for key in (*KEYS, "one_teacher_ppl", "two_teacher_ppl", "one_agreement"):
            assert float(a[key]) == pytest.approx(float(b[key]), rel=1e-3, abs=0.0011), key
