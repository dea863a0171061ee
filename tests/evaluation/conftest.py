"""Results of a made-up experiment whose savings are known by construction."""

import math

import pytest

from fairseq_ki.evaluation.results import Comparison, Flops, Results, Run, Teacher
from fairseq_ki.evaluation.specs import PaperRun, PaperSaving

UPDATES = [100.0, 200.0, 300.0, 400.0]


def made_run(name, role, seed, losses, *, teachers=(), rate=None, flops=10.0) -> Run:
    return Run(
        name=name,
        label=f"the {name}",
        role=role,
        seed=seed,
        kind="train",
        command=["python", "-m", "fairseq_cli.train", "data bin", "--seed", str(seed)],
        folder=f"{name}/seed{seed}",
        wall_seconds=200.0,
        valid={
            "updates": UPDATES,
            "loss": losses,
            "ppl": [2**loss for loss in losses],
            "wall": [u / 2 for u in UPDATES],
        },
        train={"updates": UPDATES, "loss": losses, **({"ki_rate": rate} if rate else {})},
        flops=Flops(3 * flops, flops, {"layers": 2}, {"tokens": 4096}),
        teachers=list(teachers),
        paper=PaperRun("LARGE", {"40000": 4.6}) if role == "alone" else None,
        fixed_seed=False,
    )


def made_results(seeds=(1, 2)) -> Results:
    """At update 200 (end of guidance) the inheriting run is where the other is at 300 (+-)."""
    results = Results(
        name="made",
        title="Made <up>",
        about="",
        created="2026-01-31T00:00:00+00:00",
        command=["fairseq-ki", "experiment", "x.yaml"],
        scale="",
        shortened=1,
        seeds=list(seeds),
        corpus=[{"path": "data-bin", "sha256": "c0ffee" * 10}],
        versions={"python": "3.11.9", "torch": "2.13.0"},
        machine={"cores": "2"},
        report_updates=[200, 400],
        comparisons=[Comparison("ki", "self", PaperSaving(0.273, "BASE to LARGE"))],
    )
    for seed in seeds:
        teacher = made_run("teacher", "teacher", seed, [9, 8.5, 8.2, 8.0], flops=2.0)
        taught_by = Teacher("teacher", seed, 200, 2.0, teacher.cost(400), teacher.ppl(400))
        # self crosses 9.0 at 300 with seed 1, at 320 with seed 2
        middle = 9.0 if seed == 1 else 9.05
        results.runs += [
            teacher,
            made_run("self", "alone", seed, [11, 10, middle, 8.8]),
            made_run(
                "ki", "inherited", seed, [10, 9, 8.8, 8.7], teachers=[taught_by],
                rate=[0.75, 0.25, 0.0, 0.0],
            ),
        ]  # fmt: skip
    return results


@pytest.fixture
def make_results():
    """For tests that need several."""
    return made_results


@pytest.fixture
def results() -> Results:
    return made_results()


@pytest.fixture
def diverged() -> Results:
    """The same, but one self-learning run is not finite from the start."""
    made = made_results()
    made.arm("self")[0].valid["loss"] = [math.nan] * 4
    made.arm("self")[0].valid["ppl"] = [math.nan] * 4
    return made
