"""Task ki_mlm as fairseq-train runs it: parity, masks, resume, release, refusals."""

import os
import shutil

import numpy as np
import pytest
import torch
from fairseq import options, tasks
from fairseq.dataclass.utils import convert_namespace_to_omegaconf
from fairseq.models.roberta import RobertaModel
from trained import KI, same_weights, stopped_and_resumed, validated

HOST = "--task masked_lm --criterion masked_lm"


def test_without_a_teacher_it_trains_as_masked_lm(fairseq_train, data_bin, tmp_path):
    """Same printed losses, same weights, over the 15 updates of epoch 1 and beyond."""
    ours = fairseq_train(data_bin, tmp_path / "ours", f"{KI} --max-update 20")
    host = fairseq_train(data_bin, tmp_path / "host", f"{HOST} --max-update 20")
    assert len(ours.losses) == 20
    assert ours.losses == host.losses
    assert same_weights(ours.state(), host.state())
    assert not any(key.startswith("ki_") for key in ours.train[0])


def build_task(data_bin, tmp_path, extra=""):
    args = options.parse_args_and_arch(
        options.get_training_parser(),
        input_args=f"{data_bin} --user-dir fairseq_ki {KI} --arch roberta --save-dir {tmp_path} "
        f"--tokens-per-sample 32 --batch-size 8 {extra}".split(),
    )
    task = tasks.setup_task(convert_namespace_to_omegaconf(args).task)
    task.load_dataset("train", epoch=1, combine=True)
    return task


def epochs_of_batches(task, workers: int, epochs: int, resume_after: int | None = None):
    """{(epoch, sample id): (source, target)} as a training would see them."""
    seen = {}
    iterator = task.get_batch_iterator(task.dataset("train"), max_sentences=8, num_workers=workers)
    _ = iterator.first_batch  # fairseq's trainer asks for it, and so warms every cache
    for _epoch in range(epochs):
        batches = iterator.next_epoch_itr(shuffle=True)
        for n, batch in enumerate(batches, start=1):
            for i, index in enumerate(batch["id"].tolist()):
                key = (iterator.epoch, index)
                pair = (batch["net_input"]["src_tokens"][i], batch["target"][i])
                assert key not in seen
                seen[key] = pair
            if resume_after == n and iterator.epoch == 2:
                state = iterator.state_dict()
                task.dataset_to_epoch_iter.clear()
                iterator = task.get_batch_iterator(
                    task.dataset("train"), max_sentences=8, num_workers=workers, epoch=2
                )
                _ = iterator.first_batch
                iterator.load_state_dict(state)
                for batch2 in iterator.next_epoch_itr(shuffle=True):
                    for i, index in enumerate(batch2["id"].tolist()):
                        seen[(2, index)] = (
                            batch2["net_input"]["src_tokens"][i],
                            batch2["target"][i],
                        )
                break
    return seen


def test_masks_follow_the_epoch_whatever_the_workers(data_bin, tmp_path):
    reference = epochs_of_batches(build_task(data_bin, tmp_path), workers=0, epochs=3)
    with_workers = epochs_of_batches(build_task(data_bin, tmp_path), workers=2, epochs=3)
    resumed = epochs_of_batches(build_task(data_bin, tmp_path), workers=2, epochs=3, resume_after=6)
    assert reference.keys() == with_workers.keys() == resumed.keys()
    for key, (source, target) in reference.items():
        for other in (with_workers, resumed):
            assert torch.equal(source, other[key][0]), key
            assert torch.equal(target, other[key][1]), key
    blocks = {index for _, index in reference}
    changed = sum(not torch.equal(reference[1, i][1], reference[2, i][1]) for i in blocks)
    assert changed > 0.9 * len(blocks)


def test_validation_masks_do_not_depend_on_the_seed(fairseq_train, data_bin, tmp_path):
    def first_target(seed, valid_seed):
        task = build_task(data_bin, tmp_path, f"--seed {seed} --ki-valid-mask-seed {valid_seed}")
        task.load_dataset("valid")
        return task.dataset("valid")[0]["target"]

    assert torch.equal(first_target(1, 1), first_target(7, 1))
    assert not torch.equal(first_target(1, 1), first_target(1, 7))


