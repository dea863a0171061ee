"""Training on several domains, each with its own teachers, as fairseq-train runs it."""

import json
import logging
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from fairseq import options
from fairseq.dataclass.utils import convert_namespace_to_omegaconf
from fairseq.models.roberta import RobertaModel
from fairseq_cli import validate as fairseq_validate_cli

from fairseq_ki.checked_yaml import YamlFileError
from fairseq_ki.cli.main import main
from fairseq_ki.criterions.ki import KICriterion
from fairseq_ki.store import MismatchError, UnfinishedError
from fairseq_ki.tasks import _common
from fairseq_ki.teachers.live import LiveTeacher
from fairseq_ki.teachers.router import DOMAIN
from fairseq_ki.teachers.stored import STORED

KI = "--task ki_mlm --criterion ki"
CAUSAL = "--task ki_lm --criterion ki"
GPT = (
    "--arch gpt_73m --decoder-layers {} --decoder-embed-dim {} --decoder-ffn-embed-dim 32 "
    "--decoder-attention-heads 2"
)
KEYS = ("num_updates", "loss", "one_loss", "two_loss", "ki_loss", "ki_objective", "ki_teacher_ppl")


@pytest.fixture(scope="module")
def second_bin(fairseq_train, tmp_path_factory):
    """Another domain: other text in the same dictionary."""
    write = fairseq_train.__globals__["write_data_bin"]
    folder = tmp_path_factory.mktemp("second") / "bin"
    return write(folder, seed=7, lines={"train": 160, "valid": 30})


@pytest.fixture(scope="module")
def second_teacher(fairseq_train, second_bin, tmp_path_factory):
    save_dir = tmp_path_factory.mktemp("second-teacher")
    small = fairseq_train.__globals__["TEACHER"]
    host = "--task masked_lm --criterion masked_lm --max-update 10 --seed 5"
    fairseq_train(second_bin, save_dir, host, small)
    shutil.copy(second_bin / "dict.txt", save_dir)
    return save_dir / "checkpoint_last.pt"


@pytest.fixture(scope="module")
def stores(data_bin, second_bin, teacher, second_teacher, tmp_path_factory):
    """What each of two teachers says about each of two domains, in full."""
    folder, found = tmp_path_factory.mktemp("stores"), {}
    for t, checkpoint in (("first", teacher), ("second", second_teacher)):
        for d, data in (("one", data_bin), ("two", second_bin)):
            found[t, d] = capture(data, checkpoint, folder / f"{t}-{d}", "--encoding dense")
    return found


def capture(data, teacher, out, extra: str) -> Path:
    command = f"logits write {data} --teacher {teacher} --out {out} --tokens-per-sample 32 {extra}"
    assert main(command.split()) == 0
    return out


@pytest.fixture
def mixture(tmp_path, data_bin, second_bin):
    """Writes the file of domains "one" and "two", with these teachers; gives the option."""

    def write(one: str = "", two: str = "", name: str = "mixture.yaml", weight: float = 1) -> str:
        file = tmp_path / name
        file.write_text(
            f"domains:\n"
            f"  one: {{data: {data_bin}, teachers: [{one}]}}\n"
            f"  two: {{data: {second_bin}, weight: {weight}, teachers: [{two}]}}\n"
        )
        return f"--ki-mixture {file}"

    return write


def exact(monkeypatch) -> list[tuple[float, dict]]:
    """Objective per row and log of every micro-batch that is trained on from now on."""
    seen = []
    forward = KICriterion.forward

    def recording(self, model, sample, reduce=True):
        loss, rows, log = forward(self, model, sample, reduce)
        if self.training:
            seen.append((float(loss) / rows, {k: float(v) for k, v in log.items()}))
        return loss, rows, log

    monkeypatch.setattr(KICriterion, "forward", recording)
    return seen


def same_weights(one: dict, two: dict) -> bool:
    return all(torch.equal(one["model"][k], two["model"][k]) for k in one["model"])


def with_validation(train) -> str:
    return train.__globals__["COMMON"].replace("--disable-validation", "")


