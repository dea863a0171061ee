"""A command ends with one line where the user can mend it, and with a traceback otherwise."""

import sys

import pytest
from fairseq_cli import train as fairseq_train_cli

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


def test_other_errors_keep_their_traceback(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["fairseq-train", str(tmp_path), *COMMAND.split()])
    with pytest.raises(FileNotFoundError, match=r"dict\.txt"):
        fairseq_train_cli.cli_main()
