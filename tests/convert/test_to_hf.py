"""fairseq checkpoints as transformers loads and runs them."""

import pytest
import torch
from safetensors.torch import load_file
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoModelForMaskedLM,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    pipeline,
)

from fairseq_ki.convert.from_hf import load_directory, write_checkpoint
from fairseq_ki.convert.to_hf import convert

TEXTS = [
    "Return the number of items in the list.",
    "日本語 and ÿ unknown ☃ characters, 𝕏 too",
    "",
    "word " * 60,
]


@pytest.fixture(scope="module")
def masked(tmp_path_factory, spm, tools):
    folder = tmp_path_factory.mktemp("masked")
    checkpoint = tools.write_checkpoint(folder / "fs", tools.pieces(spm), tools.MASKED)
    convert(checkpoint, folder / "fs" / "dict.txt", folder / "hf", spm=spm)
    return checkpoint, folder / "hf"


@pytest.fixture(scope="module")
def causal(tmp_path_factory, spm, tools):
    folder = tmp_path_factory.mktemp("causal")
    checkpoint = tools.write_checkpoint(folder / "fs", tools.pieces(spm), tools.CAUSAL)
    convert(checkpoint, folder / "fs" / "dict.txt", folder / "hf", spm=spm)
    return checkpoint, folder / "hf"


def fairseq_batch(encode, texts, before, after, length):
    """Ids as fairseq makes them, cut to the length that transformers cuts to, padded."""
    rows = []
    for text in texts:
        ids = encode(text)[: length - len(before) - len(after)]
        rows.append([*before, *ids, *after])
    longest = max(map(len, rows))
    return torch.tensor([row + [1] * (longest - len(row)) for row in rows])


@torch.no_grad()
def test_masked_logits_with_padding_truncation_and_unknown_characters(masked, spm, tools):
    checkpoint, folder = masked
    model, task = tools.load_fairseq(checkpoint)
    encode = tools.encoder(spm, task.source_dictionary)
    expected_ids = fairseq_batch(encode, TEXTS, [0], [2], 32)
    expected = model(expected_ids)[0]

    tokenizer = AutoTokenizer.from_pretrained(folder)
    batch = tokenizer(TEXTS, padding=True, truncation=True, return_tensors="pt")
    assert tokenizer.model_max_length == 32
    assert torch.equal(batch["input_ids"], expected_ids)
    assert 3 in batch["input_ids"][1]
    logits = AutoModelForMaskedLM.from_pretrained(folder).eval()(**batch).logits
    shown = expected_ids != 1
    assert expected[shown].abs().max() > 1
    torch.testing.assert_close(logits[shown], expected[shown], atol=1e-5, rtol=0)


@torch.no_grad()
def test_causal_logits(causal, spm, tools):
    checkpoint, folder = causal
    model, task = tools.load_fairseq(checkpoint)
    encode = tools.encoder(spm, task.source_dictionary)
    expected_ids = fairseq_batch(encode, TEXTS, [2], [], 32)
    expected = model(expected_ids)[0]

    tokenizer = AutoTokenizer.from_pretrained(folder)
    batch = tokenizer(TEXTS, padding=True, truncation=True, return_tensors="pt")
    assert torch.equal(batch["input_ids"], expected_ids)
    logits = AutoModelForCausalLM.from_pretrained(folder).eval()(**batch).logits
    shown = expected_ids != 1
    assert expected[shown].abs().max() > 1
    torch.testing.assert_close(logits[shown], expected[shown], atol=1e-5, rtol=0)


@torch.no_grad()
def test_generation_is_fairseqs(causal, tools):
    checkpoint, folder = causal
    model, _ = tools.load_fairseq(checkpoint)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    prompts = tokenizer(
        ["def the", "Return a list of all"], padding=True, padding_side="left", return_tensors="pt"
    )
    lm = AutoModelForCausalLM.from_pretrained(folder).eval()
    made = lm.generate(**prompts, max_new_tokens=8, do_sample=False)
    assert made.shape[1] > prompts["input_ids"].shape[1]
    for row in made:
        row = row[row != 1]
        start = int(prompts["attention_mask"][0].sum()) if row is made[0] else len(row) - 8
        for place in range(start, len(row)):
            scores = model(row[None, :place])[0][0, -1]
            scores[[0, 1]] = -torch.inf  # <s> and <pad> are never generated
            assert int(scores.argmax()) == int(row[place])
            if row[place] == 2:
                break


def test_fill_mask(masked, tools):
    checkpoint, folder = masked
    fill = pipeline("fill-mask", model=str(folder))
    best = fill("Return the <mask> of items.", top_k=1)[0]
    model, _ = tools.load_fairseq(checkpoint)
    ids = torch.tensor([fill.tokenizer("Return the <mask> of items.")["input_ids"]])
    place = (ids[0] == fill.tokenizer.mask_token_id).nonzero().item()
    with torch.no_grad():
        expected = model(ids)[0][0, place]
    assert best["token"] == int(expected.argmax())
    assert best["score"] == pytest.approx(float(expected.softmax(-1).max()), abs=1e-6)