def test_live_and_stored_teachers_give_the_same_losses(
    fairseq_train, data_bin, teacher, second_teacher, stores, mixture, tmp_path, monkeypatch
):
    """Two teachers on two domains, one of them on both; all live, all stored, and some of each."""
    live = {"first": f"{{checkpoint: {teacher}", "second": f"{{checkpoint: {second_teacher}"}
    stored = {key: f"{{store: {path}" for key, path in stores.items()}
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
    seen, results = exact(monkeypatch), {}
    for name, teachers in arms.items():
        option = mixture(*teachers, name=f"{name}.yaml")
        extra = f"{KI} --ki-steps 40 --max-epoch 1 --num-workers 1 {option}"
        fairseq_train(data_bin, tmp_path / name, extra)
        results[name] = seen.copy()
        seen.clear()
    assert len(results["live"]) > 20
    for name in ("stored", "both"):
        for (objective, log), (expected, reference) in zip(results[name], results["live"]):
            assert objective == pytest.approx(expected, rel=1e-3)
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
    seen = exact(monkeypatch)
    option = mixture(f"{{checkpoint: {teacher}}}")
    extra = f"{KI} --ki-schedule constant --ki-rate 1 --max-update 8"
    fairseq_train(data_bin, tmp_path / "run", f"{extra} {option}")
    for objective, log in seen:
        own = 4 * log["ki_loss"] + log["domain:two:loss"]
        assert objective * log["sample_size"] == pytest.approx(own, rel=1e-5)
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


LOGGED = ("loss", "ppl", "teacher_ppl", "agreement")


def test_validation_is_of_all_domains(
    fairseq_train, data_bin, second_bin, teacher, mixture, tmp_path
):
    """And so of those that are only validated; the metric weighs their rows alike."""
    option = mixture(f"{{checkpoint: {teacher}}}", weight=0)
    common = with_validation(fairseq_train)
    extra = (
        f"{KI} --ki-steps 8 --max-update 9 --required-batch-size-multiple 1 "
        "--best-checkpoint-metric two_ppl"
    )
    run = fairseq_train(data_bin, tmp_path / "run", f"{extra} {option}", common=common)
    assert all(float(r["two_loss"]) == 0 < float(r["one_loss"]) for r in run.train)
    last = {k: float(v) for k, v in run.valid[-1].items()}
    assert {"loss", "ppl", "one_loss", "one_ppl", "two_loss", "two_ppl"} <= set(last)
    checkpoint = run.save_dir / "checkpoint_best.pt"
    alone = [validated(data, checkpoint) for data in (data_bin, second_bin)]
    for name, (loss, _) in zip(("one", "two"), alone):
        assert last[f"{name}_loss"] == pytest.approx(loss, abs=1.1e-3)
        assert last[f"{name}_ppl"] == pytest.approx(2**loss, rel=1e-3)
    assert run.state("checkpoint_best.pt")["extra_state"]["best"] == last["two_ppl"]
    (a, n), (b, m) = alone
    assert last["loss"] == pytest.approx((a * n + b * m) / (n + m), abs=1.1e-3)


def validated(data, checkpoint, command="--user-dir fairseq_ki --task ki_mlm --criterion ki"):
    """(loss in bits, rows) that fairseq-validate finds."""
    seen = []
    reduce_metrics = KICriterion.reduce_metrics

    def recording(logging_outputs):
        seen.extend(logging_outputs)
        reduce_metrics(logging_outputs)

    KICriterion.reduce_metrics = staticmethod(recording)
    try:
        words = (
            f"{data} {command} --path {checkpoint} --cpu --batch-size 8 --valid-subset valid "
            "--required-batch-size-multiple 1"
        ).split()
        args, overrides = (
            options.parse_args_and_arch(
                options.get_validation_parser(), input_args=words, suppress_defaults=given_alone
            )
            for given_alone in (False, True)
        )
        fairseq_validate_cli.main(convert_namespace_to_omegaconf(args), overrides)
    finally:
        KICriterion.reduce_metrics = staticmethod(reduce_metrics)
    rows = sum(log["sample_size"] for log in seen)
    return float(sum(log["loss"] for log in seen)) / rows / 0.6931471805599453, rows


