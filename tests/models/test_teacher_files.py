"""Models of transformers as teachers: as the checkpoint they convert to, and as transformers."""

import sys
from types import SimpleNamespace

import pytest
import torch
from fairseq.data import Dictionary

from fairseq_ki.models.ki_teacher import load_teacher
from fairseq_ki.objective.positions import Positions

transformers = pytest.importorskip("transformers")
tokenizers = pytest.importorskip("tokenizers")

WORDS = [f"w{i}" for i in range(60)]
MASKED = ["<pad>", "<mask>", *WORDS[::-1], "<s>", "</s>", "<unk>", "extra"]
CAUSAL = [*WORDS[20:], "<|endoftext|>", *WORDS[:20]]


def save_tokenizer(folder, tokens, **special):
    words = tokenizers.models.WordLevel({t: i for i, t in enumerate(tokens)}, unk_token=tokens[-1])
    fast = transformers.PreTrainedTokenizerFast(
        tokenizer_object=tokenizers.Tokenizer(words), **special
    )
    fast.save_pretrained(folder)


def save(model, folder):
    torch.manual_seed(3)
    for parameter in model.parameters():
        parameter.data.normal_(0, 0.3)
    model.save_pretrained(folder)


@pytest.fixture(scope="session")
def masked(tmp_path_factory):
    """Tokens in another order than the data's, one more, and rows up to a multiple of 8."""
    folder = tmp_path_factory.mktemp("masked")
    save_tokenizer(
        folder,
        MASKED,
        cls_token="<s>",
        pad_token="<pad>",
        sep_token="</s>",
        unk_token="<unk>",
        mask_token="<mask>",
    )
    config = transformers.RobertaConfig(
        vocab_size=72,
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=24,
        max_position_embeddings=33,
        pad_token_id=0,
        type_vocab_size=1,
    )
    save(transformers.RobertaForMaskedLM(config), folder)
    return folder


@pytest.fixture(scope="session")
def causal(tmp_path_factory):
    folder = tmp_path_factory.mktemp("causal")
    save_tokenizer(folder, CAUSAL, bos_token="<|endoftext|>", eos_token="<|endoftext|>")
    config = transformers.GPT2Config(vocab_size=64, n_embd=16, n_layer=2, n_head=2, n_positions=32)
    save(transformers.GPT2LMHeadModel(config), folder)
    return folder


def task(data_bin, mask):
    dictionary = Dictionary.load(str(data_bin / "dict.txt"))
    if mask:
        dictionary.add_symbol("<mask>")
    return SimpleNamespace(
        source_dictionary=dictionary,
        target_dictionary=dictionary,
        dictionary=dictionary,
        max_positions=lambda: 32,
    )


def load(path, student, causal, positions=32, dictionary=None):
    return load_teacher(
        str(path), student, dictionary=dictionary, causal=causal, positions=positions
    )


def converted(folder, out):
    from fairseq_ki.convert.from_hf import load_directory, write_checkpoint

    write_checkpoint(load_directory(folder), out / "teacher.pt")
    return out / "teacher.pt"


@pytest.mark.parametrize("kind", ["masked", "causal"])
def test_the_same_signal_as_the_converted_checkpoint(request, data_bin, tmp_path, kind):
    folder, student = request.getfixturevalue(kind), task(data_bin, kind == "masked")
    live = load(f"hf:{folder}", student, kind == "causal")
    beside = load(converted(folder, tmp_path), student, kind == "causal")
    tokens = torch.randint(4, 64, (4, 20))
    net_input = {"src_tokens": tokens, "src_lengths": torch.tensor([20] * 4)}
    rows = Positions.where(tokens > 9)
    for one, other in zip(live.head_input(net_input, rows), beside.head_input(net_input, rows)):
        assert torch.equal(one, other)
    assert live.dictionary_sha256 == beside.dictionary_sha256
    assert live.path == f"hf:{folder}"


