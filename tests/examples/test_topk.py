"""examples/topk as its recipe has it: the quickstart's teacher, one variable, both scales."""

from pathlib import Path

import pytest

from fairseq_ki.cli.main import main
from fairseq_ki.experiments import recipe
from fairseq_ki.experiments.plan import plan

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
ARMS = ("live", "top10", "top50", "top100", "top1000", "draws")


def jobs(name: str, scale: str = "") -> dict:
    loaded = recipe.load(EXAMPLES / name / "recipe.yaml", scale)
    return {job.spec.name: job for job in plan(loaded, Path("out"), [1])}


def test_the_teacher_is_the_quickstarts():
    """Word for word, so that its finished run is taken instead of another."""
    assert jobs("topk")["teacher"].words == jobs("quickstart")["teacher"].words


@pytest.mark.parametrize("scale", ["", "paper"])
def test_arms_differ_in_their_teacher_alone(scale):
    found = jobs("topk", scale)
    alone = found["self"].spec.options
    for arm in ARMS:
        options = dict(found[arm].spec.options)
        assert "ki-teacher" in options or options.pop("ki-store")
        assert {k: v for k, v in options.items() if not k.startswith("ki-")} == {
            k: v for k, v in alone.items() if not k.startswith("ki-")
        }
        live = {k: v for k, v in found["live"].spec.options.items() if k != "ki-teacher"}
        assert {k: v for k, v in options.items() if k != "ki-teacher"} == live


@pytest.mark.parametrize("scale", ["", "paper"])
def test_stores_are_captured_with_the_students_options(scale):
    found = jobs("topk", scale)
    tokens = found["self"].spec.options["tokens-per-sample"]
    for arm in ARMS[1:]:
        command = found[f"store_{arm}"].command
        assert f"--tokens-per-sample {tokens} " in command[2]
        assert command[3:] == ["out/data-bin", "out/teacher/seed1", f"out/store_{arm}/seed1"]
        assert found[arm].spec.options["ki-mask-seed"] == 1  # a capture's default
    kept = [found[f"store_{arm}"].command[2].split("--encoding ")[1] for arm in ARMS[1:]]
    assert [text.split(" --tokens")[0] for text in kept] == [
        "topk --k 10", "topk --k 50", "topk --k 100", "topk --k 1000", "sampled --draws 50",
    ]  # fmt: skip


def test_a_dry_run_needs_nothing(capsys, tmp_path):
    command = ["experiment", str(EXAMPLES / "topk" / "recipe.yaml"), "--out", str(tmp_path)]
    assert main([*command, "--dry-run"]) == 0
    printed = capsys.readouterr().out
    assert printed.count("fairseq-ki logits write") == 5
    assert printed.count("fairseq_cli.train") == 8