@pytest.mark.parametrize("kind", ["masked", "causal"])
def test_round_trip_is_bit_identical(kind, request, tmp_path):
    checkpoint, folder = request.getfixturevalue(kind)
    back = load_directory(folder)
    before = torch.load(checkpoint, weights_only=True)["model"]
    after = back.state["model"]
    assert after.keys() == before.keys()
    for name, weight in before.items():
        assert torch.equal(weight, after[name]), name
    write_checkpoint(back, tmp_path / "x" / "model.pt")
    written = (tmp_path / "x" / "dict.txt").read_text(encoding="utf-8").split()
    assert written == (checkpoint.parent / "dict.txt").read_text(encoding="utf-8").split()


def test_half_precision_stays_as_it_is(tmp_path, spm, tools):
    checkpoint = tools.write_checkpoint(tmp_path / "fs", tools.pieces(spm), tools.MASKED)
    state = torch.load(checkpoint, weights_only=True)
    state["model"] = {name: weight.half() for name, weight in state["model"].items()}
    torch.save(state, checkpoint)
    convert(checkpoint, tmp_path / "fs" / "dict.txt", tmp_path / "hf", spm=spm)
    tensors = load_file(tmp_path / "hf" / "model.safetensors")
    name = "encoder.sentence_encoder.layers.0.fc1.weight"
    assert torch.equal(
        tensors["roberta.encoder.layer.0.intermediate.dense.weight"], state["model"][name]
    )
    assert AutoConfig.from_pretrained(tmp_path / "hf").dtype == torch.float16


@pytest.mark.parametrize(
    ("kind", "extra"),
    [
        ("MASKED", "--untie-weights-roberta"),
        ("MASKED", "--arch ki_roberta --ki-layer-norm-eps 1e-12 --ki-token-types 2"),
        ("CAUSAL", "--no-scale-embedding --activation-fn gelu_accurate"),
        ("CAUSAL", "--activation-fn relu"),
        ("CAUSAL", "--arch gpt_micro_2x128 --max-target-positions 40"),
    ],
)
@torch.no_grad()
def test_other_shapes(kind, extra, tmp_path, spm, tools):
    arguments = f"{getattr(tools, kind)} {extra}"
    checkpoint = tools.write_checkpoint(tmp_path / "fs", tools.pieces(spm), arguments)
    convert(checkpoint, tmp_path / "fs" / "dict.txt", tmp_path / "hf", spm=spm)
    model, _ = tools.load_fairseq(checkpoint)
    auto = AutoModelForMaskedLM if kind == "MASKED" else AutoModelForCausalLM
    ids = torch.randint(4, 700, (2, 31), generator=torch.Generator().manual_seed(0))
    logits = auto.from_pretrained(tmp_path / "hf").eval()(ids).logits
    torch.testing.assert_close(logits, model(ids)[0], atol=1e-5, rtol=0)
    before, after = torch.load(checkpoint, weights_only=True)["model"], None
    after = load_directory(tmp_path / "hf").state["model"]
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert before.keys() == after.keys()


def test_untied_causal(tmp_path, spm, tools):
    arguments = tools.CAUSAL.replace("--share-decoder-input-output-embed ", "")
    checkpoint = tools.write_checkpoint(tmp_path / "fs", tools.pieces(spm), arguments)
    convert(checkpoint, tmp_path / "fs" / "dict.txt", tmp_path / "hf", spm=spm)
    model, _ = tools.load_fairseq(checkpoint)
    ids = torch.arange(4, 30)[None]
    with torch.no_grad():
        logits = AutoModelForCausalLM.from_pretrained(tmp_path / "hf").eval()(ids).logits
        torch.testing.assert_close(logits, model(ids)[0], atol=1e-5, rtol=0)


