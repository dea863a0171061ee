"""Writes the lock files beside it, and docs/licences.md: what the run scripts install.

    make lock

uv finds the newest versions within the ranges of setup.py, for Python 3.11 and 3.12, that are at
least a week old (a version that was published by a thief is mostly gone by then), and lists the
hashes of all files that the package index has of each. Somebody's pip may prefer another
build of the same version (PyTorch's for the CPU, from a folder or a second index), so the hashes
of what pip would install here are added. What PyTorch's build for CUDA needs beside it is in a
file of its own, as the one for the CPU needs none of it.

lowest.lock is the other end of the ranges, for `make test-lowest`: the lowest version that setup.py
names of each package, and the newest of what those need. PyTorch alone is the newest there, too:
its older builds for the CPU are in no package index.
"""

import argparse
import json
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
REPO = HERE.parent
PAGE = REPO / "docs" / "licences.md"
EXTRAS = ("dev", "hf", "report")
COOL_DOWN = timedelta(days=7)
BUILD, CUDA = re.compile(r"setuptools$"), re.compile(r"(nvidia|cuda|triton)\b")
LOCKS = {
    "build.lock": "what builds the packages that come as source",
    "torch.lock": "PyTorch, for the CPU or for CUDA",
    "all.lock": "what the run scripts install",
    "cuda.lock": "what PyTorch's build for CUDA needs beside it",
}
LOWEST = "lowest.lock"
HEADER = "# Made by `make lock`: {}. Do not edit.\n"
INTRODUCTION = """\
# Licences of the dependencies

Of the versions in `requirements/*.lock`, in the words of each package's own metadata. Made by
`make lock`; a test compares the two.

"""


@dataclass
class Pin:
    """One entry of a lock: ``name==version``, its marker, its hashes."""

    name: str
    version: str
    marker: str
    hashes: set[str]

    def __str__(self) -> str:
        marker = f" ; {self.marker}" if self.marker else ""
        hashes = "".join(f" \\\n    --hash=sha256:{digest}" for digest in sorted(self.hashes))
        return f"{self.name}=={self.version}{marker}{hashes}\n"


def parse(text: str) -> list[Pin]:
    """The pins of a lock file, or of uv's output."""
    found: list[Pin] = []
    for line in text.splitlines():
        pin = re.match(r"([\w.-]+)==([^ \\]+)(?: ; ([^\\]+?))? ?\\?$", line)
        digest = re.match(r" +--hash=sha256:([0-9a-f]{64})", line)
        if pin:
            found.append(Pin(pin[1], pin[2], pin[3] or "", set()))
        elif digest:
            found[-1].hashes.add(digest[1])
        elif line.strip() and not line.strip().startswith("#"):
            raise ValueError(f"expected a pin or a hash, found {line!r}")
    return found


def file_of(pin: Pin) -> str:
    """The lock that a pin belongs into."""
    if BUILD.match(pin.name):
        return "build.lock"
    if pin.name == "torch":
        return "torch.lock"
    return "cuda.lock" if CUDA.match(pin.name) else "all.lock"