@pytest.mark.parametrize("kind", ["masked", "causal"])
def test_the_distribution_of_transformers_over_the_students_symbols(request, data_bin, kind):
    folder, student = request.getfixturevalue(kind), task(data_bin, kind == "masked")
    symbols = student.source_dictionary.symbols
    theirs = dict(zip(MASKED if kind == "masked" else CAUSAL, range(100)))
    if kind == "causal":
        theirs["</s>"] = theirs.pop("<|endoftext|>")
    known = [i for i, symbol in enumerate(symbols) if symbol in theirs]
    to_theirs = torch.tensor([theirs.get(symbol, 0) for symbol in symbols])
    tokens = torch.tensor(known)[torch.randint(0, len(known), (4, 20))]
    tokens[tokens == student.source_dictionary.pad()] = 4
    live = load(f"hf:{folder}", student, kind == "causal")
    auto = transformers.AutoModelForMaskedLM if kind == "masked" else None
    model = (auto or transformers.AutoModelForCausalLM).from_pretrained(folder).eval()
    with torch.no_grad():
        expected = model(to_theirs[tokens]).logits[..., to_theirs[known]]
        found = live(tokens)[0]
    found = torch.log_softmax(found, dim=-1)
    expected = torch.log_softmax(expected, dim=-1)
    torch.testing.assert_close(found[..., known], expected, rtol=0, atol=1e-5)
    absent = sorted(set(range(len(symbols))) - set(known))
    assert (found[..., absent].exp() == 0).all()  # GPT-2 has no <s>, <pad> and <unk>


def test_a_dictionary_that_is_given_names_the_rows(masked, data_bin, tmp_path):
    """As for data that were encoded to numbers: dict.txt in the order of the tokens."""
    student = task(data_bin, mask=True)
    names = Dictionary()
    for symbol in [*reversed(range(60)), "extra", *(f"filled{i}" for i in range(6))]:
        names.add_symbol(str(symbol))
    names.save(str(tmp_path / "dict.txt"))
    numbers = Dictionary()
    for i in range(60):
        numbers.add_symbol(str(i))
    numbers.add_symbol("<mask>")
    renamed = SimpleNamespace(**{**vars(student), "source_dictionary": numbers})
    renamed.target_dictionary = renamed.dictionary = numbers
    given = load(f"hf:{masked}", renamed, False, dictionary=str(tmp_path / "dict.txt"))
    tokens = torch.randint(4, 64, (4, 20))
    assert torch.equal(given(tokens)[0], load(f"hf:{masked}", student, False)(tokens)[0])
    with pytest.raises(ValueError, match="all of the student's 65 symbols.* found 60 missing"):
        load(f"hf:{masked}", renamed, False)


def test_what_cannot_teach_is_refused(masked, causal, data_bin, tmp_path, monkeypatch):
    student = task(data_bin, mask=True)
    with pytest.raises(ValueError, match="expected a masked LM .*'ki_gpt2'"):
        load(f"hf:{causal}", student, False)
    with pytest.raises(ValueError, match="expected a causal language model"):
        load(f"hf:{masked}", student, True)
    with pytest.raises(ValueError, match="expected at least 64 positions"):
        load(f"hf:{masked}", student, False, positions=64)
    with pytest.raises(ValueError, match="nothing-here"):
        load(f"hf:{tmp_path / 'nothing-here'}", student, False)
    config = transformers.RobertaConfig.from_pretrained(masked)
    classifier = transformers.RobertaForSequenceClassification(config)
    save_tokenizer(
        tmp_path / "classifier",
        MASKED,
        cls_token="<s>",
        pad_token="<pad>",
        sep_token="</s>",
        mask_token="<mask>",
    )
    save(classifier, tmp_path / "classifier")
    with pytest.raises(ValueError, match="expected a language model, found a classifier"):
        load(f"hf:{tmp_path / 'classifier'}", student, False)
    monkeypatch.setitem(sys.modules, "fairseq_ki.convert.from_hf", None)
    with pytest.raises(ValueError, match=r"pip install 'fairseq_ki\[hf\]'"):
        load(f"hf:{masked}", student, False)


def test_a_student_trains_as_from_the_converted_checkpoint(
    masked, fairseq_train, data_bin, tmp_path
):
    runs = [
        fairseq_train(
            data_bin,
            tmp_path / str(number),
            f"--task ki_mlm --criterion ki --ki-teacher {teacher} --ki-steps 10 --max-update 4",
        )
        for number, teacher in enumerate((f"hf:{masked}", converted(masked, tmp_path)))
    ]
    assert runs[0].train[0]["ki_loss"] == runs[1].train[0]["ki_loss"]
    assert runs[0].losses == runs[1].losses