def test_mask_whole_words_takes_or_leaves_whole_words(tmp_path):
    from fairseq.data import Dictionary
    from fairseq.data.indexed_dataset import MMapIndexedDatasetBuilder

    dictionary = Dictionary()
    for i in range(40):
        dictionary.add_symbol(f"\u2581w{i}" if i % 2 == 0 else f"w{i}", n=100 - i)
    dictionary.save(str(tmp_path / "dict.txt"))
    dictionary = Dictionary.load(str(tmp_path / "dict.txt"))
    builder = MMapIndexedDatasetBuilder(str(tmp_path / "train.bin"), dtype=np.uint16)
    for _ in range(50):
        # every word is a beginning and two pieces that continue it
        words = " ".join(f"\u2581w{2 * i} w{2 * i + 1} w{2 * i + 1}" for i in range(9))
        builder.add_item(dictionary.encode_line(words).long())
    builder.finalize(str(tmp_path / "train.idx"))
    task = build_task(tmp_path, tmp_path, "--mask-whole-words --sample-break-mode eos")
    pad, masked = dictionary.pad(), 0
    for i in range(20):
        target = task.dataset("train")[i]["target"][1:28].view(9, 3)  # between <s> and </s>
        chosen = target.ne(pad)
        assert torch.equal(chosen.any(dim=1), chosen.all(dim=1))
        masked += int(chosen.sum())
    assert masked > 0


def test_mask_whole_words_needs_to_know_words(data_bin, tmp_path):
    with pytest.raises(ValueError, match="--mask-whole-words"):
        build_task(data_bin, tmp_path, "--mask-whole-words")


def test_rates_are_logged_and_the_teacher_is_released(fairseq_train, data_bin, teacher, tmp_path):
    run = fairseq_train(
        data_bin, tmp_path, f"{KI} --ki-teacher {teacher} --ki-steps 8 --max-update 12"
    )
    assert [float(r["ki_rate"]) for r in run.train] == [
        pytest.approx(max(1 - t / 8, 0), abs=1e-5) for t in range(12)
    ]
    keys = [set(r) for r in run.train]
    assert all(k == keys[0] for k in keys)
    assert {"ki_objective", "ki_loss", "ki_teacher_ppl", "ki_agreement"} <= keys[0]
    assert float(run.train[0]["ki_teacher_ppl"]) > 1
    assert float(run.train[-1]["ki_teacher_ppl"]) == 0
    # at rate 1 the objective is the KL alone, times the temperature squared
    first = run.train[0]
    assert float(first["ki_objective"]) == pytest.approx(4 * float(first["ki_loss"]), abs=3e-3)
    assert run.train[-1]["ki_objective"] == run.train[-1]["loss"]


def test_the_teacher_is_in_no_checkpoint(fairseq_train, data_bin, teacher, tmp_path):
    run = fairseq_train(
        data_bin, tmp_path / "ki", f"{KI} --ki-teacher {teacher} --ki-steps 8 --max-update 3"
    )
    alone = fairseq_train(data_bin, tmp_path / "alone", f"{KI} --max-update 3")
    ki, self_learning = run.state(), alone.state()
    assert ki["model"].keys() == self_learning["model"].keys()
    assert ki["criterion"] is None
    optimizer = [s["last_optimizer_state"]["state"] for s in (ki, self_learning)]
    assert len(optimizer[0]) == len(optimizer[1])


@pytest.mark.parametrize("workers", [0, 2])
def test_resumed_equals_straight_through(fairseq_train, data_bin, teacher, tmp_path, workers):
    """15 updates an epoch: stopped at 10 (mid-epoch) and 22, over two epoch ends."""
    extra = f"{KI} --ki-teacher {teacher} --ki-steps 30 --num-workers {workers}"
    keys = ("loss", "ki_rate", "ki_loss", "ki_objective")
    stopped_and_resumed(fairseq_train, data_bin, tmp_path, extra, (10, 22, 40), keys)