def resolved(*options: str) -> list[Pin]:
    """What uv finds within the ranges of setup.py, given more of its options."""
    command = [
        "uv", "pip", "compile", str(REPO / "setup.py"), "--universal", "--python-version", "3.11",
        "--generate-hashes", "--no-header", "--no-annotate", "--no-emit-index-url", "--quiet",
        "--exclude-newer", (datetime.now(UTC) - COOL_DOWN).isoformat(timespec="seconds"),
    ]  # fmt: skip
    command += [*options, *(word for extra in EXTRAS for word in ("--extra", extra))]
    pins = parse(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    return [pin for pin in pins if "== 'emscripten'" not in pin.marker]


def lowest(torch: Pin) -> list[Pin]:
    """The lower end of the ranges, with this PyTorch."""
    with tempfile.NamedTemporaryFile("w", suffix=".txt") as given:
        given.write(f"torch=={torch.version}\n")
        given.flush()
        pins = resolved("--resolution", "lowest-direct", "--constraint", given.name)
    pins = [pin for pin in pins if file_of(pin) == "all.lock"]
    add_hashes(pins, taken_here(pins))
    return pins


def taken_here(pins: Iterable[Pin]) -> list[dict[str, Any]]:
    """What pip would install here of the pins: metadata and hash of each."""
    with tempfile.TemporaryDirectory() as folder:
        wanted, report = Path(folder) / "wanted.txt", Path(folder) / "report.json"
        lines = (f"{p.name}=={p.version}{f' ; {p.marker}' if p.marker else ''}\n" for p in pins)
        wanted.write_text("".join(lines))
        command = [
            sys.executable, "-m", "pip", "install", "--dry-run", "--ignore-installed", "--no-deps",
            "--quiet", "--report", str(report), "--requirement", str(wanted),
        ]  # fmt: skip
        subprocess.run(command, check=True)
        return json.loads(report.read_text())["install"]


def add_hashes(pins: list[Pin], taken: list[dict[str, Any]]) -> None:
    """Adds the hashes of files that the index does not list."""
    by_name = {normal(pin.name): pin for pin in pins}
    for item in taken:
        version = item["metadata"]["version"].partition("+")[0]  # 2.13.0+cpu is a 2.13.0
        pin = by_name[normal(item["metadata"]["name"])]
        for each in pins:
            if normal(each.name) == normal(pin.name) and each.version == version:
                each.hashes.add(item["download_info"]["archive_info"]["hashes"]["sha256"])


def normal(name: str) -> str:
    """A distribution's name in the one spelling in which names are compared."""
    return re.sub(r"[-_.]+", "-", name).lower()


def licence(metadata: dict[str, Any]) -> str:
    """In a few words, from the newest field that a package fills in."""
    if metadata.get("license_expression"):
        return metadata["license_expression"]
    kinds = [c.split(" :: ")[-1] for c in metadata.get("classifier", []) if "License ::" in c]
    first = next(iter((metadata.get("license") or "").strip().splitlines()), "")
    text = ", ".join(kinds) or first or "not stated"
    return text.replace("|", "/") if len(text) <= 80 else f"{text[:77]}..."


def page(pins: list[Pin], taken: list[dict[str, Any]]) -> str:
    """docs/licences.md."""
    licences = {normal(item["metadata"]["name"]): licence(item["metadata"]) for item in taken}
    lines = [INTRODUCTION]
    for file, purpose in LOCKS.items():
        lines.append(f"## {purpose[0].upper()}{purpose[1:]} (`{file}`)\n\n")
        lines.append("| package | version | licence |\n|---|---|---|\n")
        rows: dict[str, list[str]] = {}
        for pin in pins:
            if file_of(pin) == file:
                rows.setdefault(pin.name, []).append(pin.version)
        for name, versions in rows.items():
            found = licences.get(normal(name), "not stated")
            lines.append(f"| {name} | {', '.join(versions)} | {found} |\n")
        lines.append("\n")
    return "".join(lines).rstrip("\n") + "\n"


def main() -> None:
    argparse.ArgumentParser(description=__doc__.splitlines()[0]).parse_args()
    pins = resolved()
    taken = taken_here(pins)
    add_hashes(pins, taken)
    for file, purpose in LOCKS.items():
        entries = "".join(str(pin) for pin in pins if file_of(pin) == file)
        (HERE / file).write_text(HEADER.format(purpose) + entries, encoding="utf-8")
    PAGE.write_text(page(pins, taken), encoding="utf-8")
    (torch,) = (pin for pin in pins if pin.name == "torch")
    entries = "".join(map(str, lowest(torch)))
    (HERE / LOWEST).write_text(HEADER.format("the lowest that setup.py names") + entries)
    print(f"{len(pins)} versions in {', '.join(LOCKS)}; their licences in {PAGE.name}")


if __name__ == "__main__":
    main()
