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

from fairseq_ki.cli import _training_trial, doctor

MOUNTS = """\
/dev/vda / ext4 rw 0 0
server:/export /home nfs4 rw 0 0
/dev/vdb /home/me/local\\040disk xfs rw 0 0
bucket /mnt/bucket fuse.gcsfuse rw 0 0
"""


def one(findings) -> doctor.Finding:
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
        yield doctor.Finding("training", "skipped here")

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
    monkeypatch.setattr(doctor, "_version", versions.get)
    found = {finding.name: finding for finding in doctor.check_libraries()}
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
    environment = dict(zip(doctor.LAUNCHER, ("host", "1", world_size, "0")))
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
    assert doctor.file_system(Path(path), MOUNTS) == kind


def test_a_store_on_a_network_mount_is_warned_of(tmp_path, monkeypatch):
    assert list(doctor.check_store(None)) == []
    for kind, status in (("nfs4", "warning"), ("fuse.sshfs", "warning"), ("xfs", "ok")):
        monkeypatch.setattr(doctor, "file_system", lambda path, mounts, kind=kind: kind)
        assert one(doctor.check_store(str(tmp_path / "store"))).status == status
