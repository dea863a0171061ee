"""Parts of a checkpoint that are of another type than fairseq writes."""

import copy
import re

import pytest
import torch

from fairseq_ki import compat
from fairseq_ki.compat.checkpoint_contents import what_is_out_of_place


def test_what_fairseq_writes_is_in_place(teacher):
    state = compat.load_checkpoint(teacher)
    assert what_is_out_of_place(state) is None
    for key in list(state):  # older versions wrote fewer parts
        fewer = copy.copy(state)
        del fewer[key]
        assert what_is_out_of_place(fewer) is None


def test_what_is_found_is_shown_as_its_type_where_it_may_be_long():
    found = what_is_out_of_place({"optimizer_history": [{"num_updates": "x" * 10**6}]})
    assert (
        found == "optimizer_history.num_updates: expected a whole number of 0 or more, found a str"
    )
    assert len(what_is_out_of_place({"extra_state": 10**5000})) < 100


def history(**values):
    return lambda state: state["optimizer_history"][-1].update(values)


def extra(**values):
    return lambda state: state["extra_state"].update(values)


@pytest.mark.parametrize(
    ("alter", "said"),
    [
        (lambda state: state.update(optimizer_history=5), "optimizer_history: expected a list"),
        (lambda state: state.update(optimizer_history=[5]), "optimizer_history: expected a list"),
        (lambda state: state.update(optimizer_history=[]), "optimizer_history: expected a list"),
        (lambda state: state.update(extra_state=5), "extra_state: expected a dictionary, found 5"),
        (lambda state: state.update(cfg=5), "cfg: expected a dictionary, found 5"),
        (lambda state: state["cfg"].update(task=5), "cfg.task: expected options, found 5"),
        (lambda state: state.update(args="x"), "args: expected options, found a str"),
        (lambda state: state.update(last_optimizer_state=[1]), "last_optimizer_state: expected a"),
        (history(num_updates="x"), "optimizer_history.num_updates: expected a whole number"),
        (history(num_updates=-7), "optimizer_history.num_updates: .*found -7"),
        (history(num_updates=float("nan")), "optimizer_history.num_updates: .*found a float"),
        (history(lr_scheduler_state=[1]), "optimizer_history.lr_scheduler_state: expected a"),
        (extra(metrics=[1, 2]), "extra_state.metrics: expected a dictionary, found a list"),
        (extra(train_iterator="x"), "extra_state.train_iterator: expected a dictionary"),
        (
            extra(train_iterator={"epoch": "x"}),
            "extra_state.train_iterator.epoch: expected a whole",
        ),
        (
            extra(previous_training_time="x"),
            "previous_training_time: expected a number, found a str",
        ),
        (extra(previous_training_time=torch.zeros(2)), "expected a number, found a Tensor"),
    ],
)
def test_the_part_is_named(teacher, alter, said):
    state = compat.load_checkpoint(teacher)
    alter(state)
    assert re.search(said, what_is_out_of_place(state))


def test_several_ranks_have_their_training_time_as_a_tensor(teacher):
    state = compat.load_checkpoint(teacher)
    state["extra_state"]["previous_training_time"] = torch.tensor([12.5])
    assert what_is_out_of_place(state) is None
