"""What a task finds of its own in a checkpoint, altered by somebody."""

import pytest

from fairseq_ki.tasks._resumed import check_resumed_state

TEACHER = {"domain": "", "path": "/t.pt", "sha256": None}
GOOD = {
    "mixture": {},
    "inheritance": {"let_go_at": None, "streak": 0},
    "lineage": {},
    "teachers": [TEACHER, TEACHER | {"sha256": "0" * 64}],
}


def test_what_a_task_writes_is_taken():
    check_resumed_state(GOOD, "c.pt")
    check_resumed_state({}, "c.pt")
    check_resumed_state({"inheritance": {"let_go_at": 7, "streak": 3}}, "c.pt")


@pytest.mark.parametrize(
    ("state", "said"),
    [
        ([1], "the state of the task: expected a dictionary, found a list"),
        ({"mixture": 5}, "mixture: expected a dictionary, found 5"),
        ({"lineage": [1]}, "lineage: expected a dictionary, found a list"),
        ({"inheritance": [1, 2]}, "inheritance: expected a dictionary, found a list"),
        (
            {"inheritance": {"let_go_at": "x", "streak": 0}},
            "inheritance.let_go_at: expected a number",
        ),
        ({"inheritance": {"let_go_at": None}}, "inheritance.streak: .*found nothing"),
        ({"inheritance": {"let_go_at": None, "streak": -1}}, "inheritance.streak: .*found -1"),
        ({"teachers": 5}, "teachers: expected a list of records of teachers, found 5"),
        ({"teachers": [{}]}, "teachers: expected a list of records"),
        ({"teachers": [TEACHER | {"path": 1}]}, "teachers: expected a list of records"),
    ],
)
def test_the_part_is_named(state, said):
    with pytest.raises(ValueError, match=f"c.pt: {said}"):
        check_resumed_state(GOOD | state if isinstance(state, dict) else state, "c.pt")
