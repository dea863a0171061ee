"""Every teacher hears its own domains' rows and no others, and their words are mixed."""

import pytest
import torch

from fairseq_ki.objective.positions import Positions
from fairseq_ki.objective.signals import DenseSignal, HeadSignal, MixedSignal, SparseSignal
from fairseq_ki.store import MismatchError
from fairseq_ki.teachers.live import LiveTeacher
from fairseq_ki.teachers.router import DOMAIN, Router, Voice, rows_by_domain
from fairseq_ki.teachers.stored import STORED, StoredTeacher


class Live(LiveTeacher):
    """Says of each row the token it stands on, and remembers which samples it was shown."""

    def __init__(self, name: float):
        self.name, self.seen, self.moved = name, [], None

    def signal(self, sample, rows, temperature):
        tokens = sample["net_input"]["src_tokens"]
        self.seen.append((tokens[:, 0].tolist(), len(rows)))
        features = torch.stack([rows.of(tokens).float(), torch.full((len(rows),), self.name)], 1)
        return HeadSignal(features, torch.eye(2), None)

    def to(self, device, dtype):
        self.moved = (device, dtype)

    def describe(self):
        return f"teacher {self.name}"


class Stored(StoredTeacher):
    def __init__(self, serves=None):
        self.use_tail, self.serves = False, serves

    def check_temperature(self, temperature):
        if self.serves not in (None, temperature):
            raise MismatchError("temperature")

    def describe(self):
        return "a store"


def stored_rows(values: list[int]) -> dict:
    n = len(values)
    return {
        "ids": torch.tensor(values).unsqueeze(1),
        "values": torch.zeros(n, 1, dtype=torch.float16),
        "target_logprob": torch.zeros(n, dtype=torch.float16),
        "top1": torch.tensor(values),
    }


# tokens tell sample (hundreds) and position; samples 1 and 3 are of domain 0, 0 and 4 of 1, 2 of 2
TOKENS = 100 * torch.arange(1, 6).unsqueeze(1) + torch.arange(4)
DOMAINS = torch.tensor([1, 0, 2, 0, 1])
ROWS = Positions.where(
    torch.tensor([[0, 1, 0, 1], [1, 0, 0, 0], [0, 0, 1, 0], [0, 1, 1, 1], [0, 0, 0, 0]]).bool()
)


def sample(**more):
    net_input = {"src_tokens": TOKENS, "src_lengths": torch.full((5,), 4)}
    return {"net_input": net_input, DOMAIN: DOMAINS, **more}


def test_rows_by_domain():
    places = rows_by_domain(DOMAINS, ROWS, 4)
    tokens = ROWS.of(TOKENS)
    assert [tokens[at].tolist() for at in places] == [
        [200, 401, 402, 403],
        [101, 103],
        [302],
        [],
    ]


def test_a_teacher_runs_on_its_own_rows_alone():
    one, two = Live(1), Live(2)
    router = Router({"a": [Voice(one, 1.0)], "b": [Voice(two, 1.0)], "c": []})
    a, b, c = router.signal(sample(), ROWS, 2.0)
    assert one.seen == [([200, 400], 4)]
    assert two.seen == [([100], 2)]  # sample 4 has no rows
    assert a.features.tolist() == [[200, 1], [401, 1], [402, 1], [403, 1]]
    assert b.features.tolist() == [[101, 2], [103, 2]]
    assert c is None


def test_a_teacher_of_several_domains_runs_once():
    one = Live(1)
    router = Router({"a": [Voice(one, 1.0)], "b": [], "c": [Voice(one, 2.0)]})
    a, b, c = router.signal(sample(), ROWS, 2.0)
    assert one.seen == [([200, 300, 400], 5)]
    assert a.features[:, 0].tolist() == [200, 401, 402, 403]
    assert c.features[:, 0].tolist() == [302]
    assert b is None


def test_several_teachers_are_mixed_by_weight():
    one, two = Live(1), Live(2)
    stored = sample(**{STORED: {0: [stored_rows([5, 6, 7, 8])]}})
    voices = [Voice(one, 1.0), Voice(Stored(), 2.0), Voice(two, 5.0)]
    (signal, *_) = Router({"a": voices, "b": [], "c": []}).signal(stored, ROWS, 2.0)
    assert isinstance(signal, MixedSignal)
    assert signal.weights == (0.125, 0.25, 0.625)
    heads = [signal.signals[0], signal.signals[2]]
    assert [head.features[0, 1].item() for head in heads] == [1, 2]
    assert signal.signals[1].ids.squeeze(1).tolist() == [5, 6, 7, 8]


def test_stores_are_told_apart_by_domain_and_place():
    voices = [Voice(Stored(), 1.0), Voice(Stored(), 3.0)]
    router = Router({"a": voices, "b": [Voice(Stored(), 1.0)], "c": []})
    rows = {0: [stored_rows([5, 5, 5, 5]), stored_rows([6, 6, 6, 6])], 1: [stored_rows([9, 8])]}
    a, b, _ = router.signal(sample(**{STORED: rows}), ROWS, 2.0)
    assert isinstance(a, SparseSignal)
    assert a.ids.tolist() == [[5, 6]] * 4
    assert a.probs.tolist() == [[0.25, 0.75]] * 4
    assert a.top1.tolist() == [6] * 4
    assert b.ids.tolist() == [[9], [8]]


def test_a_domain_that_is_not_in_the_batch():
    one, store = Live(1), Stored()
    router = Router({"a": [], "b": [], "c": [], "d": [Voice(one, 1.0), Voice(store, 1.0)]})
    assert router.signal(sample(**{STORED: {}}), ROWS, 2.0) == (None,) * 4
    assert one.seen == []


def test_rows_missing_from_a_store_are_noticed():
    router = Router({"a": [Voice(Stored(), 1.0)], "b": [], "c": []})
    for stored in ({}, {0: [stored_rows([5, 6, 7])]}):
        with pytest.raises(ValueError, match="expected 4 stored rows"):
            router.signal(sample(**{STORED: stored}), ROWS, 2.0)


def test_it_is_one_source():
    one, two = Live(1), Live(2)
    router = Router(
        {"a": [Voice(one, 1.0), Voice(Stored(1.0), 0.5)], "b": [], "c": [Voice(two, 1.0)]}
    )
    router.check_temperature(1.0)
    with pytest.raises(MismatchError, match="domain a, a store: temperature"):
        router.check_temperature(2.0)
    named = Router({"a": [Voice(Stored(1.0), 0.5, "m.yaml, line 3: domains.a.teachers.0")]})
    with pytest.raises(MismatchError, match=r"^m.yaml, line 3: domains.a.teachers.0: temperature"):
        named.check_temperature(2.0)
    router.to(torch.device("cpu"), torch.bfloat16)
    assert one.moved == two.moved == (torch.device("cpu"), torch.bfloat16)
    assert router.describe() == (
        "in a: teacher 1, weight 1 and a store, weight 0.5; in c: teacher 2, weight 1"
    )


def test_dense_stores_too():
    rows = {"values": torch.zeros(4, 3, dtype=torch.float16)}
    rows |= {"target_logprob": torch.zeros(4), "top1": torch.zeros(4)}
    router = Router({"a": [Voice(Stored(), 1.0)], "b": [], "c": []})
    assert isinstance(router.signal(sample(**{STORED: {0: [rows]}}), ROWS, 2.0)[0], DenseSignal)