def test_a_student_lives_without_its_teacher(fairseq_train, data_bin, teacher, tmp_path):
    gone = tmp_path / "teacher"
    shutil.copytree(teacher.parent, gone)
    extra = f"{KI} --ki-teacher {gone / teacher.name} --ki-steps 4 --max-update "
    student = fairseq_train(data_bin, tmp_path / "student", extra + "6")
    shutil.rmtree(gone)

    checkpoint = student.save_dir / "checkpoint_last.pt"
    resumed = fairseq_train(data_bin, tmp_path / "student", extra + "8")
    assert [r["num_updates"] for r in resumed.train] == ["7", "8"]

    shutil.copy(data_bin / "dict.txt", student.save_dir)
    hub = RobertaModel.from_pretrained(
        str(student.save_dir), checkpoint.name, str(data_bin), bpe="characters"
    )
    assert hub.model.encoder.lm_head.weight.size(0) == len(hub.task.source_dictionary)

    assert validated(data_bin, checkpoint)[1] > 0

    next_one = fairseq_train(
        data_bin, tmp_path / "next", f"{KI} --ki-teacher {checkpoint} --ki-steps 4 --max-update 2"
    )
    assert float(next_one.train[0]["ki_rate"]) == 1


def test_a_missing_teacher_stops_a_run_that_still_needs_it(
    fairseq_train, data_bin, teacher, tmp_path
):
    gone = tmp_path / "teacher"
    shutil.copytree(teacher.parent, gone)
    extra = f"{KI} --ki-teacher {gone / teacher.name} --ki-steps 40 --max-update "
    fairseq_train(data_bin, tmp_path / "student", extra + "6")
    shutil.rmtree(gone)
    with pytest.raises(SystemExit, match="expected a file, found none"):
        fairseq_train(data_bin, tmp_path / "student", extra + "8")


def test_a_run_that_would_teach_nothing_is_refused(fairseq_train, data_bin, teacher, tmp_path):
    fairseq_train(data_bin, tmp_path / "student", f"{KI} --max-update 6")
    checkpoint = tmp_path / "student" / "checkpoint_last.pt"
    adapt = f"{KI} --ki-teacher {teacher} --ki-steps 4 --max-update 8"
    with pytest.raises(SystemExit, match="--reset-optimizer"):
        fairseq_train(data_bin, tmp_path / "a", f"{adapt} --restore-file {checkpoint}")
    with pytest.raises(SystemExit, match="--reset-optimizer"):  # the same save-dir, no teacher then
        fairseq_train(data_bin, tmp_path / "student", adapt)
    resets = "--reset-optimizer --reset-lr-scheduler --reset-meters --reset-dataloader"
    for start in (f"--restore-file {checkpoint} {resets}", f"--finetune-from-model {checkpoint}"):
        run = fairseq_train(data_bin, tmp_path / start.split()[0], f"{adapt} {start}")
        assert float(run.train[0]["ki_rate"]) == 1


def test_another_runs_end_is_not_this_ones(fairseq_train, data_bin, teacher, tmp_path):
    """--continue-once names a checkpoint of another run as --restore-file does."""
    adapt = f"{KI} --ki-teacher {teacher} --ki-steps 4 --max-update "
    fairseq_train(data_bin, tmp_path / "one", f"{adapt} 6")
    other = tmp_path / "one" / "checkpoint_last.pt"
    with pytest.raises(SystemExit, match="--reset-optimizer"):
        fairseq_train(data_bin, tmp_path / "two", f"{adapt} 8 --continue-once {other}")
    (tmp_path / "link").symlink_to(tmp_path / "one")  # another name of the run's own save-dir
    fairseq_train(data_bin, tmp_path / "link", f"{adapt} 8 --restore-file {other}")


def test_the_dictionary_goes_with_the_checkpoints(fairseq_train, data_bin, tmp_path, monkeypatch):
    """Two projects call their data "data-bin", and their dictionaries have equal size."""
    for project in ("a", "b"):
        shutil.copytree(data_bin, tmp_path / project / "data-bin")
    dictionary = tmp_path / "b" / "data-bin" / "dict.txt"
    _, *others = dictionary.read_text().splitlines()
    dictionary.write_text("\n".join(["another 1", *others]) + "\n")
    monkeypatch.chdir(tmp_path / "a")
    fairseq_train("data-bin", "small", f"{KI} --max-update 1")
    monkeypatch.chdir(tmp_path / "b")
    extra = f"{KI} --ki-teacher {tmp_path / 'a' / 'small' / 'checkpoint_last.pt'} --ki-steps 4"
    with pytest.raises(ValueError, match="found 1 missing from the teacher's"):
        fairseq_train("data-bin", "large", f"{extra} --max-update 2")
    with pytest.raises(ValueError, match=r"--save-dir .*found another dict\.txt"):
        fairseq_train("data-bin", tmp_path / "a" / "small", f"{KI} --max-update 2")