def test_teachers_in_validation(fairseq_train, data_bin, teacher, stores, mixture, tmp_path):
    option = mixture(f"{{checkpoint: {teacher}}}")
    extra = f"{KI} --ki-steps 8 --max-update 2 --ki-valid-teacher "
    run = fairseq_train(
        data_bin, tmp_path / "run", extra + option, common=with_validation(fairseq_train)
    )
    assert float(run.valid[-1]["one_teacher_ppl"]) > 1
    assert run.valid[-1]["one_teacher_ppl"] == run.valid[-1]["ki_teacher_ppl"]
    option = mixture(f"{{checkpoint: {teacher}}}", f"{{store: {stores['first', 'two']}}}")
    with pytest.raises(ValueError, match=r"--ki-valid-teacher.*line 3: domains\.two\.teachers\.0"):
        fairseq_train(data_bin, tmp_path / "no", extra + option)


@pytest.mark.parametrize("workers", [0, 2])
def test_resumed_equals_straight_through(
    fairseq_train, data_bin, second_bin, teacher, second_teacher, mixture, tmp_path, workers
):
    """23 updates an epoch: stopped mid-epoch twice, over two epoch ends; live and stored."""
    kept = "--encoding topk --k 5 --mask-epochs 2"
    store = capture(second_bin, second_teacher, tmp_path / "store", kept)
    option = mixture(f"{{checkpoint: {teacher}}}", f"{{store: {store}}}")
    extra = f"{KI} {option} --ki-steps 40 --num-workers {workers} --max-update "
    straight = fairseq_train(data_bin, tmp_path / "straight", extra + "52")
    pieces = [
        fairseq_train(data_bin, tmp_path / "pieces", f"{extra}{n}") for n in ("10", "30", "52")
    ]
    resumed = [r for piece in pieces for r in piece.train]
    assert {r["epoch"] for r in resumed} == {1, 2, 3}
    for key in KEYS:
        assert [r[key] for r in resumed] == [r[key] for r in straight.train], key
    assert same_weights(straight.state(), pieces[-1].state())


def test_a_causal_mixture(fairseq_train, data_bin, second_bin, mixture, tmp_path, monkeypatch):
    """GPTs: sentences of many lengths, live like stored, resumed like straight through."""
    save_dir = tmp_path / "gpt"
    host = "--task language_modeling --criterion cross_entropy --max-update 20"
    fairseq_train(data_bin, save_dir, host, GPT.format(1, 16))
    shutil.copy(data_bin / "dict.txt", save_dir)
    gpt = save_dir / "checkpoint_last.pt"
    blocks = "--sample-break-mode eos --tokens-per-sample 30"
    store = capture(second_bin, gpt, tmp_path / "s", f"--task ki_lm --encoding dense {blocks}")
    extra = (
        f"{CAUSAL} --ki-steps 60 --max-target-positions 18 {blocks} --batch-size 16 "
        "--max-tokens 200 --skip-invalid-size-inputs-valid-test "
    )
    student, live = GPT.format(2, 32), f"{{checkpoint: {gpt}}}"
    seen, losses = exact(monkeypatch), {}
    for name, two in (("live", live), ("stored", f"{{store: {store}}}")):
        option = mixture(live, two, name=f"{name}.yaml")
        fairseq_train(data_bin, tmp_path / name, f"{extra} {option} --max-epoch 1", student)
        losses[name] = [loss for loss, _ in seen]
        seen.clear()
    assert len(losses["live"]) > 20
    assert losses["stored"] == pytest.approx(losses["live"], rel=1e-3)
    extra += f"{option} --num-workers 1 --max-update "
    straight = fairseq_train(data_bin, tmp_path / "straight", extra + "60", student)
    pieces = [fairseq_train(data_bin, tmp_path / "p", f"{extra}{n}", student) for n in ("20", "60")]
    resumed = [r for piece in pieces for r in piece.train]
    assert {r["epoch"] for r in resumed} >= {1, 2}
    for key in KEYS:
        assert [r[key] for r in resumed] == [r[key] for r in straight.train], key


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
    with pytest.raises(ValueError, match=r"domain two, .*temperature.* drawn at 1"):
        fairseq_train(data_bin, tmp_path / "hot", f"{extra} --ki-temperature 2 --ki-mask-seed 9")


