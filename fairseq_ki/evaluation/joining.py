"""Seeds of one experiment that were run apart, on other machines or another day, as one."""

import dataclasses
import re
from pathlib import Path

from fairseq_ki.evaluation.command_difference import difference
from fairseq_ki.evaluation.downstream import Downstream
from fairseq_ki.evaluation.results import Results, Run

# of a run's own folder, and of those of the runs before it with the same seed
_SEED_FOLDER = re.compile(r"\bseed\d+\b")


def joined(files: list[tuple[str, Results]]) -> list[Results]:
    """The results of each experiment as one, where the first of its files stood.

    Title, tables and claims are those of the file that was made last.

    Args:
        files: names for messages, and what is in them.

    Raises:
        ValueError: for files of one experiment that have a seed in common, are not finished, made
            a run by another command or on other data, or a run that serves all seeds with
            another outcome.
    """
    groups: dict[tuple[str, str, float], list[tuple[str, Results]]] = {}
    for file, results in files:
        key = (results.name, results.scale, results.shortened)
        groups.setdefault(key, []).append((file, results))
    oldest_first = [sorted(group, key=lambda entry: entry[1].created) for group in groups.values()]
    return [_joined(group) if len(group) > 1 else group[0][1] for group in oldest_first]


def _joined(files: list[tuple[str, Results]]) -> Results:
    (first_file, first), *others = files
    seeds = list(first.seeds)
    for file, results in others:
        twice = sorted(set(seeds) & set(results.seeds))
        if twice:
            raise ValueError(f"{file}: expected other seeds than in the other files, found {twice}")
        seeds += results.seeds
        if _data(results) != _data(first):
            only_one = ", ".join(sorted(_data(results) ^ _data(first)))
            raise ValueError(
                f"{file}: expected the data of {first_file}, found that only one has the SHA-256 "
                f"{only_one}"
            )
    found = [results for _, results in files]
    arms = dict.fromkeys(run.name for results in reversed(found) for run in results.runs)
    runs = [run for arm in arms for run in _arm(arm, files)]
    newest = found[-1]
    return dataclasses.replace(
        newest,
        created=", ".join(results.created for results in found),
        command=[*_without_seeds(newest.command), "--seeds", *map(str, sorted(seeds))],
        seeds=sorted(seeds),
        versions=_all_of([results.versions for results in found]),
        machine=_all_of([results.machine for results in found]),
        runs=runs,
        downstream=_downstream(files, [run.name for run in runs if run.fixed_seed]),
    )


def _data(results: Results) -> set[str]:
    """Hashes of all that it was trained, evaluated and tried on."""
    tried = {sha for d in results.downstream for task in d.tasks for sha in task.files.values()}
    return {corpus["sha256"] for corpus in results.corpus} | tried


def _arm(name: str, files: list[tuple[str, Results]]) -> list[Run]:
    """The runs of one arm in all files; one that serves all seeds is in each, and here once."""
    of_files = [(file, results.seeds, results.arm(name)) for file, results in files]
    made_in = [[run.seed for run in runs] for _, _, runs in of_files]
    # older files do not say so, but no two have a seed in common
    serves_all = any(run.fixed_seed for _, _, runs in of_files for run in runs) or all(
        len(made) == 1 and made == made_in[0] for made in made_in
    )
    for (file, seeds, _), made in zip(of_files, made_in):
        if len(made) != 1 if serves_all else made != sorted(seeds):
            raise ValueError(
                f"{file}: expected {name} with {'one seed' if serves_all else f'seeds {seeds}'}, "
                f"found {made or 'none'}: unfinished, or of another recipe"
            )
    (first_file, _, (first, *_)), *others = of_files
    for file, _, runs in others:
        for run in runs:
            _check_command(first_file, first, file, run)
            if serves_all:
                _check_outcome(first_file, first, file, run)
    if serves_all:
        return [dataclasses.replace(first, fixed_seed=True)]
    return [dataclasses.replace(run, fixed_seed=False) for _, _, runs in of_files for run in runs]


def _check_command(first_file: str, first: Run, file: str, run: Run) -> None:
    here, there = (_of_any_seed(each.command) for each in (first, run))
    if first.identity is None or run.identity is None:  # an older file: places count
        same = here == there
    else:
        same = first.identity == run.identity
    if not same:
        how = difference(here, there) or "its data, its files or a run before it differs"
        raise ValueError(
            f"{file}: expected {run.name} as in {first_file} but for the seed, found another: {how}"
        )


def _of_any_seed(command: list[str]) -> list[str]:
    """Without its seed, as an option and in the names of folders."""
    words = [_SEED_FOLDER.sub("seed", word) for word in command]
    return ["" if before == "--seed" else word for before, word in zip(["", *words], words)]


def _check_outcome(first_file: str, first: Run, file: str, run: Run) -> None:
    here, there = (
        {"seed": each.seed, **each.valid, **each.metrics, "wall": None} for each in (first, run)
    )
    for name in here:
        if str(here[name]) != str(there.get(name)):  # nan is nan
            raise ValueError(
                f"{file}: expected {run.name}, which serves all seeds, as in {first_file}: "
                f"{name} {here[name]}, found {there.get(name)}"
            )


def _downstream(files: list[tuple[str, Results]], serving: list[str]) -> list[Downstream]:
    """What was tried, and of the checkpoints that serve all seeds the first file's."""
    found = list(files[0][1].downstream)
    for _, results in files[1:]:
        folders = {Path(run.folder).parts[-2:] for name in serving for run in results.arm(name)}
        found += [
            each
            for each in results.downstream
            if Path(each.checkpoint["path"]).parent.parts[-2:] not in folders
        ]
    return found


def _without_seeds(command: list[str]) -> list[str]:
    kept: list[str] = []
    seeds = False
    for word in command:
        seeds = word.split("=")[0] == "--seeds" or (seeds and not word.startswith("-"))
        kept += [] if seeds else [word]
    return kept


def _all_of(found: list[dict]) -> dict:
    """Values of all by name, where they differ one after the other."""
    names = dict.fromkeys(name for each in found for name in each)
    return {
        name: "; ".join(dict.fromkeys(str(each[name]) for each in found if name in each))
        for name in names
    }
