"""What a capture opens: teachers in every form, and what their numbers depend on."""

import dataclasses
import random
import subprocess

import numpy as np
import pytest
import torch
from fairseq.data import Dictionary

from fairseq_ki.capture import processes
from fairseq_ki.capture.session import Session
from fairseq_ki.store import MismatchError, Rows, StoreReader, StoreWriter, verify
from fairseq_ki.store.shard import ShardFile


def rows_of(store) -> list[Rows]:
    """Of every sample, in order."""
    plan = StoreReader(store).plan
    fingerprint = bytes.fromhex(plan.fingerprint())
    files = [ShardFile(store, plan, fingerprint, shard) for shard in plan.shards()]
    records = [file.record(i) for file in files for i in range(file.shard.samples)]
    return [plan.encoding.decode(record.body, record.rows) for record in records]


def capture(out, settings):
    session = Session.open(settings)
    processes.write_here(out, session, session.plan(), None)
    return out


def assert_same_rows(one, other):
    ours, theirs = rows_of(one), rows_of(other)
    assert len(ours) == len(theirs) > 10
    for a, b in zip(ours, theirs):
        for field in dataclasses.fields(a):
            assert np.array_equal(getattr(a, field.name), getattr(b, field.name)), field.name


@pytest.fixture
def permuted(teacher, data_bin, tmp_path):
    """The teacher with its symbols in another order and three more, as a checkpoint of its own."""
    symbols = [line.split()[0] for line in (data_bin / "dict.txt").read_text().splitlines()]
    mine = Dictionary.load(str(data_bin / "dict.txt"))
    mine.add_symbol("<mask>")
    others = [*symbols, "extra", "madeupword0000", "madeupword0001"]
    random.Random(1).shuffle(others)
    theirs = Dictionary()
    for symbol in others:
        theirs.add_symbol(symbol)
    theirs.save(str(tmp_path / "dict.txt"))
    theirs.add_symbol("<mask>")
    state = torch.load(teacher, weights_only=True)
    for name, value in state["model"].items():
        if name.endswith(("embed_tokens.weight", "lm_head.weight", "lm_head.bias")):
            rows = torch.randn(len(theirs), *value.shape[1:])
            for i, symbol in enumerate(mine.symbols):
                rows[theirs.index(symbol)] = value[i]
            state["model"][name] = rows
    torch.save(state, tmp_path / "permuted.pt")
    return tmp_path / "permuted.pt"


@pytest.mark.parametrize("encoding", ["topk", "sampled", "dense"])
def test_a_teacher_with_other_ids_is_captured_in_the_ids_of_the_data(
    settings, permuted, tmp_path, encoding
):
    asked = settings(encoding)
    ours = capture(tmp_path / "ours", asked)
    theirs = capture(tmp_path / "theirs", dataclasses.replace(asked, teacher=str(permuted)))
    assert verify(theirs).whole
    assert_same_rows(ours, theirs)


def test_a_capture_records_what_its_last_digits_depend_on(settings, teacher, tmp_path):
    session = Session.open(settings(batch_size=8))
    plan = session.plan()
    assert plan.capture["batch_size"] == 8
    assert plan.capture["device"] == "cpu"
    StoreWriter(tmp_path / "begun", plan)
    for changed, found in (
        ({"batch_size": 16}, "capture.batch_size: expected 8, found 16"),
        ({"mask_epochs": 2}, "mask_epochs: expected 1, found 2"),
    ):
        other = dataclasses.replace(session, settings=settings(**({"batch_size": 8} | changed)))
        with pytest.raises(MismatchError, match=found):
            StoreWriter(tmp_path / "begun", other.plan())


def test_rows_do_not_depend_on_the_batch_size_here(settings, tmp_path):
    """Blocks of one length on a CPU; see docs/store.md for where it may matter."""
    stores = [
        capture(tmp_path / str(size), settings("sampled", batch_size=size)) for size in (8, 23)
    ]
    assert_same_rows(*stores)


def test_another_dictionary_of_the_teacher_is_another_capture(settings, permuted, tmp_path):
    first = Session.open(settings()).plan()
    second = Session.open(settings()).plan()
    assert first == second
    theirs = dataclasses.replace(settings(), teacher=str(permuted))
    lines = (permuted.parent / "dict.txt").read_text().splitlines()
    (tmp_path / "other.txt").write_text("\n".join([lines[1], lines[0], *lines[2:]]) + "\n")
    one = Session.open(theirs).plan()
    other = dataclasses.replace(theirs, teacher_dict=str(tmp_path / "other.txt"))
    assert Session.open(other).plan().capture != one.capture


def test_a_model_of_transformers_is_captured_as_its_checkpoint(settings, data_bin, tmp_path):
    transformers = pytest.importorskip("transformers")
    tokenizers = pytest.importorskip("tokenizers")
    from fairseq_ki.convert.from_hf import load_directory, write_checkpoint

    tokens = ["<s>", "<pad>", "</s>", "<unk>", "<mask>", *(f"w{59 - i}" for i in range(60))]
    words = tokenizers.models.WordLevel({t: i for i, t in enumerate(tokens)}, unk_token="<unk>")
    transformers.PreTrainedTokenizerFast(
        tokenizer_object=tokenizers.Tokenizer(words),
        cls_token="<s>",
        pad_token="<pad>",
        sep_token="</s>",
        unk_token="<unk>",
        mask_token="<mask>",
    ).save_pretrained(tmp_path / "hf")
    torch.manual_seed(0)
    config = transformers.RobertaConfig(
        vocab_size=65,
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=24,
        max_position_embeddings=34,
        type_vocab_size=1,
    )
    transformers.RobertaForMaskedLM(config).save_pretrained(tmp_path / "hf")
    write_checkpoint(load_directory(tmp_path / "hf"), tmp_path / "fairseq" / "teacher.pt")
    asked = settings()
    live = dataclasses.replace(asked, teacher=f"hf:{tmp_path / 'hf'}")
    converted = dataclasses.replace(asked, teacher=str(tmp_path / "fairseq" / "teacher.pt"))
    ours = capture(tmp_path / "ours", live)
    assert_same_rows(ours, capture(tmp_path / "theirs", converted))
    listed = subprocess.run(
        "LC_ALL=C sha256sum *.json *.model *.safetensors *.txt 2>/dev/null | LC_ALL=C sort -k2 "
        "| sha256sum",
        shell=True,
        cwd=tmp_path / "hf",
        capture_output=True,
        text=True,
    )
    assert StoreReader(ours).plan.teacher_sha256 == listed.stdout.split()[0]
