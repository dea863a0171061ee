"""Task ki_lm as fairseq-train runs it: parity, the objective, resume, release, refusals."""

import shutil

import pytest
import torch
from fairseq import checkpoint_utils, criterions, options, tasks, utils
from fairseq.dataclass.utils import convert_namespace_to_omegaconf
from trained import same_weights, stopped_and_resumed

from fairseq_ki.models.ki_teacher import load_teacher
from fairseq_ki.objective.positions import Positions

KI = "--task ki_lm --criterion ki"
HOST = "--task language_modeling --criterion cross_entropy"
SIZES = (
    "--decoder-layers {} --decoder-embed-dim {} --decoder-ffn-embed-dim 32 "
    "--decoder-attention-heads 2"
)
# those of the other runs, but with validation and without options that not all models have
PLAIN_OPTIONS = (
    "--tokens-per-sample 32 --batch-size 8 --optimizer adam --lr 5e-3 --cpu --log-format json "
    "--log-interval 1 --no-progress-bar --num-workers 0"
)
STUDENT = "--arch gpt_73m " + SIZES.format(2, 32)
TEACHER = "--arch gpt_73m " + SIZES.format(1, 16)


@pytest.fixture(scope="module")
def lm_train(fairseq_train, data_bin):
    def train(save_dir, extra, model=STUDENT):
        return fairseq_train(data_bin, save_dir, extra, model)

    return train


@pytest.fixture(scope="module")
def gpt(lm_train, tmp_path_factory):
    """A causal LM trained for a few updates by fairseq's own task."""
    save_dir = tmp_path_factory.mktemp("gpt")
    lm_train(save_dir, f"{HOST} --max-update 30", TEACHER)
    return save_dir / "checkpoint_last.pt"


@pytest.mark.parametrize(
    "host_options",
    [
        "",
        "--add-bos-token --max-target-positions 33",
        "--sample-break-mode eos",
        "--sample-break-mode complete --tokens-per-sample 20 --update-freq 2",
        "--sample-break-mode eos --pad-to-fixed-length --pad-to-fixed-bsz",
        "--sample-break-mode eos --shorten-method random_crop --tokens-per-sample 12",
        "--output-dictionary-size 40",
    ],
)
def test_without_a_teacher_it_trains_as_language_modeling(lm_train, tmp_path, host_options):
    ours = lm_train(tmp_path / "ours", f"{KI} --max-update 20 {host_options}")
    host = lm_train(tmp_path / "host", f"{HOST} --max-update 20 {host_options}")
    assert len(ours.losses) == 20
    clocks = {"wall", "train_wall", "wps", "ups"}
    for one, two in zip(ours.train, host.train):
        assert one.keys() == two.keys()
        assert {k: one[k] for k in one.keys() - clocks} == {k: two[k] for k in two.keys() - clocks}
    assert same_weights(ours.state(), host.state())


class Update:
    """One micro-batch of a training: the student, a teacher, and what the criterion returns."""

    def __init__(self, data_bin, gpt, tmp_path, rate: float, extra: str = "") -> None:
        args = options.parse_args_and_arch(
            options.get_training_parser(),
            input_args=f"{data_bin} --user-dir fairseq_ki {KI} {STUDENT} --save-dir {tmp_path} "
            f"--tokens-per-sample 32 --sample-break-mode eos --dropout 0 --attention-dropout 0 "
            f"--max-target-positions 32 --ki-teacher {gpt} --ki-schedule constant "
            f"--ki-rate {rate} {extra}".split(),
        )
        cfg = convert_namespace_to_omegaconf(args)
        utils.set_torch_seed(3)
        self.task = tasks.setup_task(cfg.task)
        self.student = self.task.build_model(cfg.model)
        self.criterion = criterions.build_criterion(cfg.criterion, self.task)
        self.task.inheritance = self.criterion.inheritance
        self.task.inheritance.begin_update(0, self.task.open_source)
        self.task.load_dataset("train")
        dataset = self.task.dataset("train")
        self.sample = dataset.collater([dataset[i] for i in range(8)])

    def gradients(self, objective):
        self.student.zero_grad()
        objective.backward()
        return {n: p.grad.clone() for n, p in self.student.named_parameters()}