def test_the_end_releases_everything(
    fairseq_train, data_bin, second_bin, teacher, mixture, tmp_path, monkeypatch, caplog
):
    """Then neither teacher nor store nor file of them is needed, to go on or to resume."""
    small = tmp_path / "teacher"
    shutil.copytree(teacher.parent, small)
    store = capture(second_bin, teacher, tmp_path / "store", "--encoding topk --k 5")
    option = mixture(f"{{checkpoint: {small / teacher.name}}}", f"{{store: {store}}}")
    extra = f"{KI} {option} --ki-steps 4 --num-workers 0 --data-buffer-size 0 --max-update "
    stored_in_batch = []
    forward = KICriterion.forward

    def recording(self, model, sample, reduce=True):
        stored_in_batch.append(bool(sample[STORED]))
        if self.inheritance.update >= 4:
            assert self.inheritance.source is None
            assert not self.task._domain_stores
        return forward(self, model, sample, reduce)

    monkeypatch.setattr(KICriterion, "forward", recording)
    with caplog.at_level(logging.INFO):
        fairseq_train(data_bin, tmp_path / "run", extra + "8")
    assert "in one: live teacher" in caplog.text
    assert "in two: stored teacher" in caplog.text
    assert any(stored_in_batch[:4])
    assert not any(stored_in_batch[6:])  # one batch is read ahead
    shutil.rmtree(small)
    shutil.rmtree(store)
    resumed = fairseq_train(data_bin, tmp_path / "run", extra + "10")
    assert [r["num_updates"] for r in resumed.train] == ["9", "10"]
    with pytest.raises(ValueError, match=r"line 2: domains\.one\.teachers\.0: .*found none"):
        fairseq_train(data_bin, tmp_path / "new", extra + "10")


def test_a_student_lives_without_the_file(fairseq_train, data_bin, teacher, mixture, tmp_path):
    option = mixture(f"{{checkpoint: {teacher}}}")
    run = fairseq_train(data_bin, tmp_path / "run", f"{KI} {option} --ki-steps 4 --max-update 3")
    file = Path(option.split()[1])
    file.unlink()
    checkpoint = run.save_dir / "checkpoint_last.pt"
    assert validated(data_bin, checkpoint)[1] > 0
    hub = RobertaModel.from_pretrained(
        str(run.save_dir), checkpoint.name, str(data_bin), bpe="characters"
    )
    assert hub.model.encoder.lm_head.weight.size(0) == len(hub.task.source_dictionary)
    later = f"{KI} --ki-steps 4 --max-update 2"
    next_one = fairseq_train(data_bin, tmp_path / "next", f"{later} --ki-teacher {checkpoint}")
    assert float(next_one.train[0]["ki_rate"]) == 1
    tuned = fairseq_train(
        data_bin, tmp_path / "tuned", f"{KI} --max-update 2 --finetune-from-model {checkpoint}"
    )
    assert float(tuned.train[0]["loss"]) > 0
    with pytest.raises(YamlFileError, match=r"mixture\.yaml: expected a file"):
        fairseq_train(data_bin, tmp_path / "run", f"{KI} {option} --ki-steps 4 --max-update 5")


def test_adaptation_of_a_trained_student(fairseq_train, data_bin, teacher, mixture, tmp_path):
    """Domain teacher, replay and self-teaching: entries of the file. Silence is refused."""
    fairseq_train(data_bin, tmp_path / "start", f"{KI} --max-update 6")
    start = tmp_path / "start" / "checkpoint_last.pt"
    option = mixture(
        f"{{checkpoint: {start}}}", f"{{checkpoint: {teacher}}}, {{checkpoint: {start}}}"
    )
    adapt = f"{KI} {option} --ki-steps 4 --max-update 8"
    with pytest.raises(SystemExit, match="--reset-optimizer"):
        fairseq_train(data_bin, tmp_path / "silent", f"{adapt} --restore-file {start}")
    resets = "--reset-optimizer --reset-lr-scheduler --reset-meters --reset-dataloader"
    for begin in (f"--restore-file {start} {resets}", f"--finetune-from-model {start}"):
        run = fairseq_train(data_bin, tmp_path / begin.split()[0], f"{adapt} {begin} --dropout 0")
        first = run.train[0]
        assert float(first["ki_rate"]) == 1
        # of its own start the student knows everything: on domain one it agrees with itself
        assert float(first["one_agreement"]) == 1
        assert float(first["one_teacher_ppl"]) == pytest.approx(float(first["one_ppl"]), rel=1e-3)
        assert float(first["two_agreement"]) < 1


