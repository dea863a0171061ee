"""Every refusal that docs/errors.md lists: its line, its exit status, and nothing else changed."""

import os
import shlex
import subprocess
import sys

import pytest
from forking import ENVIRONMENT, REPO, snapshot
from refusals import Case, messages, said

MODULES = ("cases_training", "cases_models", "cases_commands", "cases_preprocess")
CASES = [case for module in MODULES for case in __import__(module).CASES]
MESSAGES = messages()

# in a shell, with an import of their own: the first case of each
COLD = ("teacher-unsafe", "recipe-tag", "logits-finished", "binarize-record", "text-missing")
PROGRAMS = {
    "fairseq-train": "{python} -m fairseq_cli.train",
    "fairseq-ki": "{python} -m fairseq_ki.cli.main",
}


def name(case: Case) -> str:
    return case.refusal


def check(case: Case, status: int, output: str) -> None:
    message = MESSAGES[case.refusal]
    assert said(message, output), f"expected: {message}\nfound: {output[-2000:]}"
    assert status == case.expected_status, output[-2000:]
    assert "Traceback" not in output, output[-5000:]


@pytest.mark.parametrize("case", CASES, ids=name)
def test_refusal(case, world, zygote, tmp_path):
    folder = tmp_path / "here"
    (folder / "tmp").mkdir(parents=True)
    if case.prepare:
        case.prepare(world, folder)
    before = snapshot(folder), snapshot(world.folder)
    environment = {"TMPDIR": str(folder / "tmp"), **case.environment}
    done = zygote.run(world.fill(case.command), folder, tmp_path / "output", **environment)
    check(case, done.status, done.output)
    assert (snapshot(folder), snapshot(world.folder)) == before


@pytest.mark.parametrize("refusal", COLD)
def test_refusal_in_a_shell(refusal, world, tmp_path):
    case = next(case for case in CASES if case.refusal == refusal)
    if case.prepare:
        case.prepare(world, tmp_path)
    before = snapshot(tmp_path)
    program, _, rest = world.fill(case.command).partition(" ")
    program = PROGRAMS.get(program, "{python} " + program).format(
        python=shlex.quote(sys.executable)
    )
    done = subprocess.run(
        ["bash", "-c", f"{program} {rest}"],
        cwd=tmp_path,
        env={**os.environ, **ENVIRONMENT, "PYTHONPATH": str(REPO), **case.environment},
        capture_output=True,
        text=True,
        timeout=120,
    )
    check(case, done.returncode, done.stdout + done.stderr)
    assert snapshot(tmp_path) == before


def test_the_page_lists_what_is_provoked_and_nothing_else():
    assert set(MESSAGES) == {case.refusal for case in CASES}
    assert len(CASES) >= 60


def test_an_ellipsis_stands_for_anything_and_all_else_is_taken_literally():
    assert said("a.pt: expected … rows", "error:\n a.pt: expected\n 3 long rows")
    assert not said("a.pt: expected … rows", "aXpt: expected 3 rows")
    assert not said("expected 3", "expected  four")
