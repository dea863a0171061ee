"""What holds for every script of the folder: it has --help, and refuses in one line."""

import importlib
import subprocess
import sys
from pathlib import Path

import pytest

NAMES = sorted(
    path.stem
    for path in (Path(__file__).parents[2] / "preprocess").glob("*.py")
    if not path.stem.startswith("_")
)


@pytest.mark.parametrize("name", NAMES)
def test_help(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    module = importlib.import_module(name)
    with pytest.raises(SystemExit) as exit_info:
        module.main(["--help"])
    assert exit_info.value.code == 0
    assert module.__doc__.strip().splitlines()[0] in capsys.readouterr().out


def test_all_steps_are_there() -> None:
    assert set(NAMES) >= {
        "docs_corpus",
        "text_corpus",
        "train_sentencepiece",
        "encode",
        "binarize",
        "proximity",
    }


def test_a_script_run_from_elsewhere_refuses_in_one_line(scripts: Path, tmp_path: Path) -> None:
    command = [sys.executable, str(scripts / "text_corpus.py"), "missing", "--out-dir", "out"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stderr == (
        "text_corpus.py: expected a file at missing; found nothing. To mend: check the path.\n"
    )
