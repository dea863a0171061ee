"""``fairseq-ki grow``: a checkpoint that training starts from, or one line that says why not."""

import os
import shutil
from types import SimpleNamespace

import pytest
import torch
from fairseq.data import Dictionary

from fairseq_ki.cli.main import main
from fairseq_ki.models.ki_teacher import load_teacher

# the sizes of the training fixture's student
SIZES = (
    "--encoder-layers 2 --encoder-embed-dim 32 --encoder-ffn-embed-dim 64 "
    "--encoder-attention-heads 2"
)
GPT = (
    "--decoder-layers 1 --decoder-embed-dim 16 --decoder-ffn-embed-dim 32 "
    "--decoder-attention-heads 2"
)


def grow(teacher, out, words="", arch="roberta"):
    return main(["grow", "--from", str(teacher), "--arch", arch, "--out", str(out), *words.split()])


@pytest.fixture(scope="module")
def init(teacher, tmp_path_factory):
    out = tmp_path_factory.mktemp("grown") / "init.pt"
    assert grow(teacher, out, SIZES) == 0
    return out


def test_training_starts_as_the_teacher_and_inherits_from_it(
    fairseq_train, data_bin, teacher, init, tmp_path
):
    """--finetune-from-model init.pt --ki-teacher base.pt: before the first update they agree."""
    run = fairseq_train(
        data_bin,
        tmp_path,
        f"--task ki_mlm --criterion ki --finetune-from-model {init} --ki-teacher {teacher} "
        "--ki-steps 4 --max-update 6 --dropout 0 --attention-dropout 0 --lr 1e-3",
    )
    first, last = run.train[0], run.train[-1]
    assert float(first["ki_loss"]) == 0
    assert float(first["ki_agreement"]) == 1
    assert first["ppl"] == first["ki_teacher_ppl"]
    assert run.train[2]["ppl"] != run.train[2]["ki_teacher_ppl"]
    assert float(last["ki_rate"]) == 0
    assert last["num_updates"] == "6"


def test_the_checkpoint_is_a_teacher_too(data_bin, init):
    assert (init.parent / "dict.txt").read_bytes() == (data_bin / "dict.txt").read_bytes()
    dictionary = Dictionary.load(str(init.parent / "dict.txt"))
    dictionary.add_symbol("<mask>")
    task = SimpleNamespace(source_dictionary=dictionary, target_dictionary=dictionary)
    model = load_teacher(str(init), task, dictionary=None, causal=False, positions=32)
    assert model.max_positions() == 32
    state = torch.load(init, weights_only=True)
    assert state["optimizer_history"][-1]["num_updates"] == 0
    # fairseq-validate measures it as it will the checkpoints of the training
    assert state["cfg"]["task"]["_name"] == "ki_mlm"
    assert state["cfg"]["criterion"]["_name"] == "ki"


def test_it_says_what_holds_and_how_to_train(teacher, tmp_path, capsys):
    assert grow(teacher, tmp_path / "a" / "init.pt", SIZES) == 0
    said = capsys.readouterr().out
    assert "grew 1 layers of 16 (2 heads, feed-forward 32) to 2 layers of 32" in said
    assert "its logits equal the teacher's" in said
    command = next(line for line in said.splitlines() if "fairseq-train" in line)
    assert f"--finetune-from-model {tmp_path}/a/init.pt --ki-teacher {teacher}" in command
    assert "--task ki_mlm" in command
    assert "--max-positions 32" in command
    assert SIZES in command
    assert grow(teacher, tmp_path / "b" / "init.pt", "--depth stack", arch="3x24x40x3") == 0
    said = capsys.readouterr().out
    assert "its logits are not the teacher's" in said
    assert "no multiple of 16" in said
    assert "1 layers are stacked to 3" in said


@pytest.mark.parametrize(
    ("words", "length", "positions", "taught"),
    [
        ("", 32, 32, True),
        ("--max-positions 48", 32, 48, True),
        ("--max-positions=48 --tokens-per-sample 32", 32, 48, True),
        ("--tokens-per-sample 16", 16, 32, True),
        ("--tokens-per-sample 48", 48, 48, False),
        ("--max-positions 48 --sample-break-mode eos", 32, 48, False),
    ],
)
def test_length_and_positions_are_the_teachers_where_not_given(
    fairseq_train, data_bin, teacher, tmp_path, capsys, words, length, positions, taught
):
    """The printed command trains, and its checkpoint can be validated: both are recorded."""
    assert grow(teacher, tmp_path / "init.pt", f"{SIZES} {words}") == 0
    said = capsys.readouterr().out
    cfg = torch.load(tmp_path / "init.pt", weights_only=True)["cfg"]
    assert cfg["task"]["tokens_per_sample"] == length
    assert cfg["model"].max_positions == positions
    command = next(line for line in said.splitlines() if "fairseq-train" in line)
    assert ("--ki-teacher" in command) is taught
    assert ("without --ki-teacher: samples of 48 tokens are longer than the 32" in said) != taught
    options = command.partition("--criterion ki ")[2].removesuffix(" ...")
    common = fairseq_train.__globals__["COMMON"].replace("--tokens-per-sample 32", "")
    run = fairseq_train(
        data_bin,
        tmp_path / "run",
        f"--task ki_mlm --criterion ki {options} --max-update 1" + " --ki-steps 2" * taught,
        "",
        common,
    )
    assert len(run.train) == 1