class TestHeads:
    @pytest.fixture
    def checkpoint(self, tmp_path, spm, tools):
        return tools.write_checkpoint(
            tmp_path / "fs", tools.pieces(spm), tools.MASKED, {"cola": 3, "sts": 1}
        )

    @torch.no_grad()
    def test_logits_and_labels(self, checkpoint, tmp_path, spm, tools):
        labels = tmp_path / "label.txt"
        labels.write_text("bad 3\nfair 2\ngood 1\nmadeupword0000 0\n")
        dictionary = checkpoint.parent / "dict.txt"
        convert(checkpoint, dictionary, tmp_path / "hf", spm=spm, head="cola", labels=labels)
        model, _ = tools.load_fairseq(checkpoint)
        classifier = AutoModelForSequenceClassification.from_pretrained(tmp_path / "hf").eval()
        batch = AutoTokenizer.from_pretrained(tmp_path / "hf")(
            ["good", "bad items"], ["list", "of it all"], padding=True, return_tensors="pt"
        )
        expected = model(batch["input_ids"], classification_head_name="cola")[0]
        torch.testing.assert_close(classifier(**batch).logits, expected, atol=1e-5, rtol=0)
        assert classifier.config.id2label == {0: "bad", 1: "fair", 2: "good"}

        back = load_directory(tmp_path / "hf")
        assert back.kind == "classifier"
        head = "classification_heads.sentence_classification_head.out_proj.weight"
        assert torch.equal(
            back.state["model"][head], model.classification_heads["cola"].out_proj.weight
        )
        assert back.state["model"]["encoder.lm_head.dense.weight"].isnan().all()

    def test_regression_and_none(self, checkpoint, tmp_path, spm):
        dictionary = checkpoint.parent / "dict.txt"
        convert(checkpoint, dictionary, tmp_path / "sts", spm=spm, head="sts")
        assert AutoConfig.from_pretrained(tmp_path / "sts").problem_type == "regression"
        name = convert(checkpoint, dictionary, tmp_path / "lm", spm=spm, head="none")
        assert name == "RobertaForMaskedLM"

    def test_several_heads_want_a_choice(self, checkpoint, tmp_path, spm):
        with pytest.raises(ValueError, match="one of cola, sts or none, found several"):
            convert(checkpoint, checkpoint.parent / "dict.txt", tmp_path / "hf", spm=spm)


@pytest.mark.parametrize(
    ("kind", "extra", "message"),
    [
        ("MASKED", "--encoder-normalize-before", "expected --encoder-normalize-before False"),
        ("MASKED", "--activation-fn relu", "expected --activation-fn gelu, found relu"),
        ("CAUSAL", "--arch transformer_lm", "expected --decoder-normalize-before True"),
        ("CAUSAL", "--no-decoder-final-norm", "expected --no-decoder-final-norm False"),
        ("CAUSAL", "--layernorm-embedding", "expected --layernorm-embedding False"),
        ("CAUSAL", "--no-token-positional-embeddings", "positional-embeddings False"),
        ("CAUSAL", "--scale-heads", "expected --scale-heads False, found True"),
    ],
)
def test_what_transformers_has_no_class_for(kind, extra, message, tmp_path, spm, tools):
    arguments = f"{getattr(tools, kind)} {extra}"
    checkpoint = tools.write_checkpoint(tmp_path / "fs", tools.pieces(spm), arguments)
    with pytest.raises(ValueError, match=message):
        convert(checkpoint, tmp_path / "fs" / "dict.txt", tmp_path / "hf", spm=spm)
    assert not (tmp_path / "hf").exists()


def test_sinusoidal_positions_are_refused(tmp_path, spm, tools):
    arguments = tools.CAUSAL.replace("--decoder-learned-pos ", "")
    checkpoint = tools.write_checkpoint(tmp_path / "fs", tools.pieces(spm), arguments)
    with pytest.raises(ValueError, match="expected --decoder-learned-pos True, found False"):
        convert(checkpoint, tmp_path / "fs" / "dict.txt", tmp_path / "hf", spm=spm)


def test_another_dictionary_is_refused(masked, tmp_path, spm):
    checkpoint, _ = masked
    (tmp_path / "dict.txt").write_text("only 1\n")
    with pytest.raises(ValueError, match=r"expected 6 rows in its embedding .* found 701"):
        convert(checkpoint, tmp_path / "dict.txt", tmp_path / "hf", spm=spm)


def test_nothing_is_overwritten(masked, spm):
    checkpoint, folder = masked
    with pytest.raises(FileExistsError, match="exists; name a directory that does not"):
        convert(checkpoint, checkpoint.parent / "dict.txt", folder, spm=spm)


def test_a_failure_leaves_nothing(masked, spm, tmp_path, monkeypatch):
    from fairseq_ki.convert import to_hf

    checkpoint, _ = masked
    monkeypatch.setattr(to_hf, "model_card", lambda *a: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        convert(checkpoint, checkpoint.parent / "dict.txt", tmp_path / "hf", spm=spm)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("size", [10_000, 400])  # the weights, or the configuration before them
def test_a_full_disk_ends_in_a_line_and_leaves_nothing(size, masked, spm, tmp_path, files_up_to):
    checkpoint, _ = masked
    out = tmp_path / "hf"
    with pytest.raises(ValueError, match="hf could .*File too large") as error, files_up_to(size):
        convert(checkpoint, checkpoint.parent / "dict.txt", out, spm=spm)
    assert "nothing is left of it: make room" in str(error.value)
    assert "\n" not in str(error.value)
    assert list(tmp_path.iterdir()) == []


def test_the_card_has_perplexity_and_lineage(masked):
    card = (masked[1] / "README.md").read_text()
    assert "32 a predicted token" in card  # 2 ** val_loss
    assert "fs (roberta, 2 layers of 24, 7 updates" in card
