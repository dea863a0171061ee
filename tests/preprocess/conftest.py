"""The steps are scripts that import their siblings, so their folder goes on the path."""

import random
import sys
from pathlib import Path

import pytest

SCRIPTS = Path(__file__).parents[2] / "preprocess"
sys.path.insert(0, str(SCRIPTS))

# Words of two syllables with a few function words: enough variety for a vocabulary of 150.
SYLLABLES = (
    "tea",
    "cher",
    "lear",
    "ner",
    "mo",
    "del",
    "lay",
    "er",
    "know",
    "ledge",
    "lan",
    "guage",
)
WORDS = [a + b for a in SYLLABLES for b in SYLLABLES] + ["the", "of", "and", "to", "in"] * 12


def sentence(generator: random.Random) -> str:
    words = generator.choices(WORDS, k=generator.randrange(4, 14))
    return " ".join(words).capitalize() + generator.choice(".?!")


@pytest.fixture(scope="session")
def scripts() -> Path:
    return SCRIPTS


@pytest.fixture(scope="session")
def raw_text(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Sixty documents of random sentences, with some odd lines among them."""
    generator = random.Random(7)
    odd = [
        "one\u2028two\u00a0three\x85four\x1cfive",
        "<s> <pad> </s> <unk> <mask> are plain text here",
        "\u2581 a mark, \u2585 a block, \u2603\u2603 snow <s>\u2603",
        "caf\u0065\u0301 na\u00efve \ufb01ne \u0130stanbul",
        "tabs\tand\x00nulls\x07",
    ]
    documents = [
        "\n".join(sentence(generator) for _ in range(generator.randrange(2, 8))) for _ in range(60)
    ]
    for number, line in enumerate(odd):
        documents[10 * number + 3] += "\n" + line
    path = tmp_path_factory.mktemp("raw") / "raw.txt"
    path.write_text("\n\n".join(documents) + "\n", encoding="utf-8")
    return path


@pytest.fixture(scope="session")
def corpus(raw_text: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory of a small corpus made from `raw_text`."""
    import text_corpus

    folder = tmp_path_factory.mktemp("corpus")
    text_corpus.main([str(raw_text), "--out-dir", str(folder), "--valid-every", "5"])
    return folder


@pytest.fixture(scope="session")
def spm(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory of a SentencePiece model (150 ids) trained on `corpus`."""
    import train_sentencepiece

    folder = tmp_path_factory.mktemp("spm")
    train_sentencepiece.main(
        f"{corpus}/train.txt --out-dir {folder} --vocab-size 150 --character-coverage 0.98".split()
    )
    return folder