@pytest.mark.parametrize("extra", ["", "--find-unused-parameters"])
@pytest.mark.parametrize(("rate", "tau"), [(1.0, 2.0), (0.3, 1.0), (0.6, 3.0)])
def test_the_objective_is_the_formula(data_bin, gpt, tmp_path, rate, tau, extra):
    """Equation 2 over all positions that are no padding, written out; and its gradient."""
    update = Update(data_bin, gpt, tmp_path, rate, f"--ki-temperature {tau} {extra}")
    objective, sample_size, log = update.criterion(update.student, update.sample)
    found = update.gradients(objective)

    teacher = load_teacher(str(gpt), update.task, dictionary=None, causal=True, positions=32).model
    target = update.sample["target"]
    assert target.eq(1).any()  # sentences of several lengths: there is padding
    expected, rows, agreement = 0.0, 0, 0
    student_logits = update.student(**update.sample["net_input"])[0]
    teacher_logits = teacher(**update.sample["net_input"])[0].detach()
    for i in range(target.size(0)):
        for t in range(int(target[i].ne(1).sum())):
            z, s = student_logits[i, t], teacher_logits[i, t]
            cross_entropy = -z.log_softmax(0)[target[i, t]]
            p, log_q = (s / tau).softmax(0), (z / tau).log_softmax(0)
            kl = (p * (p.log() - log_q)).sum()
            expected = expected + (1 - rate) * cross_entropy + rate * tau**2 * kl
            rows += 1
            agreement += int(z.argmax() == s.argmax())
    torch.testing.assert_close(objective, expected, rtol=1e-5, atol=1e-4)
    for name, gradient in update.gradients(expected).items():
        torch.testing.assert_close(found[name], gradient, rtol=1e-4, atol=1e-4, msg=name)
    assert sample_size == log["sample_size"] == log["ntokens"] == rows
    assert log["nsentences"] == 8
    assert int(log["ki_agreement"]) == agreement


def test_rates_are_logged_and_the_teacher_is_released(lm_train, gpt, tmp_path, caplog):
    run = lm_train(tmp_path, f"{KI} --ki-teacher {gpt} --ki-steps 8 --max-update 12")
    assert [float(r["ki_rate"]) for r in run.train] == [
        pytest.approx(max(1 - t / 8, 0), abs=1e-5) for t in range(12)
    ]
    assert all(r.keys() == run.train[0].keys() for r in run.train)
    assert 1 < float(run.train[0]["ki_teacher_ppl"]) < 64  # the teacher has learned something
    assert [float(r["ki_teacher_ppl"]) for r in run.train[8:]] == [0] * 4
    first, last = run.train[0], run.train[-1]
    assert float(first["ki_objective"]) == pytest.approx(4 * float(first["ki_loss"]), abs=3e-3)
    assert last["ki_objective"] == last["loss"]
    assert float(last["ppl"]) == pytest.approx(2 ** float(last["loss"]), abs=0.1)
    assert "teacher released" in caplog.text


def test_the_teacher_is_in_no_checkpoint(lm_train, gpt, tmp_path):
    ki = lm_train(tmp_path / "ki", f"{KI} --ki-teacher {gpt} --ki-steps 8 --max-update 2").state()
    alone = lm_train(tmp_path / "alone", f"{HOST} --max-update 2").state()
    assert ki["model"].keys() == alone["model"].keys()
    assert ki["criterion"] is None
    optimizers = [s["last_optimizer_state"]["state"] for s in (ki, alone)]
    assert len(optimizers[0]) == len(optimizers[1])


def test_resumed_equals_straight_through(fairseq_train, data_bin, gpt, tmp_path):
    """15 updates an epoch: stopped at 10 and 21, both mid-epoch; the teacher goes at 28.

    fairseq's own language_modeling sees other batches after the second stop.
    """
    extra = f"{KI} --ki-teacher {gpt} --ki-steps 28 --num-workers 2"
    keys = ("loss", "ki_rate", "ki_loss", "ki_objective")
    records = stopped_and_resumed(
        fairseq_train, data_bin, tmp_path, extra, (10, 21, 36), keys, STUDENT
    )
    assert len(records) == 36


