"""What live teachers and those of stores cost a run."""

from pathlib import Path
from types import SimpleNamespace

import pytest

from fairseq_ki.evaluation import flops
from fairseq_ki.evaluation.results import Flops, Run
from fairseq_ki.experiments import teacher_costs
from fairseq_ki.experiments.plan import plan
from fairseq_ki.experiments.recipe import load
from fairseq_ki.experiments.teacher_costs import teachers_of
from fairseq_ki.store.errors import UnfinishedError

SIZES = {"layers": 2, "d_model": 8, "d_ffn": 16, "vocabulary": 100, "dense_head": True}
BATCH = flops.Batch(tokens=512, sequence_length=32, loss_rows=64)
RECIPE = """\
name: x
data: data-bin
runs:
  teacher: {seed: 1, options: {arch: a}}
  store:
    {kind: command, seed: 1, command: [capture, "{runs.teacher}", "{folder}"]}
  live:
    teachers: [teacher]
    options: {arch: b, ki-steps: 40, ki-teacher: "{runs.teacher}/checkpoint_best.pt"}
  stored: {options: {arch: b, ki-steps: 40, ki-store: "{runs.store}/store"}}
"""


def trained(name: str, **more) -> Run:
    return Run(
        name, name, "", 1, "train", [], "", 10.0,
        valid={"updates": [100.0], "loss": [5.0], "ppl": [32.0]},
        train={"updates": [20.0, 40.0, 60.0], "ki_rate": [0.8, 0.2, 0.0]},
        flops=Flops(30.0, 10.0, SIZES, {}), **more,
    )  # fmt: skip


@pytest.fixture
def teachers(tmp_path, monkeypatch):
    (tmp_path / "recipe.yaml").write_text(RECIPE)
    jobs = {j.spec.name: j for j in plan(load(tmp_path / "recipe.yaml"), tmp_path / "out", [1])}
    store = jobs["store"].folder / "store"

    def of(name: str, samples: int = 0):
        def manifest(path):
            if not samples or path != Path(store):
                raise UnfinishedError("no manifest.json")
            return SimpleNamespace(
                samples=samples, plan=SimpleNamespace(data={"tokens_per_sample": 32})
            )

        monkeypatch.setattr(teacher_costs.Manifest, "load", manifest)
        return teachers_of(jobs[name], trained(name), BATCH, [trained("teacher")])

    return of


def test_a_live_teacher(teachers):
    (live,) = teachers("live")
    forward = flops.teacher_flops(flops.Sizes(**SIZES), BATCH)
    assert (live.run, live.updates, live.valid_ppl) == ("teacher", 40, pytest.approx(32))
    assert live.forward_flops == forward
    assert live.training_flops == 30 * 100


def test_a_stores_teacher_costs_what_a_live_one_does_and_the_rest_of_the_capture(teachers):
    (live,) = teachers("live")
    # 40 updates of 16 samples are read
    (exact,) = teachers("stored", samples=40 * 16)
    assert exact == live
    (twice,) = teachers("stored", samples=80 * 16)
    assert twice.forward_flops == live.forward_flops
    assert twice.training_flops == live.training_flops + 40 * live.forward_flops
    # read for more epochs than were captured: nothing was asked twice, and no less is said
    (half,) = teachers("stored", samples=20 * 16)
    assert half == live


def test_what_is_no_store_teaches_nothing(teachers):
    assert teachers("stored") == []
