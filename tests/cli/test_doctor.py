"""The doctor names what is wrong with a machine and how to mend it."""

import argparse
import importlib
import importlib.metadata
import importlib.util
import json
import os
import shutil
import subprocess
import sys
import types
from pathlib import Path

import pytest
import torch

from fairseq_ki.cli import (
    _doctor_command,
    _doctor_machine,
    _doctor_packages,
    _findings,
    _training_trial,
    doctor,
)

MOUNTS = """\
/dev/vda / ext4 rw 0 0
server:/export /home nfs4 rw 0 0
/dev/vdb /home/me/local\\040disk xfs rw 0 0
bucket /mnt/bucket fuse.gcsfuse rw 0 0
"""


def one(findings) -> _findings.Finding:
    (finding,) = findings
    return finding


def run(*arguments: str) -> int:
    parser = argparse.ArgumentParser()
    doctor.add_arguments(parser)
    return doctor.run(parser.parse_args(arguments))


def test_this_machine_trains(tmp_path, capsys):
    """All of it, with the real training."""
    assert run("--json", "--save-dir", str(tmp_path), "--store", str(tmp_path)) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["can_train"] is True
    checks = {check["name"]: check for check in report["checks"]}
    assert checks["torch"]["found"] == torch.__version__
    assert "fairseq" in checks["fairseq"]["found"]
    assert "patch: safe checkpoint reading" in checks
    assert checks["training"]["found"].count("ki_loss") == 2


def test_a_training_that_fails_is_a_problem(monkeypatch, capsys):
    """The trial's own failure, not one made up: the student's criterion gets no known option."""
    monkeypatch.setattr(_training_trial, "STUDENT", _training_trial.STUDENT + " --no-such-option")
    finding = one(doctor.check_training())
    assert finding.status == "problem"
    assert "unrecognized arguments: --no-such-option" in finding.found


def test_a_problem_makes_the_exit_status_1(monkeypatch, capsys):
    def nothing():
        yield _findings.Finding("training", "skipped here")

    def broken():
        raise OSError("no such device")

    monkeypatch.setattr(doctor, "check_training", nothing)
    monkeypatch.setattr(doctor, "check_devices", broken)
    assert run() == 1
    output = capsys.readouterr().out
    assert "problem  devices: OSError: no such device" in output
    assert "-> " in output
    assert "cannot train yet" in output
    assert "skipped here" in output  # one check that fails hides no other


def test_versions_that_are_too_old_or_missing(monkeypatch):
    versions = {"torch": "2.5.1+cu121", "numpy": "2.0"}
    monkeypatch.setattr(_doctor_packages, "_version", versions.get)
    found = {finding.name: finding for finding in _doctor_packages.check_libraries()}
    assert found["torch"].status == "problem"
    assert "torch>=2.6" in found["torch"].mend
    assert found["numpy"].status == "ok"
    assert found["sentencepiece"].status == "problem"
    assert found["TensorBoard writer"].status == "warning"
    monkeypatch.setattr(sys, "version_info", (3, 13, 1))
    assert one(doctor.check_python()).status == "problem"


def test_fairseq_that_cannot_be_imported(monkeypatch):
    def fails(name):
        raise ValueError("mutable default <class 'CommonConfig'> for field common")

    monkeypatch.setattr(importlib, "import_module", fails)
    finding = one(doctor.check_fairseq())
    assert finding.status == "problem"
    assert "mutable default" in finding.found
    assert "ve-fairseq==0.12.3" in finding.mend


def test_says_why_even_where_the_package_cannot_be_imported(tmp_path):
    """As the official fairseq fails on Python 3.11, and fairseq_ki with it."""
    (tmp_path / "fairseq").mkdir()
    (tmp_path / "fairseq" / "__init__.py").write_text("raise ValueError('mutable default')")
    done = subprocess.run(
        [sys.executable, doctor.__file__],
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1, done.stderr
    assert "problem  fairseq" in done.stdout
    assert "cannot be imported: ValueError: mutable default" in done.stdout
    assert "problem  training" in done.stdout


def test_two_distributions_over_each_other(monkeypatch):
    monkeypatch.setattr(
        importlib.metadata,
        "packages_distributions",
        lambda: {"fairseq": ["ve-fairseq", "fairseq"]},
    )
    assert one(doctor.check_fairseq()).status == "warning"


@pytest.mark.parametrize(
    ("folders", "found", "status"),
    [
        (["normalization", "optimizers"], "NVIDIA's, without its CUDA kernels", "ok"),
        (["amp", "lib"], "web framework", "warning"),
    ],
)
def test_which_apex(folders, found, status, tmp_path, monkeypatch):
    for folder in folders:
        (tmp_path / "apex" / folder).mkdir(parents=True)
    (tmp_path / "apex" / "__init__.py").touch()
    monkeypatch.syspath_prepend(tmp_path)
    finding = one(doctor.check_apex())
    assert found in finding.found
    assert finding.status == status


def test_no_apex_is_no_problem():
    if importlib.util.find_spec("apex") is None:
        assert one(doctor.check_apex()).status == "ok"


def test_a_disk_that_is_nearly_full(tmp_path, monkeypatch):
    usage = types.SimpleNamespace(free=2**30)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)
    finding = one(doctor.check_disk(str(tmp_path / "not" / "yet")))
    assert finding.status == "warning"
    assert finding.found.startswith("1.0 GiB free")
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    assert one(doctor.check_disk(str(tmp_path))).status == "problem"


