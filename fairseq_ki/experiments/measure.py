"""What a finished run measured: curves from its log, costs from its checkpoint."""

import dataclasses
import json
import math
import os
import platform
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

import torch

from fairseq_ki.evaluation import flops
from fairseq_ki.evaluation.logs import read_log
from fairseq_ki.evaluation.report import evenly
from fairseq_ki.evaluation.results import Flops, Results, Run, run_curves
from fairseq_ki.experiments.plan import Job
from fairseq_ki.experiments.run_specs import EVALUATE, TRAIN
from fairseq_ki.experiments.teacher_costs import teachers_of

# the distributions that bring `import fairseq`
_FAIRSEQ = ("ve-fairseq", "fairseq", "fairseq-fixed")


def from_here(command: list[str]) -> list[str]:
    """A command as it reads on any machine: paths are those from the working directory."""
    here = f"{Path.cwd()}{os.sep}"
    words = ["python" if word == sys.executable else word for word in command]
    return [word.replace(here, "") for word in words]


def measured(job: Job, before: list[Run], seconds: float, out: Path, identity: str) -> Run:
    """The entry of results.json for a finished job; ``before`` has its teachers."""
    run = Run(
        name=job.spec.name,
        label=job.spec.label,
        role=job.spec.role,
        seed=job.seed,
        kind=job.spec.kind,
        command=from_here(job.command),
        folder=os.path.relpath(job.folder, out),
        wall_seconds=seconds,
        paper=job.spec.paper,
        fixed_seed=job.spec.seed is not None,
        identity=identity,
    )
    if job.spec.kind == EVALUATE:
        run.metrics = _evaluated(job.log)
    elif job.spec.measure:
        run.metrics = _measured_by_command(job)
    if job.spec.kind != TRAIN:
        return run
    log = read_log(job.log)
    run.valid, run.train = run_curves(log)
    tokens = [r["wpb"] for r in log.train if "wpb" in r]
    if tokens:
        sizes, task = flops.read_checkpoint(job.folder / "checkpoint_last.pt")
        batch = flops.batch_of(task, sum(tokens) / len(tokens))
        run.flops = Flops(
            per_update=flops.training_flops(sizes, batch),
            forward=flops.forward_flops(sizes, batch),
            sizes=dataclasses.asdict(sizes),
            batch=dataclasses.asdict(batch),
        )
        run.teachers = teachers_of(job, run, batch, before)
    return run


def _evaluated(log: Path) -> dict[str, float]:
    """Loss in bits and PPL from the line with which fairseq-validate ends."""
    for line in reversed(log.read_text(encoding="utf-8", errors="replace").splitlines()):
        if '{"' in line and '"valid_ppl"' in line:
            stats = json.loads(line[line.index('{"') :])
            return {name: float(stats[f"valid_{name}"]) for name in ("loss", "ppl")}
    raise ValueError(f"{log}: expected a line of fairseq-validate with valid_ppl, found none")


def check_measurable(job: Job) -> None:
    """Raise ValueError unless a run that has ended left what it is measured by."""
    if job.spec.kind == EVALUATE:
        _evaluated(job.log)
    elif job.spec.measure:
        _read(job, job.folder / job.spec.measure["file"])


def _read(job: Job, file: Path) -> Any:
    try:
        return json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as e:
        raise ValueError(
            f"{file}: expected the JSON that {job.name!r} writes there, found "
            f"{'none' if isinstance(e, FileNotFoundError) else e}; its output is in {job.log}. "
            "To run it again, delete done.json there, if it is, and call again"
        ) from None


def _measured_by_command(job: Job) -> dict[str, float]:
    """The numbers that the recipe reads from the JSON file which a command wrote."""
    measure = job.spec.measure
    file = job.folder / measure["file"]
    found = _read(job, file)
    result = {}
    for name, paths in measure["values"].items():
        values = [_at(found, str(p), file) for p in (paths if isinstance(paths, list) else [paths])]
        result[name] = measure.get("times", 1) * sum(values) / len(values)
    return result


def _at(value: Any, path: str, file: Path) -> float:
    """The number at a path of keys and indices with dots between them; nan where none is.

    A command may have had nothing to measure, such as a task whose data is absent.
    """
    for step in path.split("."):
        try:
            value = value[int(step) if isinstance(value, list) else step]
        except (KeyError, IndexError):
            return math.nan
        except (ValueError, TypeError):
            raise ValueError(f"{file}: expected a number at {path!r}, found no {step!r}") from None
    if value is not None and not isinstance(value, (int, float)):
        raise ValueError(f"{file}: expected a number at {path!r}, found {value!r}")
    return math.nan if value is None else float(value)


def report_updates(results: Results) -> list[int]:
    """Columns for the table of PPL where the recipe names none: evenly over the students' runs."""
    students = [r for r in results.runs if r.curve and r.role != "teacher"]
    longest = max(students or results.runs, key=lambda r: r.updates)
    return evenly(longest.valid.get("updates", []))


def versions() -> dict[str, str]:
    """Python and the packages that decide what is computed."""
    found = {"python": platform.python_version()}
    for name in ("torch", *_FAIRSEQ, "numpy", "sentencepiece", "fairseq_ki"):
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    found["torch"] = torch.__version__  # names the build, unlike the distribution
    return found


def machine() -> dict[str, str]:
    """What the seconds depend on."""
    facts = {
        "system": f"{platform.system()} {platform.machine()}",
        "cores": f"{len(os.sched_getaffinity(0))}, {torch.get_num_threads()} threads",
    }
    if torch.cuda.is_available():
        count = torch.cuda.device_count()
        facts["accelerator"] = f"{count} x {torch.cuda.get_device_name(0)}"
    return facts
