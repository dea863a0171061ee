"""The settings that a store pins."""

import contextlib
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fairseq_ki.store import DamageError, MismatchError, Plan, Sampled, Split, StoreError, TopK


@pytest.fixture
def plan(synthetic):
    return synthetic.make_plan(synthetic.ENCODINGS["topk"])


@given(
    blocks=st.lists(st.integers(1, 50), min_size=1, max_size=4),
    mask_epochs=st.integers(1, 3),
    samples_per_shard=st.integers(1, 60),
)
def test_shards_hold_every_sample_once_and_are_found_by_key(
    synthetic, blocks, mask_epochs, samples_per_shard
):
    plan = synthetic.make_plan(
        TopK(300),
        splits=tuple(Split("train", f"{i:064x}", n) for i, n in enumerate(blocks)),
        mask_epochs=mask_epochs,
        samples_per_shard=samples_per_shard,
    )
    shards = list(plan.shards())
    assert len(shards) == plan.shard_count == len({shard.file for shard in shards})
    keys = [(shard.split, shard.mask_epoch, b) for shard in shards for b in shard.blocks]
    assert keys == [
        (split, epoch, block)
        for split, n in enumerate(blocks)
        for epoch in range(1, mask_epochs + 1)
        for block in range(n)
    ]
    for number, shard in enumerate(shards):
        assert shard.samples <= samples_per_shard
        assert plan.shard_number(shard) == number
        for block in shard.blocks:
            assert plan.shard_of(shard.split, shard.mask_epoch, block) == shard


def test_survives_json(synthetic):
    for encoding in synthetic.ENCODINGS.values():
        plan = synthetic.make_plan(encoding)
        again = Plan.from_dict(json.loads(json.dumps(plan.to_dict())))
        assert again == plan
        assert again.fingerprint() == plan.fingerprint()


def test_any_setting_changes_the_fingerprint(synthetic, plan):
    changes = [
        {"encoding": TopK(300, k=11, tail=True)},
        {"encoding": Sampled(300, seed=1)},
        {"encoding": Sampled(300, seed=2)},
        {"splits": plan.splits[:1]},
        {"splits": plan.splits[::-1]},
        {"dictionary_sha256": "e" * 64},
        {"teacher_sha256": "e" * 64},
        {"max_rows": 33},
        {"data": {**plan.data, "mask_prob": 0.16}},
        {"data": {**plan.data, "more": None}},
        {"mask_epochs": 3},
        {"samples_per_shard": 21},
        {"numpy": "1.0"},
        {"task": "lm", "mask_epochs": 1},
    ]
    plans = [plan] + [synthetic.make_plan(**{"encoding": plan.encoding, **c}) for c in changes]
    assert len({p.fingerprint() for p in plans}) == len(plans)


def test_compare_passes_on_equal_settings(plan):
    plan.compare({})
    plan.compare(plan.to_dict())
    plan.compare({"vocabulary": 300, "data": {**plan.data}, "task": "mlm"})


def test_compare_names_everything_that_differs(plan):
    run = {
        "vocabulary": 301,
        "task": "mlm",
        "dictionary_sha256": "f" * 64,
        "data": {"tokens_per_sample": 64, "seed": 1, "mask_prob": 0.15, "leave_unmasked_prob": 0.1},
    }
    with pytest.raises(MismatchError) as error:
        plan.compare(run)
    message = str(error.value)
    for line in (
        "vocabulary: expected 301, found 300",
        f"dictionary_sha256: expected '{'f' * 64}', found '{'c' * 64}'",
        "data.tokens_per_sample: expected 64, found 32",
        "data.leave_unmasked_prob: expected 0.1, found nothing",
        "data.shorten_method: expected nothing, found None",
    ):
        assert line in message
    for same in ("task:", "data.seed", "data.mask_prob"):
        assert same not in message


def test_compare_knows_true_from_one_but_not_one_from_one_point_zero(synthetic):
    plan = synthetic.make_plan(TopK(300), data={"flag": True, "number": 1})
    plan.compare({"data": {"flag": True, "number": 1.0}})
    with pytest.raises(MismatchError, match="flag: expected 1, found True"):
        plan.compare({"data": {"flag": 1, "number": 1}})
    with pytest.raises(StoreError, match=r"expected names among .* found \['vocab'\]"):
        plan.compare({"vocab": 300})


def test_find_split(plan):
    assert plan.find_split("b" * 64, 41) == 1
    with pytest.raises(MismatchError, match=f"train1 {'b' * 64}, found {'e' * 64}"):
        plan.find_split("e" * 64, 41)
    with pytest.raises(MismatchError, match="41 blocks, the run's data 42"):
        plan.find_split("b" * 64, 42)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"task": "translation"}, "task: expected one of"),
        ({"task": "lm"}, "mask_epochs: expected an integer from 1 to 1, found 2"),
        ({"mask_epochs": 0}, "mask_epochs"),
        ({"splits": ()}, "number of splits"),
        ({"splits": (Split("a", "a" * 64, 3), Split("b", "a" * 64, 3))}, "one fingerprint"),
        ({"dictionary_sha256": "A" * 64}, "dictionary_sha256: expected 64 hexadecimal digits"),
        ({"teacher_sha256": None}, "teacher_sha256"),
        ({"max_rows": 0}, "max_rows"),
        ({"max_rows": 1 << 20, "encoding": TopK(300, k=300)}, "keep fewer entries per row"),
        ({"samples_per_shard": 0}, "samples_per_shard"),
        ({"splits": (Split("a", "a" * 64, 1 << 40),)}, "raise samples_per_shard"),
        ({"data": {"a": [1]}}, "data setting a: expected a scalar"),
        ({"data": {"a": float("nan")}}, "data setting a: expected a finite number"),
        ({"data": {1: 2}}, "name of a data setting"),
    ],
)
def test_impossible_plans_are_refused(synthetic, settings, message):
    with pytest.raises(StoreError, match=message):
        synthetic.make_plan(**{"encoding": TopK(300), **settings})


@pytest.mark.parametrize("blocks", [0, -1, 1 << 41, 1.0, None])
def test_impossible_splits_are_refused(blocks):
    with pytest.raises(StoreError, match="blocks"):
        Split("train", "a" * 64, blocks)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=5,
)


@given(st.data())
def test_a_changed_plan_is_refused_or_says_what_it_says(synthetic, data):
    content = synthetic.make_plan(TopK(300)).to_dict()
    name = data.draw(st.sampled_from(sorted(content)))
    content[name] = data.draw(json_values)
    with contextlib.suppress(DamageError):
        assert Plan.from_dict(content).to_dict() == content


@pytest.mark.parametrize("content", [None, [], {}, "plan", {"encoding": None}, {"encoding": []}])
def test_what_is_no_plan_is_refused(content):
    with pytest.raises(DamageError, match="plan"):
        Plan.from_dict(content)
