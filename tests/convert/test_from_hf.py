"""Models made with transformers alone, as fairseq loads and runs them."""

import json
import math

import numpy as np
import pytest
import torch
from fairseq import checkpoint_utils
from safetensors.torch import load_file
from transformers import (
    AutoTokenizer,
    BioGptConfig,
    BioGptForCausalLM,
    CamembertConfig,
    CamembertForMaskedLM,
    GPT2Config,
    GPT2LMHeadModel,
    RobertaConfig,
    RobertaForMaskedLM,
    RobertaForSequenceClassification,
    RobertaModel,
    XLMRobertaConfig,
    XLMRobertaForMaskedLM,
)

from fairseq_ki.compat import CheckpointWriteError
from fairseq_ki.convert import from_hf
from fairseq_ki.convert.from_hf import load_directory, write_checkpoint
from fairseq_ki.convert.to_hf import convert

SMALL = {
    "hidden_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 3,
    "intermediate_size": 40,
    "max_position_embeddings": 34,
}
SMALL_GPT2 = {"n_embd": 24, "n_layer": 2, "n_head": 3, "n_positions": 32}
TEXTS = ["def parse(self, argument):", "☃ is not ASCII, é neither", "x " * 100]
END = "<|endoftext|>"


@pytest.fixture(scope="module")
def roberta_tokenizer(lines, tools):
    return tools.roberta_bpe(lines)


@pytest.fixture(scope="module")
def gpt2_tokenizer(lines, tools):
    return tools.byte_bpe(lines, [END])


def save_roberta(folder, tools, tokenizer, kind=RobertaForMaskedLM, names=None, **changes):
    kinds = {XLMRobertaForMaskedLM: XLMRobertaConfig, CamembertForMaskedLM: CamembertConfig}
    config = kinds.get(kind, RobertaConfig)(
        **{"vocab_size": tokenizer.get_vocab_size(), **SMALL, **changes}
    )
    model = tools.randomize(kind(config))
    if not config.tie_word_embeddings:
        # two biases, of which transformers uses the decoder's
        model.lm_head.bias.data.copy_(model.lm_head.decoder.bias.data)
    model.save_pretrained(folder)
    tools.save_tokenizer(tokenizer, folder, **(names or tools.ROBERTA_NAMES))
    return model


def save_gpt2(folder, tools, tokenizer, **changes):
    size = tokenizer.get_vocab_size()
    end = tokenizer.token_to_id(END)
    ends = {"bos_token_id": end, "eos_token_id": end}
    config = GPT2Config(**{"vocab_size": size, **SMALL_GPT2, **ends, **changes})
    model = tools.randomize(GPT2LMHeadModel(config))
    model.save_pretrained(folder)
    if end is None:
        tools.save_tokenizer(tokenizer, folder)
    else:
        tools.save_tokenizer(tokenizer, folder, bos_token=END, eos_token=END, unk_token=END)
    return model


def in_fairseq(folder, tmp_path, tools):
    """The converted checkpoint, loaded by fairseq; and transformers' ids to fairseq's."""
    loaded = load_directory(folder)
    write_checkpoint(loaded, tmp_path / "fs" / "model.pt")
    model, task = tools.load_fairseq(tmp_path / "fs" / "model.pt")
    assert task.source_dictionary.symbols == loaded.dictionary.symbols
    rows = loaded.vocabulary.rows
    ours = torch.zeros(max(r for r in rows if r is not None) + 1, dtype=torch.long)
    for i, row in enumerate(rows):
        if row is not None:
            ours[row] = i
    return model, ours


def assert_same_logits(model, ours, theirs, batch, ids=None):
    """At every position that is not padding, for every token that transformers has."""
    with torch.no_grad():
        expected = theirs(**batch).logits
        found = model(ours[batch["input_ids"]] if ids is None else ids)[0][..., ours]
    shown = batch["attention_mask"].bool()
    assert expected[shown].abs().max() > 1
    torch.testing.assert_close(found[shown], expected[shown], atol=1e-5, rtol=0)


@pytest.mark.parametrize(
    "changes",
    [
        {"layer_norm_eps": 1e-5, "type_vocab_size": 1},
        {},  # transformers' defaults: another epsilon, two token types
        {"tie_word_embeddings": False},
        {"vocab_size": 416},
        {"dtype": "float16"},
    ],
    ids=str,
)
def test_roberta(changes, tmp_path, tools, roberta_tokenizer):
    theirs = save_roberta(tmp_path / "hf", tools, roberta_tokenizer, **changes)
    model, ours = in_fairseq(tmp_path / "hf", tmp_path, tools)
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "hf")
    batch = tokenizer(TEXTS, padding=True, truncation=True, max_length=32, return_tensors="pt")
    assert_same_logits(model, ours, theirs.float(), batch)

    assert_the_same_directory_again(tmp_path)


