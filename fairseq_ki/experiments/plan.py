"""From a recipe to jobs: which command runs in which folder, and what identifies it."""

import hashlib
import json
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import fairseq_ki
from fairseq_ki.experiments import mixture
from fairseq_ki.experiments import options as train_options
from fairseq_ki.experiments.recipe import Recipe
from fairseq_ki.experiments.run_specs import COMMAND, EVALUATE, PLACEHOLDER, SHARED, TRAIN, RunSpec

USER_DIR = Path(fairseq_ki.__file__).resolve().parent
LOG_FILE = "train.log"
UPDATES = "updates."  # {updates.400}
# an evaluation takes all else from the checkpoint, masks included; the mixture may be gone
_EVALUATION = ["--batch-size", "16", "--required-batch-size-multiple", "1"]
_EVALUATION += ["--num-workers", "1", "--log-format", "json"]
_OVERRIDES = ["--model-overrides", "{'ki_mixture': None}"]


@dataclass
class Job:
    """One run with one seed.

    ``words`` is what identifies the command: as the recipe has it, without the places where
    Python, the package and the experiment's folder happen to be. ``corpora`` are the data-bins
    that the result depends on, ``files`` what the driver writes into the folder first, by name.
    """

    spec: RunSpec
    seed: int
    folder: Path
    data: str
    corpora: list[str]
    command: list[str]
    words: list[str]
    files: dict[str, Any] = field(default_factory=dict)
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

    def signature(self, corpus_hash: Callable[[str], str], of_any_seed: bool = False) -> str:
        """SHA-256 of all that decides the result: command, data, and the runs before it.

        Args:
            corpus_hash: of a data-bin by its path.
            of_any_seed: leave out seeds, but for those that the recipe fixes.
        """
        seed = str(self.spec.seed) if of_any_seed else self.words[-1]
        parts = {
            "words": [*self.words[:-1], seed],
            "data": ":".join(map(corpus_hash, self.corpora)),
            "needs": {
                name: job.signature(corpus_hash, of_any_seed) for name, job in self.needs.items()
            },
        }
        return _hash(parts)


def plan(recipe: Recipe, out: Path, seeds: list[int], shared: Path | None = None) -> list[Job]:
    """The jobs in the order in which they are run, seed by seed.

    Args:
        recipe: what to run.
        out: folder of the experiment.
        seeds: each arm is run once for each, an arm with a seed of its own once.
        shared: where the runs are that several experiments use, default ``shared`` beside
            ``out``; each in a folder that its command names, so that the same command is the
            same run and another command another one.

    Raises:
        ValueError: if lengths that are divided leave no checkpoint where another run needs it.
    """
    jobs: list[Job] = []
    once: dict[str, Job] = {}
    for seed in seeds:
        of_seed: dict[str, Job] = {}
        for spec in recipe.runs:
            if spec.name not in once:
                own_seed = seed if spec.seed is None else spec.seed
                job = _job(recipe, spec, out, shared or out.parent / "shared", own_seed, of_seed)
                of_seed[spec.name] = job
                jobs.append(job)
                if spec.seed is not None:
                    once[spec.name] = job
            else:
                of_seed[spec.name] = once[spec.name]
    return jobs


def _job(
    recipe: Recipe, spec: RunSpec, out: Path, shared: Path, seed: int, before: dict[str, Job]
) -> Job:
    values = {"out": str(out), "seed": str(seed)}
    values |= {f"runs.{name}": str(before[name].folder) for name in spec.needs}

    def fill(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: fill(item) for key, item in value.items()}
        if isinstance(value, list):
            return [fill(item) for item in value]
        if not isinstance(value, str):
            return value
        return PLACEHOLDER.sub(lambda match: filled(match[1], match[0]), value)

    def filled(name: str, as_written: str) -> str:
        if name.startswith(UPDATES):  # a number of updates, in a shortened experiment too
            updates = int(name.removeprefix(UPDATES))
            if updates % recipe.shortened:  # lengths that are rounded drift apart
                raise ValueError(
                    f"--shorten (SHORTEN): expected a divisor of {updates:,}, since {spec.name} "
                    f"needs a checkpoint at that update, found {recipe.shortened:g}"
                )
            return str(train_options.shorter(updates, recipe.shortened))
        return values.get(name, as_written)

    main_data = fill(recipe.data)
    values["corpora"] = str(Path(main_data.split(":")[0]).parent)
    values["data"] = main_data
    values["data"] = data = main_data if spec.data == recipe.data else fill(spec.data)
    needs = {name: before[name] for name in spec.needs}
    words = _words(spec)
    if spec.folder == SHARED:
        folder = shared / f"{spec.name}-{_key(spec, words, data, needs)}" / f"seed{seed}"
    else:
        folder = out / spec.name / f"seed{seed}"
    values["folder"] = str(folder)
    files = fill(spec.files)
    corpora = list(dict.fromkeys([data, *mixture.corpora(files)]))
    if spec.kind == COMMAND and "{data}" not in " ".join(spec.command):
        corpora = []
    return Job(
        spec=spec,
        seed=seed,
        folder=folder,
        data=data,
        corpora=corpora,
        command=_command(recipe, spec, data, folder, seed, fill, needs),
        words=[*words, str(seed)],
        files=files,
        needs=needs,
    )


def _words(spec: RunSpec) -> list[str]:
    """The command as the recipe has it, up to the seed."""
    if spec.kind == COMMAND:
        return list(spec.command)
    if spec.kind == EVALUATE:
        return ["fairseq-validate", spec.of]
    files = [json.dumps(spec.files, sort_keys=True)] if spec.files else []
    return ["fairseq-train", *train_options.words(spec.options), *files, "--seed"]


def _key(spec: RunSpec, words: list[str], data: str, needs: dict[str, Job]) -> str:
    """Names the folder of a shared run: what it does, on what, after which shared runs."""
    before = {name: str(job.folder.parent.name) for name, job in needs.items()}
    return _hash([words, spec.seed, data, before])[:12]


def _hash(parts: Any) -> str:
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def _command(
    recipe: Recipe,
    spec: RunSpec,
    data: str,
    folder: Path,
    seed: int,
    fill: Callable[[Any], Any],
    needs: dict[str, Job],
) -> list[str]:
    if spec.kind == TRAIN:
        command = [*(recipe.launch or [sys.executable]), "-m", "fairseq_cli.train", data]
        command += ["--user-dir", str(USER_DIR), *map(fill, train_options.words(spec.options))]
        return [*command, "--seed", str(seed), "--save-dir", str(folder), "--log-format", "json"]
    if spec.kind == EVALUATE:
        evaluated = needs[spec.of]
        command = [sys.executable, "-m", "fairseq_cli.validate", data, "--user-dir", str(USER_DIR)]
        command += ["--task", str(evaluated.spec.options["task"])]
        command += ["--path", str(evaluated.folder / "checkpoint_last.pt")]
        return [*command, *_EVALUATION, *_OVERRIDES]
    return list(map(fill, spec.command))
