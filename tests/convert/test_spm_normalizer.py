"""SentencePiece's normalisation by the steps of a fast tokenizer."""

import random
import unicodedata

import pytest
import sentencepiece
from sentencepiece import sentencepiece_model_pb2

from fairseq_ki.convert.spm_normalizer import check_mapping, normalizer, read_charsmap


@pytest.fixture(scope="module")
def spec(spm):
    proto = sentencepiece_model_pb2.ModelProto()
    proto.ParseFromString(spm.read_bytes())
    return proto.normalizer_spec


@pytest.fixture(scope="module")
def model(spm):
    return sentencepiece.SentencePieceProcessor(model_file=str(spm))


def test_the_map_is_read(spec):
    table = read_charsmap(spec.precompiled_charsmap)
    assert table["Ａ"] == "A"
    assert table["e\u0301"] == "é"
    assert table["\u1100\u1161\u11a8"] == "각"
    assert table["\u00a0"] == " "
    assert table["\u0001"] == ""
    assert len(table) > 200_000


def test_every_character_that_is_mapped(spec, model):
    fast = normalizer(spec)
    for key in read_charsmap(spec.precompiled_charsmap):
        if len(key) == 1:
            assert fast.normalize_str(key) == model.normalize(key), ascii(key)


def test_strings_that_are_mapped(spec, model):
    fast = normalizer(spec)
    keys = [k for k in read_charsmap(spec.precompiled_charsmap) if len(k) > 1]
    keys = random.Random(0).sample(keys, 4000)
    # scripts that are newer than the tables of the fast tokenizers
    newer = [k for k in keys if any(unicodedata.category(c) == "Cn" or ord(c) > 0xFFFF for c in k)]
    wrong = [k for k in keys if fast.normalize_str(k) != model.normalize(k) and k not in newer]
    assert not wrong, [ascii(k) for k in wrong[:5]]


def test_a_map_of_ones_own(spec, spm, model):
    own = type(spec)()
    own.CopyFrom(spec)
    own.name = "user_defined"
    fast = normalizer(own)

    class Other:
        @staticmethod
        def normalize(text):
            return "x"

    with pytest.raises(ValueError, match="found 'user_defined', of which .* have no equal"):
        check_mapping(Other, fast, own)


def test_spaces_not_written_as_marks(spec):
    own = type(spec)()
    own.CopyFrom(spec)
    own.escape_whitespaces = False
    with pytest.raises(ValueError, match="writes spaces as ▁"):
        normalizer(own)


def test_a_damaged_map(spec):
    blob = spec.precompiled_charsmap
    for damaged in (blob[:3], blob[:1000], blob[:-50_000], b"\xff" * 1000):
        with pytest.raises(ValueError, match="expected a table of normalisation"):
            read_charsmap(damaged)