def assert_the_same_directory_again(tmp_path):
    """Converted back, the checkpoint gives the weights and the token ids of before."""
    convert(
        tmp_path / "fs" / "model.pt",
        tmp_path / "fs" / "dict.txt",
        tmp_path / "back",
        tokenizer=tmp_path / "hf",
    )
    before, after = (load_file(tmp_path / d / "model.safetensors") for d in ("hf", "back"))
    # version 4 of transformers knows the bias by one name, 5 by two
    assert before.keys() - after.keys() == set()
    assert after.keys() - before.keys() <= {"lm_head.decoder.bias"}
    for name, tensor in before.items():
        assert tensor.dtype == after[name].dtype
        assert torch.equal(tensor, after[name]), name
    texts = [*TEXTS, "a <mask> b"]
    old, new = (AutoTokenizer.from_pretrained(tmp_path / d)(texts) for d in ("hf", "back"))
    assert old["input_ids"] == new["input_ids"]


@pytest.mark.parametrize("kind", [XLMRobertaForMaskedLM, CamembertForMaskedLM])
def test_models_of_the_same_shape(kind, tmp_path, tools, roberta_tokenizer):
    theirs = save_roberta(tmp_path / "hf", tools, roberta_tokenizer, kind)
    model, ours = in_fairseq(tmp_path / "hf", tmp_path, tools)
    ids = torch.randint(5, 390, (2, 20), generator=torch.Generator().manual_seed(0))
    batch = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
    assert_same_logits(model, ours, theirs, batch)


def test_special_tokens_in_other_places_with_other_names(tmp_path, lines, tools):
    special = ("[MASK]", "[PAD]", "[UNK]", "[SEP]", "[CLS]")
    tokenizer = tools.byte_bpe(lines, list(special))
    names = {
        "mask_token": "[MASK]",
        "pad_token": "[PAD]",
        "unk_token": "[UNK]",
        "sep_token": "[SEP]",
        "cls_token": "[CLS]",
    }
    theirs = save_roberta(tmp_path / "hf", tools, tokenizer, names=names)
    model, ours = in_fairseq(tmp_path / "hf", tmp_path, tools)
    assert ours[:5].tolist() == [len(ours) - 1, 1, 3, 2, 0]
    ids = torch.tensor([[4, 60, 0, 70, 3, 1, 1], [4, 0, 80, 2, 90, 91, 3]])
    assert_same_logits(model, ours, theirs, {"input_ids": ids, "attention_mask": (ids != 1).long()})
    assert_the_same_directory_again(tmp_path)


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"activation_function": "gelu", "n_inner": 30, "layer_norm_epsilon": 1e-6},
        {"tie_word_embeddings": False, "activation_function": "relu"},
        {"vocab_size": 408},
    ],
    ids=str,
)
def test_gpt2(changes, tmp_path, tools, gpt2_tokenizer):
    theirs = save_gpt2(tmp_path / "hf", tools, gpt2_tokenizer, **changes)
    model, ours = in_fairseq(tmp_path / "hf", tmp_path, tools)
    ids = AutoTokenizer.from_pretrained(tmp_path / "hf")(TEXTS[2])["input_ids"][:32]
    rows = torch.tensor([ids, ids[:20] + [0] * 12])
    attention = torch.ones_like(rows)
    attention[1, 20:] = 0
    shown = ours[rows].masked_fill(attention == 0, 1)
    assert_same_logits(
        model, ours, theirs, {"input_ids": rows, "attention_mask": attention}, ids=shown
    )
    assert_the_same_directory_again(tmp_path)