def test_validation_is_that_of_cross_entropy(fairseq_train, data_bin, gpt, tmp_path):
    """Same weights, same PPL; with a teacher too, consulted or not."""

    def valid(name, extra):
        extra += " --max-update 16 --keep-last-epochs 1"
        return fairseq_train(data_bin, tmp_path / name, extra, STUDENT, PLAIN_OPTIONS).valid

    host, ours = valid("host", HOST), valid("ours", KI)
    assert len(host) == 2  # at the end of the epoch, and of the run
    results = ("loss", "ppl", "num_updates", "best_loss")
    for one, two in zip(host, ours, strict=True):
        assert one.keys() == two.keys()
        assert [one.get(k) for k in results] == [two.get(k) for k in results]
    taught = f"{KI} --ki-teacher {gpt} --ki-steps 40"
    silent, asked = valid("silent", taught), valid("asked", f"{taught} --ki-valid-teacher")
    for one, two in zip(silent, asked, strict=True):
        assert [one.get(k) for k in results] == [two.get(k) for k in results]
        assert float(one["ki_teacher_ppl"]) == 0
        assert 1 < float(two["ki_teacher_ppl"]) < 64
        assert 0 < float(two["ki_agreement"]) < 1


@pytest.mark.parametrize(
    ("extra", "message"),
    [
        ("--output-dictionary-size 40", "--output-dictionary-size 40"),
        ("--adaptive-softmax-cutoff 10,30", "--adaptive-softmax-cutoff"),
        ("--sentence-avg", "--sentence-avg"),
        ("--tokens-per-sample 48", "expected at least 48 positions .* found 32"),
        ("--add-bos-token --max-target-positions 33", "expected at least 33 positions"),
        (
            "--sample-break-mode eos --max-target-positions 40",
            "expected at least 40 positions .* found 32",
        ),
        ("--ki-steps 0", "--ki-steps"),
    ],
)
def test_what_no_teacher_can_follow_is_refused(lm_train, gpt, tmp_path, extra, message):
    with pytest.raises(ValueError, match=message):
        lm_train(tmp_path, f"{KI} --ki-teacher {gpt} --ki-steps 4 --max-update 1 {extra}")
    assert not (tmp_path / "checkpoint_last.pt").exists()


def test_another_criterion_or_direction_is_refused(
    fairseq_train, lm_train, data_bin, gpt, tmp_path
):
    task = f"--task ki_lm --ki-teacher {gpt} --max-update 1"
    with pytest.raises(ValueError, match="expected --criterion ki, found CrossEntropyCriterion"):
        lm_train(tmp_path, f"{task} --criterion cross_entropy")
    with pytest.raises(ValueError, match="expected to predict the next token"):  # with RoBERTa
        fairseq_train(data_bin, tmp_path, f"{task} --criterion ki --ki-steps 4 --self-target")


def test_a_masked_teacher_is_refused_and_a_causal_one_by_ki_mlm(
    fairseq_train, lm_train, data_bin, teacher, gpt, tmp_path
):
    with pytest.raises(ValueError, match=r"expected a causal language model .*'roberta'"):
        lm_train(tmp_path, f"{KI} --ki-teacher {teacher} --ki-steps 4")
    with pytest.raises(ValueError, match=r"expected a masked LM .*'gpt_73m'"):
        fairseq_train(
            data_bin, tmp_path, f"--task ki_mlm --criterion ki --ki-teacher {gpt} --ki-steps 4"
        )


def test_another_dictionary_is_refused(lm_train, gpt, data_bin, tmp_path):
    lines = (data_bin / "dict.txt").read_text().splitlines()
    other = tmp_path / "dict.txt"
    other.write_text("\n".join(["another 1", *lines[1:]]) + "\n")
    with pytest.raises(ValueError, match="found 1 missing from the teacher's"):
        extra = f"{KI} --ki-teacher {gpt} --ki-teacher-dict {other} --ki-steps 4"
        lm_train(tmp_path / "run", extra)


PLAIN = "--arch transformer_lm " + SIZES.format(2, 16)


