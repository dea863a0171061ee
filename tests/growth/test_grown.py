"""The grown model computes what the teacher does, where that is promised."""

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fairseq_ki.growth import grown, promise, shape_of

PRE = "--encoder-normalize-before"
POST_GPT = (
    "--arch transformer_lm --decoder-learned-pos --decoder-input-dim {d} --decoder-output-dim {d}"
)


def grow_into(teacher, student, depth="identity", seed=1):
    old, new = shape_of(teacher), shape_of(student)
    weights = grown(teacher.state_dict(), old, new, depth=depth, seed=seed)
    student.load_state_dict(weights, strict=True)
    return promise(old, new, depth)


def largest_difference(one, two):
    return float((one - two).abs().max() / one.abs().max())


# causal, teacher's (layers, width, ffn, heads), student's, options of both
EQUAL = {
    "wider": (False, (2, 16, 32, 2), (2, 32, 40, 2), ""),
    "heads of the same width": (False, (2, 16, 32, 2), (2, 32, 70, 4), ""),
    "heads alone within a width": (False, (2, 16, 32, 2), (2, 48, 33, 3), ""),
    "three times as wide": (False, (1, 16, 20, 2), (1, 48, 60, 6), ""),
    "untied": (False, (2, 16, 32, 2), (2, 32, 40, 4), "--untie-weights-roberta"),
    "pre-norm RoBERTa, deeper": (False, (2, 16, 32, 2), (5, 32, 40, 4), PRE),
    "GPT": (True, (2, 16, 32, 2), (2, 32, 40, 4), ""),
    "GPT, deeper": (True, (2, 16, 32, 2), (3, 32, 40, 4), ""),
    "GPT, averages": (True, (2, 16, 32, 2), (4, 24, 40, 3), ""),
    "GPT, copies and averages": (True, (2, 16, 32, 2), (2, 44, 40, 2), ""),
    "GPT, unscaled embeddings": (True, (2, 16, 32, 2), (2, 24, 40, 3), "--no-scale-embedding"),
    "GPT, normed embeddings": (True, (2, 16, 32, 2), (2, 32, 40, 4), "--layernorm-embedding"),
    "GPT, post-norm": (True, (2, 16, 32, 2), (2, 32, 40, 4), POST_GPT),
    "GPT, post-norm, tied": (
        True, (2, 16, 32, 2), (2, 32, 40, 4), POST_GPT + " --share-decoder-input-output-embed",
    ),
}  # fmt: skip


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("case", EQUAL)
def test_logits_are_the_teachers(build, logits, case, dtype):
    causal, old, new, extra = EQUAL[case]
    teacher = build(causal, *old, extra.format(d=old[1])).to(dtype)
    student = build(causal, *new, extra.format(d=new[1]), seed=4).to(dtype)
    before = logits(teacher)
    assert largest_difference(before, logits(student)) > 0.1
    assert grow_into(teacher, student).equal
    assert largest_difference(before, logits(student)) < 1e-5


@settings(
    max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    causal=st.booleans(),
    head=st.integers(2, 5),
    heads=st.integers(1, 3),
    more_heads=st.integers(0, 3),
    layers=st.integers(1, 2),
    more_layers=st.integers(0, 3),
    ffn=st.integers(3, 20),
    more_ffn=st.integers(0, 25),
    seed=st.integers(1, 99),
)
def test_on_any_shape(
    build, logits, causal, head, heads, more_heads, layers, more_layers, ffn, more_ffn, seed
):
    extra = "" if causal else PRE
    teacher = build(causal, layers, head * heads, ffn, heads, extra).double()
    if causal:  # any width
        wider = head * (heads + more_heads)
    else:  # multiples
        wider = head * heads * (1 + more_heads)
    student = build(
        causal, layers + more_layers, wider, ffn + more_ffn, wider // head, extra
    ).double()
    assert grow_into(teacher, student, seed=seed).equal
    assert largest_difference(logits(teacher), logits(student)) < 1e-5