@torch.no_grad()
def test_perplexity_of_gpt2_over_the_whole_dictionary(tmp_path, tools, gpt2_tokenizer):
    theirs = save_gpt2(tmp_path / "hf", tools, gpt2_tokenizer)
    model, ours = in_fairseq(tmp_path / "hf", tmp_path, tools)
    ids = AutoTokenizer.from_pretrained(tmp_path / "hf")(TEXTS[0] * 2, return_tensors="pt")
    ids = ids["input_ids"]
    expected = theirs(ids, labels=ids).loss.exp()
    ours_ids = ours[ids]
    log_probs = model.get_normalized_probs(model(ours_ids), log_probs=True)
    scored = log_probs[0, :-1].gather(1, ours_ids[0, 1:, None])
    assert math.exp(-scored.mean()) == pytest.approx(float(expected), rel=1e-5)
    # <s>, <pad> and <unk> are symbols of the dictionary that GPT-2 does not have
    assert log_probs.exp()[..., [0, 1, 3]].sum() == 0


def test_gpt2_without_any_special_token(tmp_path, lines, tools):
    tokenizer = tools.byte_bpe(lines, [])
    theirs = save_gpt2(tmp_path / "hf", tools, tokenizer, bos_token_id=None, eos_token_id=None)
    model, ours = in_fairseq(tmp_path / "hf", tmp_path, tools)
    ids = torch.arange(30)[None]
    batch = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
    assert_same_logits(model, ours, theirs, batch)


def test_gpt2_as_the_hub_has_it(tmp_path, tools, gpt2_tokenizer):
    """Names without ``transformer.``, and the masks that old versions saved."""
    from safetensors.torch import save_file

    theirs = save_gpt2(tmp_path / "hf", tools, gpt2_tokenizer)
    path = tmp_path / "hf" / "model.safetensors"
    tensors = {name.removeprefix("transformer."): t for name, t in load_file(path).items()}
    tensors["h.0.attn.bias"] = torch.ones(1, 1, 32, 32)
    save_file(tensors, path, metadata={"format": "pt"})
    model, ours = in_fairseq(tmp_path / "hf", tmp_path, tools)
    ids = torch.arange(30)[None]
    batch = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
    assert_same_logits(model, ours, theirs, batch)


def test_biogpt(tmp_path, tools, roberta_tokenizer):
    size = roberta_tokenizer.get_vocab_size()
    theirs = tools.randomize(BioGptForCausalLM(BioGptConfig(vocab_size=size, **SMALL)))
    theirs.save_pretrained(tmp_path / "hf")
    tools.save_tokenizer(roberta_tokenizer, tmp_path / "hf", **tools.ROBERTA_NAMES)
    model, ours = in_fairseq(tmp_path / "hf", tmp_path, tools)
    ids = torch.arange(4, 34)[None]
    batch = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
    assert_same_logits(model, ours, theirs, batch)


@torch.no_grad()
def test_classifier(tmp_path, tools, roberta_tokenizer):
    theirs = save_roberta(
        tmp_path / "hf", tools, roberta_tokenizer, RobertaForSequenceClassification, num_labels=3
    )
    loaded = load_directory(tmp_path / "hf")
    assert loaded.kind == "classifier"
    model, ours = in_fairseq(tmp_path / "hf", tmp_path, tools)
    batch = AutoTokenizer.from_pretrained(tmp_path / "hf")(
        TEXTS[:2], padding=True, return_tensors="pt"
    )
    found = model(
        ours[batch["input_ids"]], classification_head_name="sentence_classification_head"
    )[0]
    torch.testing.assert_close(found, theirs(**batch).logits, atol=1e-5, rtol=0)

    checkpoint, dictionary = tmp_path / "fs" / "model.pt", tmp_path / "fs" / "dict.txt"
    with pytest.raises(ValueError, match="found NaN in its output layer"):
        convert(checkpoint, dictionary, tmp_path / "lm", tokenizer=tmp_path / "hf", head="none")
    assert_the_same_directory_again(tmp_path)


def test_several_files_of_weights(tmp_path, tools, roberta_tokenizer):
    theirs = save_roberta(tmp_path / "hf", tools, roberta_tokenizer)
    (tmp_path / "hf" / "model.safetensors").unlink()
    theirs.save_pretrained(tmp_path / "hf", max_shard_size="20KB")
    assert len(list((tmp_path / "hf").glob("model-*.safetensors"))) > 1
    model, ours = in_fairseq(tmp_path / "hf", tmp_path, tools)
    ids = torch.arange(5, 25)[None]
    batch = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
    assert_same_logits(model, ours, theirs, batch)


def test_a_model_without_its_head(tmp_path, tools, roberta_tokenizer):
    save_roberta(tmp_path / "hf", tools, roberta_tokenizer, RobertaModel)
    with pytest.raises(ValueError, match=r"hf: expected the weights of a masked LM"):
        load_directory(tmp_path / "hf")


