"""``fairseq-ki doctor``: can this machine train? If not, what mends it?

Looks at versions, devices, disks and launchers, and then trains: a teacher and two updates of a
student of its, through fairseq's own entry point, on data made on the spot. With ``--command`` it
also reads the command of a planned training, and says what of it will not work here.

Where the package itself cannot be imported, ``python fairseq_ki/cli/doctor.py`` still says why.
"""

import argparse
import importlib
import json
import os
import sys
import types
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path

PACKAGE = Path(__file__).resolve().parent.parent

if __name__ == "__main__":
    sys.path[0] = str(PACKAGE.parent)  # it was this folder, whose names could hide others
    # the checks shall be found, although the package that they are in may be what is broken
    _bare = types.ModuleType("fairseq_ki")
    _bare.__path__ = [str(PACKAGE)]
    sys.modules["fairseq_ki"] = _bare

from fairseq_ki.cli._doctor_command import check_command  # noqa: E402
from fairseq_ki.cli._doctor_machine import (  # noqa: E402
    check_devices,
    check_disk,
    check_launcher,
    check_store,
)
from fairseq_ki.cli._doctor_packages import (  # noqa: E402
    check_apex,
    check_fairseq,
    check_libraries,
    check_python,
)
from fairseq_ki.cli._findings import Finding  # noqa: E402

if __name__ == "__main__":
    del sys.modules["fairseq_ki"]  # from here on the real one is looked at


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of the verb."""
    parser.add_argument(
        "--save-dir", default=".", metavar="DIR", help="where checkpoints would go (default: here)"
    )
    parser.add_argument("--store", metavar="DIR", help="a store of teacher logits, or its place")
    parser.add_argument(
        "--command",
        metavar="'TEXT'",
        help="a planned training as you would type it, 'fairseq-train DATA ...' or 'torchrun ...', "
        "in quotes: what of it will not work here? Nothing of it is run",
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object")


def run(args: argparse.Namespace) -> int:
    """Prints what was found; 0 if this machine can train, 1 otherwise."""
    findings = list(examine(args.save_dir, args.store, args.command))
    can_train = all(finding.status != "problem" for finding in findings)
    if args.json:
        checks = [asdict(finding) for finding in findings]
        print(json.dumps({"can_train": can_train, "checks": checks}, indent=2))
    else:
        for finding in findings:
            print(f"{finding.status:8} {finding.name}: {finding.found}")
            if finding.mend:
                print(f"{'':8} -> {finding.mend}")
        print("this machine can train" if can_train else "this machine cannot train yet")
    return 0 if can_train else 1


def examine(save_dir: str, store: str | None, command: str | None = None) -> Iterator[Finding]:
    """All checks, in the order of what depends on what; one that fails hides no other."""
    checks: dict[str, Callable[[], Iterator[Finding]]] = {
        "Python": check_python,
        "libraries": check_libraries,
        "fairseq": check_fairseq,
        "apex": check_apex,
        "devices": check_devices,
        "disk": lambda: check_disk(save_dir),
        "launcher": lambda: check_launcher(os.environ),
        "store": lambda: check_store(store),
        "fairseq_ki": check_patches,
        "command": lambda: check_command(command),
        "training": check_training,
    }
    for name, check in checks.items():
        try:
            yield from check()
        except Exception as error:
            yield Finding(
                name,
                f"{type(error).__name__}: {error}",
                "problem",
                "mend what is said above, or install anew: pip install --force-reinstall .",
            )


def check_patches() -> Iterator[Finding]:
    """What of the host is patched, and why."""
    for name, reason in importlib.import_module("fairseq_ki.compat").active_patches():
        yield Finding(f"patch: {name}", reason)


def check_training() -> Iterator[Finding]:
    """Two updates of a student that inherits from a teacher; nothing says more than that."""
    trial = importlib.import_module("fairseq_ki.cli._training_trial").train()
    if trial.failure:
        yield Finding(
            "training", f"failed: {trial.failure}", "problem",
            "mend the problems above first; if there are none, report this with the output of "
            "fairseq-ki doctor --json",
        )  # fmt: skip
    else:
        yield Finding("training", f"two updates with a teacher: {trial.progress}")


if __name__ == "__main__":
    _parser = argparse.ArgumentParser(prog="doctor.py", description=__doc__.splitlines()[0])
    add_arguments(_parser)
    sys.exit(run(_parser.parse_args()))
