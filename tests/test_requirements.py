"""The lock files fit setup.py, have hashes, and docs/licences.md lists what they lock."""

import importlib
import re
import runpy
import subprocess
from pathlib import Path

import pytest
import setuptools
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

REPO = Path(__file__).resolve().parent.parent
FOLDER = REPO / "requirements"


@pytest.fixture
def lock(monkeypatch):
    monkeypatch.syspath_prepend(FOLDER)
    return importlib.import_module("lock")


@pytest.fixture
def audit(monkeypatch):
    monkeypatch.syspath_prepend(FOLDER)
    return importlib.import_module("audit")


@pytest.fixture
def pins(lock):
    return {file: lock.parse((FOLDER / file).read_text()) for file in lock.LOCKS}


@pytest.fixture
def asked(monkeypatch) -> list[Requirement]:
    """What setup.py asks for, extras and all."""
    options: dict = {}
    monkeypatch.setattr(setuptools, "setup", lambda **given: options.update(given))
    runpy.run_path(str(REPO / "setup.py"))
    extras = options["extras_require"].values()
    return [Requirement(each) for group in (options["install_requires"], *extras) for each in group]


def test_every_pin_has_hashes_and_no_place(pins):
    for file, found in pins.items():
        assert found, file
        assert all(pin.hashes for pin in found), file
        assert "://" not in (FOLDER / file).read_text()
    assert len(pins["all.lock"]) > 50
    assert {"ve-fairseq", "pytest"} <= {pin.name for pin in pins["all.lock"]}
    assert [pin.name for pin in pins["torch.lock"]] == ["torch"]
    assert not any("nvidia" in pin.name for pin in pins["all.lock"])


def test_what_setup_asks_for_is_locked(pins, asked):
    locked: dict[str, list[str]] = {}
    for pin in (pin for found in pins.values() for pin in found):
        locked.setdefault(canonicalize_name(pin.name), []).append(pin.version)
    for requirement in asked:
        versions = locked.get(canonicalize_name(requirement.name))
        assert versions, f"{requirement.name} is not locked: make lock"
        assert all(requirement.specifier.contains(v) for v in versions), requirement


def test_lower_bounds_are_versions_that_exist_and_are_tested(lock, asked):
    lowest = lock.parse((FOLDER / lock.LOWEST).read_text())
    locked = {canonicalize_name(pin.name): pin.version for pin in lowest}
    assert all(pin.hashes for pin in lowest)
    assert "torch" not in locked  # its old builds for the CPU are in no index
    for requirement in asked:
        if requirement.name != "torch":
            (bound,) = (s.version for s in requirement.specifier if s.operator in (">=", "=="))
            found = locked[canonicalize_name(requirement.name)]
            assert Version(found) == Version(bound), f"{requirement}: {found}; make lock"


def test_the_page_of_licences_lists_what_is_locked(pins):
    rows = re.findall(
        r"^\| (\S+) \| ([0-9][^|]*) \| (.+) \|$", (REPO / "docs" / "licences.md").read_text(), re.M
    )
    listed = {(name, version) for name, versions, _ in rows for version in versions.split(", ")}
    assert listed == {(pin.name, pin.version) for found in pins.values() for pin in found}


def test_a_lock_is_read_as_it_is_written(lock):
    pin = lock.Pin("a.b", "1.0", "python_full_version < '3.12'", {"0" * 64, "f" * 64})
    bare = lock.Pin("c", "2", "", {"1" * 64})
    assert lock.parse(f"# comment\n{pin}{bare}") == [pin, bare]
    with pytest.raises(ValueError, match="expected a pin or a hash"):
        lock.parse("a>=1\n")


def test_hashes_of_another_build_are_added_to_the_version_that_it_is_of(lock):
    pins = [lock.Pin("Torch", "2.13.0", "", {"0" * 64}), lock.Pin("torch", "2.12.0", "", set())]
    archive = {"archive_info": {"hashes": {"sha256": "c" * 64}}}
    metadata = {"name": "torch", "version": "2.13.0+cpu"}
    lock.add_hashes(pins, [{"metadata": metadata, "download_info": archive}])
    assert pins[0].hashes == {"0" * 64, "c" * 64}
    assert pins[1].hashes == set()


@pytest.mark.parametrize(
    ("metadata", "expected"),
    [
        ({"license_expression": "MIT", "license": "text"}, "MIT"),
        ({"classifier": ["License :: OSI Approved :: BSD License", "A :: B"]}, "BSD License"),
        ({"license": "\nApache 2 | more\nmany lines"}, "Apache 2 / more"),
        ({}, "not stated"),
    ],
)
def test_a_licence_in_a_few_words(lock, metadata, expected):
    assert lock.licence(metadata) == expected


def test_an_audit_without_its_data_says_that_nothing_is_known(audit, monkeypatch, capsys):
    failed = subprocess.CompletedProcess([], 1, "", "ERROR:pip_audit._cli: Could not connect")
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: failed)
    assert audit.main([]) == 3
    said = capsys.readouterr().err
    assert "nothing is known of the" in said
    assert "Could not connect" in said


def test_an_audit_reports_what_is_known(audit, capsys):
    hole = {"id": "CVE-1", "fix_versions": ["1.1"]}
    answers = [
        {"name": "a", "version": "1.0", "vulns": [hole]},
        {"name": "b", "version": "1", "vulns": []},
        {"name": "c", "skip_reason": "not found"},
    ]
    assert audit.report(answers) == 1
    said = capsys.readouterr().out
    assert "a 1.0: CVE-1, mended in 1.1" in said
    assert "not looked at: c" in said
    assert "1 known vulnerabilities in 2 packages" in said
    assert audit.report(answers[1:]) == 0
