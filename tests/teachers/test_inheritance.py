"""When the teacher is opened, asked and let go."""

from fairseq_ki.objective.schedules import Schedule
from fairseq_ki.objective.surpassed import SurpassedMonitor
from fairseq_ki.teachers.inheritance import Inheritance


class Source:
    def check_temperature(self, temperature):
        assert temperature == 2.0

    def describe(self):
        return "a source"


class Opener:
    def __init__(self):
        self.calls = 0

    def __call__(self):
        self.calls += 1
        return Source()


def test_opened_once_and_released_when_the_rate_is_zero_for_good():
    inheritance, opener = Inheritance(Schedule("linear", 1.0, 3), 2.0), Opener()
    rates = []
    for update in range(5):
        inheritance.begin_update(update, opener)
        inheritance.begin_update(update, opener)  # a second micro-batch changes nothing
        rates.append(inheritance.rate)
        assert (inheritance.source is None) == (update >= 3)
    assert all(abs(a - b) < 1e-12 for a, b in zip(rates, [1, 2 / 3, 1 / 3, 0, 0]))
    assert opener.calls == 1


def test_never_opened_after_the_end():
    inheritance, opener = Inheritance(Schedule("heaviside", 1.0, 3), 2.0), Opener()
    inheritance.begin_update(3, opener)
    assert opener.calls == 0
    assert inheritance.over(3)


def test_surpassed_teacher_is_silent_from_the_next_update_and_after_a_resume():
    def fresh():
        return Inheritance(Schedule("constant", 0.5, 0), 2.0, SurpassedMonitor(2))

    inheritance, opener = fresh(), Opener()
    inheritance.begin_update(7, opener)
    inheritance.end_update(1.0, 2.0)
    half_way = fresh()
    half_way.load_state_dict(inheritance.state_dict())
    for run in (inheritance, half_way):
        run.begin_update(8, opener)
        assert run.rate == 0.5
        run.end_update(1.0, 2.0)
        run.begin_update(9, opener)
        assert run.rate == 0
        assert run.source is None
    resumed = fresh()
    resumed.load_state_dict(inheritance.state_dict())
    assert resumed.over(9)
    assert not resumed.over(8)