@pytest.mark.parametrize("causal", [False, True])
def test_post_norm_layers_are_identity_but_for_epsilon(build, logits, causal):
    extra = POST_GPT if causal else ""
    teacher = build(causal, 2, 16, 32, 2, extra.format(d=16)).double()
    student = build(causal, 5, 32, 32, 4, extra.format(d=32)).double()
    assert grow_into(teacher, student).equal
    assert largest_difference(logits(teacher), logits(student)) < 1e-3
    for module in (*teacher.modules(), *student.modules()):
        if isinstance(module, torch.nn.LayerNorm):
            module.eps = 1e-12
    assert largest_difference(logits(teacher), logits(student)) < 1e-6


@pytest.mark.parametrize(
    ("causal", "new", "depth", "extra"),
    [
        (False, (2, 24, 40, 3), "identity", ""),
        (False, (2, 24, 40, 3), "identity", PRE),
        (True, (2, 24, 40, 3), "identity", "--layernorm-embedding"),
        (True, (3, 32, 40, 4), "stack", ""),
    ],
)
def test_what_is_not_promised_does_not_hold(build, logits, causal, new, depth, extra):
    teacher = build(causal, 2, 16, 32, 2, extra).double()
    student = build(causal, *new, extra).double()
    found = grow_into(teacher, student, depth)
    assert not found.equal
    assert found.reasons
    assert largest_difference(logits(teacher), logits(student)) > 1e-3


def test_copies_learn_different_things(build):
    """Adam makes proportional gradients equal, so copies have to differ by more than a factor."""
    teacher = build(False, 1, 16, 32, 2)
    student = build(False, 1, 32, 64, 4)
    grow_into(teacher, student)
    layer = student.encoder.sentence_encoder.layers[0]
    embedding = student.encoder.sentence_encoder.embed_tokens
    copied = {
        "feed-forward units": lambda: layer.fc1.weight.split(32),
        "heads": lambda: layer.self_attn.v_proj.weight.split(16),
        "embeddings": lambda: embedding.weight.T.split(16),
    }
    for name, halves in copied.items():
        assert torch.equal(*halves()), name
    optimizer = torch.optim.Adam(student.parameters(), lr=1e-2)
    tokens = torch.randint(4, 30, (4, 12), generator=torch.Generator().manual_seed(1))
    for _ in range(3):
        optimizer.zero_grad()
        student(tokens)[0].square().mean().backward()
        optimizer.step()
    for name, halves in copied.items():
        one, two = halves()
        assert (one - two).abs().amax(dim=1).min() > 1e-3, name


def test_more_positions(build, logits):
    teacher = build(True, 1, 16, 32, 2, positions=16).double()
    student = build(True, 1, 24, 32, 3, positions=39).double()
    assert grow_into(teacher, student).equal
    assert largest_difference(logits(teacher, 16), logits(student, 16)) < 1e-5
    rows = student.decoder.embed_positions.weight
    torch.testing.assert_close(rows[2:18], rows[18:34])
    torch.testing.assert_close(rows[2:9], rows[34:])
    assert logits(student, 39).isfinite().all()


def test_the_teachers_weights_stay_and_the_seed_decides(build):
    teacher, student = build(True, 1, 16, 32, 2), build(True, 2, 24, 40, 3)
    weights = teacher.state_dict()
    before = {name: value.clone() for name, value in weights.items()}
    old, new = shape_of(teacher), shape_of(student)
    one, again, other = (
        grown(weights, old, new, depth="identity", seed=seed) for seed in (1, 1, 2)
    )
    assert all(torch.equal(weights[name], before[name]) for name in before)
    assert all(torch.equal(one[name], again[name]) for name in one)
    assert any(not torch.equal(one[name], other[name]) for name in one)
    assert {value.dtype for value in one.values()} == {torch.float32}


def test_stacking_repeats_the_layers_in_order(build):
    teacher, student = build(False, 2, 16, 32, 2), build(False, 5, 16, 32, 2)
    grow_into(teacher, student, "stack")
    old, new = (m.encoder.sentence_encoder.layers for m in (teacher, student))
    for layer, source in zip(new, (0, 1, 0, 1, 0)):
        for name, value in layer.state_dict().items():
            torch.testing.assert_close(value, old[source].state_dict()[name])