def test_config_and_weights_of_different_models(tmp_path, tools, roberta_tokenizer):
    save_roberta(tmp_path / "hf", tools, roberta_tokenizer)
    path = tmp_path / "hf" / "config.json"
    text = path.read_text()
    path.write_text(text.replace('"intermediate_size": 40', '"intermediate_size": 16000000'))
    with pytest.raises(ValueError, match=r"of shape \(16000000, 24\) .* found \(40, 24\)"):
        load_directory(tmp_path / "hf")
    path.write_text(text.replace('"num_hidden_layers": 2', '"num_hidden_layers": 1000'))
    with pytest.raises(ValueError, match=r"layer\.2\..* of shape \(24, 24\), found none"):
        load_directory(tmp_path / "hf")
    path.write_text(text.replace('"pad_token_id": 1', '"pad_token_id": 3'))
    with pytest.raises(ValueError, match=r"expected pad_token_id 1 \(the tokenizer's\)"):
        load_directory(tmp_path / "hf")


def test_a_vocabulary_of_any_size_is_compared_before_it_is_made(
    tmp_path, tools, roberta_tokenizer, monkeypatch
):
    save_roberta(tmp_path / "hf", tools, roberta_tokenizer)
    path = tmp_path / "hf" / "config.json"
    config = json.loads(path.read_text())
    path.write_text(json.dumps(config | {"vocab_size": 2**24}))
    monkeypatch.setattr(from_hf, "read_vocabulary", lambda *_: pytest.fail("16 million names"))
    with pytest.raises(ValueError, match=r"word_embeddings.weight of shape \(16777216, 24\)"):
        load_directory(tmp_path / "hf")


def test_a_full_disk_leaves_no_dictionary(tmp_path, tools, roberta_tokenizer, files_up_to):
    """Or the same command, given again, would be refused because of it."""
    save_roberta(tmp_path / "hf", tools, roberta_tokenizer)
    loaded = load_directory(tmp_path / "hf")
    with pytest.raises(CheckpointWriteError, match=r"c\.pt could") as error, files_up_to(20_000):
        write_checkpoint(loaded, tmp_path / "o" / "c.pt")
    assert str(error.value).endswith("Free some space there, then give the same command again.")
    assert list((tmp_path / "o").iterdir()) == []
    write_checkpoint(loaded, tmp_path / "o" / "c.pt")


def test_a_converted_checkpoint_goes_on_training(
    tmp_path, tools, lines, gpt2_tokenizer, fairseq_train
):
    """Encode text for it, binarise it with its dictionary, and fine-tune it."""
    from fairseq.data.indexed_dataset import MMapIndexedDatasetBuilder

    from fairseq_ki.convert.encode import encode_file

    save_gpt2(tmp_path / "hf", tools, gpt2_tokenizer)
    loaded = load_directory(tmp_path / "hf")
    write_checkpoint(loaded, tmp_path / "fs" / "model.pt")
    (tmp_path / "text").write_text("\n".join(lines[:200]) + "\n", encoding="utf-8")
    encode_file(tmp_path / "hf", tmp_path / "text", tmp_path / "symbols")
    builder = MMapIndexedDatasetBuilder(str(tmp_path / "fs" / "train.bin"), dtype=np.uint16)
    for line in (tmp_path / "symbols").read_text(encoding="utf-8").splitlines():
        ids = loaded.dictionary.encode_line(line, add_if_not_exist=False)
        assert loaded.dictionary.unk() not in ids.tolist()
        builder.add_item(ids)
    builder.finalize(str(tmp_path / "fs" / "train.idx"))
    run = fairseq_train(
        tmp_path / "fs",
        tmp_path / "run",
        f"--task language_modeling --criterion cross_entropy --max-update 2 "
        f"--finetune-from-model {tmp_path / 'fs' / 'model.pt'}",
        "--arch ki_gpt2 --decoder-layers 2 --decoder-embed-dim 24 --decoder-input-dim 24 "
        "--decoder-output-dim 24 --decoder-ffn-embed-dim 96 --decoder-attention-heads 3 "
        "--activation-fn gelu_accurate --decoder-normalize-before --decoder-learned-pos "
        "--share-decoder-input-output-embed --no-scale-embedding",
    )
    assert len(run.losses) == 2
    state = checkpoint_utils.load_checkpoint_to_cpu(str(run.save_dir / "checkpoint_last.pt"))
    assert state["cfg"]["model"]["_name"] == "ki_gpt2"
