"""The command against the paper's Table 8."""

from types import SimpleNamespace

import pytest

from fairseq_ki.downstream.request import Request
from fairseq_ki.downstream.tasks import TASKS, Task
from fairseq_ki.downstream.training import HowToTrain, Setting, options, updates_per_epoch


def request(**more):
    return Request(out=None, label="", tasks=[], **more)


def options_of(task, rows=1000, setting=None, how=None, seed=1):
    prepared = SimpleNamespace(
        rows={"train": [None] * rows}, classes=2, data=SimpleNamespace(task=task)
    )
    dictionary = SimpleNamespace(bos=lambda: 0, eos=lambda: 2)
    pretrained = SimpleNamespace(
        dictionary=dictionary, model_words=("--arch", "roberta_base"), positions=512
    )
    words = options(prepared, pretrained, setting or Setting(2e-5, 16), seed, how or HowToTrain())
    return dict(zip(words, [*words[1:], ""]))


@pytest.mark.parametrize("name", [n for n in TASKS if TASKS[n].glue])
def test_glue_grid_of_table_8(name):
    settings = {setting for setting, _ in request().runs(TASKS[name])}
    assert settings == {Setting(lr, b) for lr in (1e-5, 2e-5, 3e-5) for b in (16, 32)}


@pytest.mark.parametrize("name", ["citation_intent", "chemprot"])
def test_domain_setting_of_table_8(name):
    runs = list(request().runs(TASKS[name]))
    assert {setting for setting, _ in runs} == {Setting(2e-5, 256)}
    assert [seed for _, seed in runs] == list(range(1, 11))  # 10 seeds in Tables 2 to 4


def test_the_rest_of_table_8():
    found = options_of(TASKS["rte"])
    assert found["--weight-decay"] == "0.1"
    assert found["--max-epoch"] == "10"
    assert found["--lr-scheduler"] == "polynomial_decay"
    assert found["--total-num-update"] == found["--max-update"] == "630"  # 10 x ceil(1000 / 16)
    assert found["--warmup-updates"] == "38"  # 0.06 of them
    assert found["--lr"] == "2e-05"
    assert found["--dropout"] == found["--attention-dropout"] == "0.1"
    assert found["--seed"] == "1"
    assert found["--ki-metric"] == "accuracy"
    assert options_of(TASKS["stsb"])["--ki-metric"] == "pearson"
    assert "--regression-target" in options_of(TASKS["stsb"])


def test_a_batch_in_parts_makes_as_many_updates():
    whole, parts = HowToTrain(), HowToTrain(update_freq=4)
    found = options_of(TASKS["rte"], how=parts)
    assert (found["--batch-size"], found["--update-freq"]) == ("4", "4")
    for rows in (1, 4, 15, 16, 17, 1000):
        prepared = SimpleNamespace(rows={"train": [None] * rows})
        counts = [updates_per_epoch(prepared, Setting(1e-5, 16), how) for how in (whole, parts)]
        assert counts[0] == counts[1] == -(-rows // 16)


def test_seeds_and_grids_that_are_given_win():
    task = Task("mine", "mine")
    runs = list(request(seeds=[7, 8], lrs=(1e-3,), batch_sizes=(4,)).runs(task))
    assert runs == [(Setting(1e-3, 4), 7), (Setting(1e-3, 4), 8)]