def test_the_teacher_is_let_go_when_surpassed_and_stays_away(
    fairseq_train, data_bin, teacher, tmp_path
):
    """The teacher had 30 updates at width 16; at its own peak rate the student passes it."""
    extra = (
        f"{KI} --ki-teacher {teacher} --ki-schedule constant --ki-rate 0.1 --lr 1e-2 "
        "--ki-stop-when-surpassed --ki-surpassed-window 5 --max-update "
    )
    straight = fairseq_train(data_bin, tmp_path / "straight", extra + "90")
    rates = [float(r["ki_rate"]) for r in straight.train]
    let_go = rates.index(0)
    assert rates == [0.1] * let_go + [0.0] * (90 - let_go)
    for stop in (let_go - 2, let_go + 2):  # in the middle of the streak, and after the end
        fairseq_train(data_bin, tmp_path / str(stop), f"{extra}{stop}")
        resumed = fairseq_train(data_bin, tmp_path / str(stop), f"{extra}90")
        assert [float(r["ki_rate"]) for r in resumed.train] == rates[stop:]


def test_masked_lm_criterion_would_ignore_the_teacher(fairseq_train, data_bin, teacher, tmp_path):
    with pytest.raises(ValueError, match="--criterion ki"):
        fairseq_train(
            data_bin, tmp_path, f"--task ki_mlm --criterion masked_lm --ki-teacher {teacher}"
        )
    assert not list(tmp_path.glob("*.pt"))  # no crash.pt for what was only refused


@pytest.mark.parametrize("option", ["--skip-masking", "--d2v2-multi"])
def test_host_options_no_teacher_can_follow(fairseq_train, data_bin, teacher, tmp_path, option):
    with pytest.raises(ValueError, match=option):
        fairseq_train(data_bin, tmp_path, f"{KI} --ki-teacher {teacher} --ki-steps 4 {option}")


@pytest.mark.parametrize(
    ("options_", "message"),
    [
        ("--ki-steps 0", "--ki-steps"),
        ("--ki-steps 5 --ki-rate 1.5", "--ki-rate"),
        ("--ki-steps 5 --ki-temperature 0", "--ki-temperature"),
        ("--ki-steps 5 --ki-stop-when-surpassed --ki-surpassed-window 0", "--ki-surpassed-window"),
    ],
)
def test_bad_numbers_are_refused(fairseq_train, data_bin, teacher, tmp_path, options_, message):
    with pytest.raises(ValueError, match=message):
        fairseq_train(data_bin, tmp_path, f"{KI} --ki-teacher {teacher} {options_}")
    assert not os.path.exists(tmp_path / "checkpoint_last.pt")


@pytest.mark.parametrize(
    "option",
    ["--ki-steps 5", "--ki-rate 0.5", "--ki-teacher-dict d", "--ki-tail", "--ki-valid-teacher"],
)
def test_teacher_options_without_a_teacher_are_refused(fairseq_train, data_bin, tmp_path, option):
    with pytest.raises(ValueError, match=option.split()[0]):
        fairseq_train(data_bin, tmp_path, f"{KI} {option}")


def test_label_smoothing_changes_training_and_no_log(fairseq_train, data_bin, teacher, tmp_path):
    """Table 10: the objective is smoothed, `loss` is not, with and without a teacher."""
    guided = f"--ki-teacher {teacher} --ki-schedule constant"
    for name, more in (("alone", ""), ("guided", guided)):
        plain, smoothed = (
            fairseq_train(
                data_bin,
                tmp_path / f"{name}{epsilon}",
                f"{KI} {more} --ki-label-smoothing {epsilon} --max-update 3",
            )
            for epsilon in (0.0, 0.3)
        )
        assert plain.train[0]["loss"] == smoothed.train[0]["loss"]
        assert plain.losses[1:] != smoothed.losses[1:]
        assert not same_weights(plain.state(), smoothed.state())
    first = [run.train[0]["ki_objective"] for run in (plain, smoothed)]
    assert first[0] != first[1]


def test_label_smoothing_out_of_range(fairseq_train, data_bin, tmp_path):
    with pytest.raises(ValueError, match="smoothing"):
        fairseq_train(data_bin, tmp_path, f"{KI} --ki-label-smoothing 1.5")