@pytest.mark.parametrize(
    "model",
    [
        TEACHER,  # learned positions, tied, pre-norm
        # sinusoidal, untied, post-norm, projections from and to 512
        PLAIN,
        PLAIN + " --decoder-output-dim 8 --decoder-input-dim 8 --share-decoder-input-output-embed",
        "--arch transformer_lm_gpt --no-decoder-final-norm --layernorm-embedding "
        + SIZES.format(1, 16),
        PLAIN + " --character-embeddings --decoder-input-dim 16 --decoder-output-dim 16",
        PLAIN + " --adaptive-input --adaptive-input-cutoff 10,30 --decoder-input-dim 16",
        PLAIN + " --no-token-positional-embeddings --checkpoint-activations",
    ],
)
def test_a_teacher_says_what_its_model_says(lm_train, data_bin, tmp_path, model):
    checkpoint = lm_train(tmp_path, f"{HOST} --max-update 1", model).save_dir / "checkpoint_last.pt"
    (host,), _, task = checkpoint_utils.load_model_ensemble_and_task([str(checkpoint)])
    host.eval()
    teacher = load_teacher(str(checkpoint), task, dictionary=None, causal=True, positions=32)
    tokens = torch.randint(4, 64, (3, 32))
    rows = torch.rand(3, 32) < 0.7
    hidden, weight, bias = teacher.head_input({"src_tokens": tokens}, Positions.where(rows))
    logits = torch.nn.functional.linear(hidden, weight, bias)
    torch.testing.assert_close(logits, host(tokens)[0][rows])


@pytest.mark.parametrize(
    ("model", "host", "message"),
    [
        (
            PLAIN,
            "--criterion adaptive_loss --adaptive-softmax-cutoff 10,30 --ddp-backend legacy_ddp",
            "plain output projection, found TransformerLanguageModel",
        ),
        (PLAIN, "--output-dictionary-size 40", "expected 64 .* found 40"),
        (
            PLAIN + " --decoder-layers 3 --decoder-layers-to-keep 0,2",
            "",
            "expected weights that fit the architecture",
        ),
    ],
)
def test_teachers_that_cannot_be_asked(lm_train, tmp_path, model, host, message):
    bad = lm_train(tmp_path / "bad", f"{HOST} --max-update 1 {host}", model)
    checkpoint = bad.save_dir / "checkpoint_last.pt"
    with pytest.raises(ValueError, match=message):
        lm_train(tmp_path / "ki", f"{KI} --ki-teacher {checkpoint} --ki-steps 4 --max-update 1")


def test_a_student_with_another_head_still_learns_from_its_teacher(
    fairseq_train, data_bin, gpt, tmp_path
):
    """lstm_lm: its logits come from its own forward, whole."""
    model = "--arch lstm_lm --decoder-hidden-size 16 --decoder-out-embed-dim 16"
    run = fairseq_train(
        data_bin,
        tmp_path,
        f"{KI} --ki-teacher {gpt} --ki-steps 20 --max-update 10",
        model=model,
        common=PLAIN_OPTIONS,
    )
    assert float(run.train[-1]["ki_loss"]) < 0.8 * float(run.train[0]["ki_loss"])


def test_it_follows_its_teacher(lm_train, gpt, tmp_path):
    """At a constant rate of 1 the student is taught by the teacher alone, and comes near it."""
    extra = f"{KI} --ki-teacher {gpt} --ki-schedule constant --ki-rate 1 --max-update 40"
    run = lm_train(tmp_path, extra)
    assert float(run.train[-1]["ki_loss"]) < 0.2 * float(run.train[0]["ki_loss"])
    assert float(run.train[-1]["ki_agreement"]) > float(run.train[0]["ki_agreement"])


def test_the_same_run_goes_on_after_the_teacher_is_gone(lm_train, gpt, tmp_path):
    gone = tmp_path / "teacher"
    gone.mkdir()
    shutil.copy(gpt, gone)
    extra = f"{KI} --ki-teacher {gone / gpt.name} --ki-steps 4 --max-update "
    lm_train(tmp_path / "student", extra + "6")
    shutil.rmtree(gone)
    resumed = lm_train(tmp_path / "student", extra + "8")
    assert [r["num_updates"] for r in resumed.train] == ["7", "8"]
