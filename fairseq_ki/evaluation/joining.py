"""Seeds of one experiment that were run apart, on other machines or another day, as one."""

import dataclasses
import re
from itertools import pairwise
from pathlib import Path

from fairseq_ki.evaluation.commands import difference
from fairseq_ki.evaluation.downstream import Downstream
from fairseq_ki.evaluation.results import Results, Run

# what names a shared run after its command and its data's path
_KEY = re.compile(r"(?<=-)[0-9a-f]{12}(?=/seed\d)")
_SEED = re.compile(r"\bseed\d+\b")


def joined(files: list[tuple[str, Results]]) -> list[Results]:
    """The results of each experiment as one, where the first of its files stood.

    Title, tables and claims are those of the file that was made last.

    Args:
        files: names for messages, and what is in them.

    Raises:
        ValueError: for files of one experiment that have a seed in common, or made a run by
            another command or on other data, or a run of all seeds with another outcome.
    """
    groups: dict[tuple[str, str, float], list[tuple[str, Results]]] = {}
    for file, results in files:
        key = (results.name, results.scale, results.shortened)
        groups.setdefault(key, []).append((file, results))
    found = []
    for group in groups.values():
        (files_so_far, whole), *others = sorted(group, key=lambda entry: entry[1].created)
        for file, results in others:
            try:
                whole = _join(whole, results)
            except ValueError as e:
                raise ValueError(f"{files_so_far} and {file}: {e}") from None
            files_so_far += f", {file}"
        found.append(whole)
    return found


def _join(first: Results, second: Results) -> Results:
    """The second is the newer."""
    twice = sorted(set(first.seeds) & set(second.seeds))
    if twice:
        raise ValueError(f"expected other seeds in each, found {twice} in both")
    seeds = sorted(first.seeds + second.seeds)
    tuned = {_of_what(each) for each in first.downstream}
    return dataclasses.replace(
        second,
        created=f"{first.created}, {second.created}",
        command=[*_without("--seeds", second.command), "--seeds", *map(str, seeds)],
        seeds=seeds,
        corpus=list({each["sha256"]: each for each in first.corpus + second.corpus}.values()),
        versions=_both(first.versions, second.versions),
        machine=_both(first.machine, second.machine),
        runs=_runs(first, second),
        downstream=first.downstream + [d for d in second.downstream if _of_what(d) not in tuned],
    )


def _of_what(found: Downstream) -> tuple:
    """What was tried on what: the same for a checkpoint that serves all seeds."""
    tasks = [(task.task, task.method) for task in found.tasks]
    return found.label, found.checkpoint["path"], tuple(tasks)


def _runs(first: Results, second: Results) -> list[Run]:
    runs = {(run.name, run.seed): run for run in first.runs}
    commands = {run.name: _of_any_seed(run, first) for run in first.runs}
    for run in second.runs:
        command = _of_any_seed(run, second)
        differs = difference(commands.get(run.name, command), command)
        if differs:
            raise ValueError(f"expected one command of {run.name}, but for its seed; {differs}")
        earlier = runs.setdefault((run.name, run.seed), run)
        if earlier is run:
            continue
        # as the seeds differ, it is a run that serves all of them
        ends = [each.valid.get("ppl", []) for each in (earlier, run)]
        if str(ends[0]) != str(ends[1]):  # nan is nan
            raise ValueError(
                f"expected the same PPL of {run.name} in both, as it serves all seeds, found "
                f"{ends[0][-1:]} and {ends[1][-1:]} at its end"
            )
        runs[run.name, run.seed] = dataclasses.replace(earlier, fixed_seed=True)
    return list(runs.values())


def _of_any_seed(run: Run, results: Results) -> list[str]:
    """A run's command without its seed: data by their content, and its folders by what they are."""
    places = {str(Path(corpus["path"]).parent): "CORPORA" for corpus in results.corpus}
    places |= {corpus["path"]: corpus["sha256"] for corpus in results.corpus}
    for option, value in pairwise(results.command):
        if option in ("--out", "--shared"):
            places[value] = option
    words = [_SEED.sub("seed", _KEY.sub("", word)) for word in run.command]
    for path in sorted(places, key=len, reverse=True):
        name = re.compile(rf"(?<![\w./-]){re.escape(path)}(?![\w.-])")
        words = [name.sub(places[path], word) for word in words]
    return ["" if before == "--seed" else word for before, word in zip(["", *words], words)]


def _without(option: str, command: list[str]) -> list[str]:
    """The command without an option and its values."""
    kept: list[str] = []
    ours = False
    for word in command:
        ours = word == option or (ours and not word.startswith("-"))
        kept += [] if ours else [word]
    return kept


def _both(first: dict, second: dict) -> dict:
    """Values of both, where they differ one after the other."""
    return {
        name: "; ".join(dict.fromkeys(str(d[name]) for d in (first, second) if name in d))
        for name in {**first, **second}
    }
