"""From a recipe to jobs: which command runs in which folder, and what identifies it."""

import hashlib
import json
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import fairseq_ki
from fairseq_ki.experiments import options as train_options
from fairseq_ki.experiments.recipe import PLACEHOLDER, TRAIN, Recipe, RunSpec

USER_DIR = Path(fairseq_ki.__file__).resolve().parent
LOG_FILE = "train.log"


@dataclass
class Job:
    """One run with one seed.

    ``words`` is what identifies the command: as the recipe has it, without the places where
    Python, the package and the experiment's folder happen to be.
    """

    spec: RunSpec
    seed: int
    folder: Path
    data: str
    command: list[str]
    words: list[str]
    needs: dict[str, "Job"] = field(default_factory=dict)

    @property
    def name(self) -> str:
        return f"{self.spec.label}, seed {self.seed}"

    @property
    def log(self) -> Path:
        """Everything that the command prints."""
        return self.folder / LOG_FILE

    @property
    def updates(self) -> int | None:
        """The length of a training, as far as the recipe gives it."""
        length = self.spec.options.get("max-update")
        return int(length) if length else None

    def signature(self, corpus_hash: Callable[[str], str]) -> str:
        """SHA-256 of all that decides the result: command, data, and the runs before it."""
        parts = {
            "words": self.words,
            "data": corpus_hash(self.data) if self.spec.kind == TRAIN else "",
            "needs": {name: job.signature(corpus_hash) for name, job in self.needs.items()},
        }
        return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def plan(recipe: Recipe, out: Path, seeds: list[int]) -> list[Job]:
    """The jobs in the order in which they are run, seed by seed."""
    jobs: list[Job] = []
    once: dict[str, Job] = {}
    for seed in seeds:
        of_seed: dict[str, Job] = {}
        for spec in recipe.runs:
            if spec.name not in once:
                job = _job(spec, out, seed if spec.seed is None else spec.seed, of_seed)
                of_seed[spec.name] = job
                jobs.append(job)
                if spec.seed is not None:
                    once[spec.name] = job
            else:
                of_seed[spec.name] = once[spec.name]
    return jobs


def _job(spec: RunSpec, out: Path, seed: int, before: dict[str, Job]) -> Job:
    folder = out / spec.name / f"seed{seed}"
    values = {"out": str(out), "seed": str(seed), "folder": str(folder)}
    values |= {f"runs.{name}": str(before[name].folder) for name in spec.needs}

    def fill(text: str) -> str:
        return PLACEHOLDER.sub(lambda match: values.get(match[1], match[0]), text)

    data = fill(spec.data)
    values["data"] = data
    if spec.kind == TRAIN:
        options = train_options.words(spec.options)
        words = ["fairseq-train", *options, "--seed", str(seed)]
        command = [sys.executable, "-m", "fairseq_cli.train", data, "--user-dir", str(USER_DIR)]
        command += [*map(fill, options), "--seed", str(seed)]
        command += ["--save-dir", str(folder), "--log-format", "json"]
    else:
        words = [*spec.command, str(seed)]
        command = list(map(fill, spec.command))
    needs = {name: before[name] for name in spec.needs}
    return Job(spec, seed, folder, data, command, words, needs)