def test_all_teachers_go_when_they_are_surpassed_together(
    fairseq_train, data_bin, teacher, second_teacher, mixture, tmp_path
):
    """On the taught rows of all domains; a run resumed in the streak comes to the same end."""
    option = mixture(f"{{checkpoint: {teacher}}}", f"{{checkpoint: {second_teacher}}}")
    extra = (
        f"{KI} {option} --ki-schedule constant --ki-rate 0.1 --lr 1e-2 --ki-stop-when-surpassed "
        "--ki-surpassed-window 4 --max-update "
    )
    straight = fairseq_train(data_bin, tmp_path / "straight", extra + "60")
    rates = [float(r["ki_rate"]) for r in straight.train]
    let_go = rates.index(0)
    assert rates == [0.1] * let_go + [0.0] * (60 - let_go)
    fairseq_train(data_bin, tmp_path / "run", f"{extra}{let_go - 2}")
    resumed = fairseq_train(data_bin, tmp_path / "run", extra + "60")
    assert [float(r["ki_rate"]) for r in resumed.train] == rates[let_go - 2 :]


@pytest.mark.parametrize("causal", [False, True])
def test_data_gives_the_dictionary_alone(fairseq_train, data_bin, mixture, tmp_path, causal):
    (tmp_path / "data").mkdir()
    shutil.copy(data_bin / "dict.txt", tmp_path / "data")
    common, student = with_validation(fairseq_train), fairseq_train.__globals__["STUDENT"]
    run = fairseq_train(
        tmp_path / "data",
        tmp_path / "run",
        f"{CAUSAL if causal else KI} {mixture()} --max-update 2",
        GPT.format(1, 16) + " --max-target-positions 32" if causal else student,
        common,
    )
    assert float(run.valid[-1]["two_loss"]) > 0
    assert (run.save_dir / "dict.txt").read_text() == (data_bin / "dict.txt").read_text()


def test_half_precision(fairseq_train, data_bin, teacher, stores, mixture, tmp_path):
    both = f"{{checkpoint: {teacher}}}, {{store: {stores['second', 'one']}}}"
    extra = f"{KI} {mixture(both)} --ki-steps 40 --max-update 8 --bf16"
    run = fairseq_train(data_bin, tmp_path / "run", extra)
    assert float(run.train[-1]["ki_loss"]) < float(run.train[0]["ki_loss"])


def test_without_any_teacher_it_is_self_learning(fairseq_train, data_bin, mixture, tmp_path):
    run = fairseq_train(data_bin, tmp_path / "run", f"{KI} {mixture()} --max-update 4")
    assert float(run.train[0]["one_loss"]) > 0
    assert not any(key.startswith("ki_") for key in run.train[0])
    with pytest.raises(ValueError, match=r"--ki-steps: expected a teacher"):
        fairseq_train(data_bin, tmp_path / "no", f"{KI} {mixture()} --ki-steps 4")


@pytest.mark.parametrize(
    ("extra", "message"),
    [
        ("--ki-teacher TEACHER", "--ki-teacher: expected teachers in the file of --ki-mixture"),
        ("--ki-store STORE", "--ki-store: expected teachers in the file"),
        ("--ki-teacher-dict d", "--ki-teacher-dict: expected teachers in the file"),
        ("--ki-tail", "--ki-tail: expected a store in the mixture"),
        ("--skip-masking", "--skip-masking"),
        ("--ki-mixture no.yaml", r"no\.yaml: expected a file"),
    ],
)
def test_options_that_contradict_a_mixture(
    fairseq_train, data_bin, teacher, stores, mixture, tmp_path, extra, message
):
    extra = extra.replace("TEACHER", str(teacher)).replace("STORE", str(stores["first", "one"]))
    option = mixture(f"{{checkpoint: {teacher}}}")
    with pytest.raises(ValueError, match=message):
        fairseq_train(data_bin, tmp_path / "run", f"{KI} {option} --ki-steps 4 {extra}")


