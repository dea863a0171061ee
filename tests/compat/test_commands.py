"""A command ends with one line where the user can mend it, and with a traceback otherwise."""

import sys

import pytest
from fairseq_cli import train as fairseq_train_cli

from fairseq_ki.compat.host_refusals import refusal_of_the_host
from fairseq_ki.compat.save_dirs import no_empty_folders

COMMAND = (
    "--task masked_lm --criterion masked_lm --arch roberta --encoder-layers 1 "
    "--encoder-embed-dim 8 --encoder-ffn-embed-dim 8 --encoder-attention-heads 1 "
    "--max-positions 32 --tokens-per-sample 32 --batch-size 8 --optimizer adam --cpu --no-save"
)


@pytest.mark.parametrize(
    ("extra", "expected"),
    [
        (["--amp"], "error: --amp needs a CUDA device"),
        (["--distributed-world-size", "2"], "error: --distributed-world-size 2 on the CPU"),
        (["--restore-file", "none.pt"], "error: --restore-file none.pt does not exist"),
    ],
)
def test_one_line(extra, expected, data_bin, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["fairseq-train", str(data_bin), *COMMAND.split(), *extra])
    with pytest.raises(SystemExit) as stop:
        fairseq_train_cli.cli_main()
    assert str(stop.value).startswith(expected)
    assert "\n" not in str(stop.value)


def test_other_errors_keep_their_traceback(data_bin, tmp_path, monkeypatch):
    def fails(*args, **kwargs):
        raise RuntimeError("nobody's fault")

    save_dir = tmp_path / "runs" / "new"
    command = f"{data_bin} {COMMAND} --save-dir {save_dir}"
    monkeypatch.setattr(sys, "argv", ["fairseq-train", *command.split()])
    monkeypatch.setattr(fairseq_train_cli, "Trainer", fails)
    with pytest.raises(RuntimeError, match="nobody's fault"):
        fairseq_train_cli.cli_main()
    assert not save_dir.parent.exists()


def test_a_refused_command_keeps_folders_that_are_older_or_in_use(tmp_path):
    (tmp_path / "old" / "empty").mkdir(parents=True)
    new = tmp_path / "old" / "new"
    for path in (tmp_path / "old" / "empty", new / "a" / "b"):
        with pytest.raises(KeyError), no_empty_folders(str(path)):
            path.mkdir(parents=True, exist_ok=True)
            (new / "kept").mkdir(parents=True, exist_ok=True)
            raise KeyError
    assert sorted(str(p.relative_to(tmp_path)) for p in tmp_path.rglob("*")) == [
        "old",
        "old/empty",
        "old/new",
        "old/new/kept",
    ]


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (FileNotFoundError(2, "No such file or directory", "d/dict.txt"), "d/dict.txt: No such"),
        (AssertionError("Must specify batch size either with --max-tokens or --batch-size"),
         "Must specify batch size either with --max-tokens or --batch-size. Add --batch-size"),
        (OSError(40, "Too many levels of symbolic links", "l"), "l: Too many levels of symbolic"),
        (ValueError("dropout probability has to be between 0 and 1, but got 2.0"),
         "dropout probability has to be between 0 and 1, but got 2.0. Correct the dropout"),
        (OSError("Model file not found: none.pt"), "Model file not found: none.pt. Correct --path"),
        (OSError(28, "No space left on device"), None),  # which file is not known
        (KeyError("model"), None),
        (RuntimeError("shape mismatch"), None),
    ],
)  # fmt: skip
def test_what_fairseq_refuses_in_its_own_words(error, line):
    found = refusal_of_the_host(error)
    assert found is line is None or found.startswith(line)


def test_an_architecture_that_does_not_match_names_the_first_difference():
    try:
        try:
            raise RuntimeError("Error(s) in loading state_dict for X:\n\tsize mismatch for y")
        except RuntimeError:
            raise Exception(  # noqa: B904  (as fairseq does)
                "Cannot load model parameters from checkpoint a.pt; please ensure that the "
                "architectures match."
            )
    except Exception as error:
        found = refusal_of_the_host(error)
    assert "a.pt" in found
    assert "(size mismatch for y). Give the --arch" in found