def test_a_causal_model(fairseq_train, data_bin, tmp_path, capsys):
    common = "--task ki_lm --criterion ki --arch gpt_micro_2x128 --max-target-positions 32"
    small = fairseq_train(data_bin, tmp_path / "small", f"{common} {GPT} --max-update 2", model="")
    assert grow(small.save_dir / "checkpoint_last.pt", tmp_path / "init.pt", arch="2x24x40x3") == 0
    assert "its logits equal the teacher's" in capsys.readouterr().out
    run = fairseq_train(
        data_bin,
        tmp_path / "large",
        f"{common} --decoder-layers 2 --decoder-embed-dim 24 --decoder-ffn-embed-dim 40 "
        f"--decoder-attention-heads 3 --finetune-from-model {tmp_path}/init.pt --ki-steps 1 "
        f"--ki-teacher {small.save_dir}/checkpoint_last.pt --max-update 2",
        model="",
    )
    assert len(run.train) == 2
    assert float(run.train[0]["ki_loss"]) < 0.1  # dropout is on


@pytest.mark.parametrize(
    ("words", "arch", "message"),
    [
        ("", "nix", "expected an --arch"),
        ("", "gpt_354m", "expected a masked LM, found a causal LM"),
        ("--encoder-layrs 3", "roberta", "unrecognized arguments: --encoder-layrs 3"),
        ("--encoder-layers many", "roberta", "invalid int value: 'many'"),
        ("--encoder-attention-heads 7", "4x32", "that a model can be built with"),
        ("--max-positions 8", "4x32x64x2", "positions, 34, found 10"),
        ("", "1x8x64x2", "width, 16, found 8"),
        ("--activation-fn relu", "2x32x64x2", "activation, gelu, found relu"),
    ],
)
def test_refusals_are_one_line_and_leave_nothing(teacher, tmp_path, capsys, words, arch, message):
    assert grow(teacher, tmp_path / "new" / "init.pt", words, arch) == 2
    said = capsys.readouterr().err.strip()
    assert message in said
    assert len(said.splitlines()) == 1
    assert not (tmp_path / "new").exists()


def test_nothing_is_overwritten(teacher, init, tmp_path, capsys):
    before = init.read_bytes()
    assert grow(teacher, init, SIZES) == 2
    assert "found one" in capsys.readouterr().err
    assert init.read_bytes() == before
    (tmp_path / "dict.txt").write_text("another 1\n")
    assert grow(teacher, tmp_path / "init.pt", SIZES) == 2
    assert "found another" in capsys.readouterr().err
    assert sorted(os.listdir(tmp_path)) == ["dict.txt"]


def test_teachers_that_cannot_be_read(teacher, tmp_path, capsys):
    broken = tmp_path / "broken.pt"
    broken.write_bytes(teacher.read_bytes()[:1000])
    shutil.copy(teacher.parent / "dict.txt", tmp_path)
    for path, message in ((broken, "cannot be read"), (tmp_path / "no.pt", "found none")):
        assert grow(path, tmp_path / "init.pt", SIZES) == 2
        assert message in capsys.readouterr().err
    (tmp_path / "other.txt").write_text("".join(f"x{i} 1\n" for i in range(7)))
    assert grow(teacher, tmp_path / "init.pt", f"{SIZES} --dict {tmp_path}/other.txt") == 2
    assert "error: " in capsys.readouterr().err


def test_a_full_disk_leaves_nothing_and_promises_no_checkpoint(
    teacher, tmp_path, capsys, files_up_to
):
    with files_up_to(30_000):
        assert grow(teacher, tmp_path / "g.pt", SIZES) == 2
    said = capsys.readouterr().err
    assert f"{tmp_path}/g.pt could not be written: File too large" in said
    assert "Free some space there, then give the same command again." in said
    assert "last checkpoint" not in said
    assert list(tmp_path.iterdir()) == []