def test_files_that_are_wrong(
    fairseq_train, data_bin, second_bin, teacher, stores, mixture, tmp_path
):
    """Refused before any training, with the line."""
    extra = f"{KI} --ki-steps 4 --max-update 2 "
    live, stored = f"{{checkpoint: {teacher}}}", f"{{store: {stores['first', 'one']}}}"
    with pytest.raises(ValueError, match=r"line 2: domains\.one\.teachers\.1: .*found none at"):
        fairseq_train(data_bin, tmp_path / "a", extra + mixture(f"{live}, {{checkpoint: no.pt}}"))
    with pytest.raises(UnfinishedError, match=r"line 2: domains\.one\.teachers\.0: "):
        fairseq_train(data_bin, tmp_path / "b", extra + mixture(f"{{store: {tmp_path}}}"))
    with pytest.raises(MismatchError, match=r"line 3: domains\.two\.teachers\.0: .*data-bin split"):
        fairseq_train(data_bin, tmp_path / "c", extra + mixture("", stored))
    twice = capture(data_bin, teacher, tmp_path / "s", "--encoding topk --k 3 --mask-epochs 2")
    with pytest.raises(MismatchError, match=r"line 2: domains\.one: .*mask epochs.*found 1, 2"):
        fairseq_train(data_bin, tmp_path / "d", extra + mixture(f"{stored}, {{store: {twice}}}"))
    tailed = capture(data_bin, teacher, tmp_path / "t", "--encoding topk --k 3 --tail")
    both = mixture(f"{live}, {{store: {tailed}}}")
    with pytest.raises(ValueError, match=r"line 2: domains\.one: expected one teacher for --ki-ta"):
        fairseq_train(data_bin, tmp_path / "e", f"{extra} {both} --ki-tail")
    alone = mixture(f"{{store: {tailed}}}", live)
    run = fairseq_train(data_bin, tmp_path / "f", f"{extra} {alone} --ki-tail --ki-temperature 1")
    assert float(run.train[0]["one_teacher_ppl"]) > 1
    with pytest.raises(ValueError, match="one directory as DATA"):
        fairseq_train(f"{data_bin}:{second_bin}", tmp_path / "g", extra + mixture(live))
    shutil.copytree(data_bin, tmp_path / "half")
    (tmp_path / "half" / "train.idx").unlink()
    file = tmp_path / "half.yaml"
    file.write_text(f"domains:\n  half: {{data: {tmp_path / 'half'}}}\n")
    with pytest.raises(ValueError, match=r"line 2: domains\.half: .*'train'"):
        fairseq_train(data_bin, tmp_path / "h", f"{KI} --max-update 2 --ki-mixture {file}")
    assert not list(tmp_path.glob("[a-eg-h]/*.pt"))


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["legacy_ddp", "pytorch_ddp"])
def test_two_ranks_equal_one(
    fairseq_train, data_bin, teacher, stores, mixture, student_options, tmp_path, backend
):
    """Small batches, so that often a rank has no row of a domain; dropout 0: ranks draw own."""
    option = mixture(f"{{checkpoint: {teacher}}}", f"{{store: {stores['second', 'two']}}}")
    extra = (
        f"{KI} {option} --ki-steps 30 --max-update 12 --dropout 0 --attention-dropout 0 "
        "--num-workers 1 --batch-size 2"
    )
    one = fairseq_train(data_bin, tmp_path / "one", f"{extra} --update-freq 4")
    command = (
        f"-m torch.distributed.run --nproc-per-node 2 --standalone -m fairseq_cli.train {data_bin} "
        f"{student_options} --save-dir {tmp_path / 'two'} {extra} --update-freq 2 "
        f"--ddp-backend {backend}"
    )
    done = subprocess.run(
        [sys.executable, *command.split()], capture_output=True, text=True, timeout=240
    )
    assert done.returncode == 0, (done.stdout + done.stderr)[-3000:]
    lines = (done.stdout + done.stderr).splitlines()
    two = [json.loads(x.split("| train_inner | ")[1]) for x in lines if "| train_inner | " in x]
    assert len(two) == 12
    assert len({frozenset(r) for r in two}) == 1
    for a, b in zip(one.train, two):
        for key in (*KEYS[1:], "one_teacher_ppl", "two_teacher_ppl", "one_agreement"):
            assert float(a[key]) == pytest.approx(float(b[key]), rel=1e-3, abs=0.0011), key