@pytest.mark.parametrize(
    ("world_size", "gpus", "cores", "status"),
    [("2", 0, 4, "ok"), ("8", 0, 4, "warning"), ("2", 2, 4, "ok"), ("4", 2, 8, "problem")],
)
def test_whether_the_world_fits(world_size, gpus, cores, status, monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: gpus)
    monkeypatch.setattr(os, "cpu_count", lambda: cores)
    environment = dict(zip(_doctor_machine.LAUNCHER, ("host", "1", world_size, "0")))
    finding = one(doctor.check_launcher(environment))
    assert finding.status == status
    assert f"WORLD_SIZE={world_size}" in finding.found
    # of sixteen processes on many machines, as many as fit are here
    many = {**environment, "WORLD_SIZE": "16", "LOCAL_WORLD_SIZE": "2"}
    assert one(doctor.check_launcher(many)).status == "ok"


def test_half_a_launcher_is_a_problem():
    finding = one(doctor.check_launcher({"WORLD_SIZE": "2"}))
    assert finding.status == "problem"
    assert "RANK" in finding.found
    assert one(doctor.check_launcher({})).status == "ok"


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/tmp/x", "ext4"),
        ("/home/me/store", "nfs4"),
        ("/home/me/local disk/store", "xfs"),
        ("/homes/me", "ext4"),
        ("/mnt/bucket/a/b", "fuse.gcsfuse"),
    ],
)
def test_the_file_system_of_a_store(path, kind):
    assert _doctor_machine.file_system(Path(path), MOUNTS) == kind


def test_a_store_on_a_network_mount_is_warned_of(tmp_path, monkeypatch):
    assert list(doctor.check_store(None)) == []
    for kind, status in (("nfs4", "warning"), ("fuse.sshfs", "warning"), ("xfs", "ok")):
        monkeypatch.setattr(_doctor_machine, "file_system", lambda path, mounts, kind=kind: kind)
        assert one(doctor.check_store(str(tmp_path / "store"))).status == status


COMMAND = (
    "{data} --user-dir fairseq_ki --task ki_mlm --criterion ki --arch roberta --encoder-layers 2 "
    "--encoder-embed-dim 32 --encoder-ffn-embed-dim 64 --encoder-attention-heads 2 --cpu "
    "--max-positions 32 --tokens-per-sample 32 --batch-size 8 --optimizer adam --save-dir {save}"
)


@pytest.fixture
def command(data_bin, tmp_path) -> str:
    package = Path(doctor.__file__).parent.parent
    filled = COMMAND.format(data=data_bin, save=tmp_path / "save")
    return filled.replace("--user-dir fairseq_ki", f"--user-dir {package}")


def findings_of(text: str) -> dict[str, _findings.Finding]:
    return {finding.name: finding for finding in _doctor_command.check_command(text)}


def test_a_planned_training_that_fits(command, tmp_path):
    found = findings_of(f"fairseq-train {command} --update-freq 4 --ki-store {tmp_path}")
    assert {f.status for f in found.values()} == {"ok"}
    assert found["world size"].found == (
        "1 rank(s) on the CPU, joined by gloo, 1 x 8 x 4 = 32 samples an update"
    )
    assert "GiB free" in found["disk"].found
    assert str(tmp_path) in found["store"].found
    assert not (tmp_path / "save").exists()
    assert list(_doctor_command.check_command(None)) == []


def test_a_planned_training_under_torchrun(command, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "7")  # the doctor's own, and not the planned run's
    found = findings_of(f"torchrun --nproc-per-node 2 --nnodes=3 -m fairseq_cli.train {command}")
    assert found["world size"].found.startswith("6 rank(s) on the CPU")
    assert os.environ["WORLD_SIZE"] == "7"


@pytest.mark.parametrize(
    ("front", "extra", "name", "words"),
    [
        ("fairseq-train", "--fp16", "number format", "--fp16 needs a CUDA device"),
        ("fairseq-train", "--distributed-world-size 2", "world size", "torchrun --nproc-per-node"),
        (
            "torchrun --nproc-per-node=4 -m fairseq_cli.train",
            "--distributed-world-size 2",
            "world size",
            "starts 4 processes, --distributed-world-size says 2",
        ),
        ("fairseq-train", "--ki-teecher x", "command", "unrecognized arguments: --ki-teecher x"),
        ("fairseq-train", "--arch nosuch", "command", "invalid choice: 'nosuch'"),
    ],
)
def test_what_of_a_planned_training_will_not_work(front, extra, name, words, command):
    finding = findings_of(f"{front} {command} {extra}")[name]
    assert finding.status == "problem"
    assert words in finding.found
    assert finding.mend


def test_a_planned_training_for_which_the_disk_is_too_small(command, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda path: types.SimpleNamespace(free=10**6))
    finding = findings_of(f"fairseq-train {command} --encoder-embed-dim 512")["checkpoints"]
    assert finding.status == "problem"
    assert "--no-epoch-checkpoints" in finding.mend


def test_the_size_of_a_checkpoint_is_about_right(data_bin, fairseq_train, tmp_path):
    extra = "--task ki_mlm --criterion ki --max-update 1 --encoder-embed-dim 256"
    run = fairseq_train(data_bin, tmp_path, extra)
    cfg = run.state()["cfg"]
    guess = _doctor_command.checkpoint_bytes(
        types.SimpleNamespace(model=cfg["model"], task=types.SimpleNamespace(**cfg["task"]))
    )
    assert 0.7 < guess / (tmp_path / "checkpoint_last.pt").stat().st_size < 1.1


def test_a_command_of_another_program_is_refused():
    with pytest.raises(ValueError, match="expected 'fairseq-train DATA ...'"):
        findings_of("python train.py")
