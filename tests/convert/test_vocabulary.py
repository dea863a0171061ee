"""Vocabularies of tokenizers as fairseq dictionaries."""

import pytest

from fairseq_ki.convert.vocabulary import read_vocabulary, rows_of

NAMES = {
    "cls_token": "[CLS]",
    "pad_token": "[PAD]",
    "sep_token": "[SEP]",
    "unk_token": "[UNK]",
    "mask_token": "[MASK]",
}
BERT_LIKE = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "b"]


def ids(tokens):
    return {token: i for i, token in enumerate(tokens)}


def test_names_and_places_of_special_tokens_may_be_others():
    found = read_vocabulary(ids(BERT_LIKE), NAMES, 7, masked=True)
    assert found.symbols == ("<s>", "<pad>", "</s>", "<unk>", "a", "b", "<mask>")
    assert found.rows == (2, 0, 3, 1, 5, 6, 4)
    assert found.dictionary().symbols == list(found.symbols)


def test_gpt2_has_one_special_token():
    end = "<|endoftext|>"
    special = {"bos_token": end, "eos_token": end, "unk_token": end}
    found = read_vocabulary(ids(["a", "b", end]), special, 3, masked=False)
    assert found.symbols == ("<s>", "<pad>", "</s>", "<unk>", "a", "b")
    assert found.rows == (None, None, 2, None, 0, 1)
    assert found.absent == ("<s>", "<pad>", "<unk>")
    assert found.by_row() == {2: "</s>", 0: "a", 1: "b"}


def test_special_tokens_that_are_only_spelt_so():
    found = read_vocabulary(ids(["<pad>", "a", "<unk>", "</s>"]), {}, 4, masked=False)
    assert found.rows == (None, 0, 3, 2, 1)


def test_no_special_token_at_all():
    found = read_vocabulary(ids("abc"), {}, 3, masked=False)
    assert found.rows == (None, None, None, None, 0, 1, 2)


def test_embeddings_without_a_token():
    found = read_vocabulary(ids(BERT_LIKE), NAMES, 9, masked=True)
    assert found.symbols[-3:] == ("madeupword0007", "madeupword0008", "<mask>")


def test_white_space_in_tokens():
    found = read_vocabulary(ids(["\n", " ", "a\u3000b", "", "</s>"]), {}, 5, masked=False)
    assert found.symbols[4:] == ("<0x0A>", "<0x20>", "a<0x3000>b", "<empty>")


@pytest.mark.parametrize(
    ("tokens", "rows", "message"),
    [
        (ids(BERT_LIKE), 6, "expected ids below the model's 6 embeddings, found 1 tokens beyond"),
        ({**ids(BERT_LIKE), "c": 5}, 7, "expected one token an id, found 'a' and 'c' at 5"),
        (ids(BERT_LIKE[:4]), 4, r"found none for '<mask>'"),
        (ids([*BERT_LIKE, "<s>"]), 8, "found twice: '<s>'"),
        (ids([*BERT_LIKE, "\n", "<0x0A>"]), 9, "found twice: '<0x0A>'"),
    ],
)
def test_refused(tokens, rows, message):
    with pytest.raises(ValueError, match=message):
        read_vocabulary(tokens, NAMES, rows, masked=True)


class FakeTokenizer:
    def __init__(self, tokens, special):
        self.tokens, self.special_tokens_map = ids(tokens), special

    def get_vocab(self):
        return self.tokens

    def add_special_tokens(self, named):
        for value in named.values():
            for token in value if isinstance(value, list) else [value]:
                self.tokens.setdefault(token, len(self.tokens))

    def convert_tokens_to_ids(self, token):
        return self.tokens[token]


def test_back_to_the_tokenizers_ids():
    found = read_vocabulary(ids(BERT_LIKE), NAMES, 9, masked=True)
    tokenizer = FakeTokenizer(BERT_LIKE, NAMES)
    assert rows_of(tokenizer, found.symbols, (), masked=True) == found.rows


def test_special_symbols_become_tokens_unless_the_model_has_none():
    symbols = ("<s>", "<pad>", "</s>", "<unk>", "a", "madeupword0002")
    gpt2 = {"eos_token": "E"}
    assert rows_of(FakeTokenizer(["a", "E"], gpt2), symbols, (), False) == (2, 3, 1, 4, 0, 5)
    absent = ("<s>", "<pad>", "<unk>")
    assert rows_of(FakeTokenizer(["a", "E"], gpt2), symbols, absent, False) == (
        *(None, None, 1, None),
        *(0, 2),
    )


def test_a_tokenizer_of_something_else():
    symbols = ("<s>", "<pad>", "</s>", "<unk>", "x", "y", "<mask>")
    with pytest.raises(ValueError, match=r"found 2 tokens that are not in it \('a', 'b'\) and 2"):
        rows_of(FakeTokenizer(BERT_LIKE, NAMES), symbols, (), masked=True)
