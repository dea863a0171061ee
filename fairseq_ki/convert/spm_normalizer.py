"""SentencePiece's normalisation as a fast tokenizer's, character by character the same.

A SentencePiece model holds a map from short strings to strings (fullwidth A to A, e and an accent
to e with an accent), of which the longest that fits is taken at each place. The fast tokenizers
have such a step too, ``Precompiled``, but it works on what a reader takes for one character: it
loses the second accent of a letter, and every accent of one that is mapped. So it is shown single
characters here, and the composing of letters with accents is left to Unicode's NFC, kept from
composing what SentencePiece leaves apart.
"""

import struct
import unicodedata
from collections import defaultdict
from collections.abc import Iterable, Iterator
from functools import lru_cache

from tokenizers import Regex, normalizers

SPACE = "▁"
# no characters by Unicode's definition, so no text has them; should one, all are as good as _OTHER
_APART = "\ufdd0"  # stays to the end: NFC must not join what is on both sides
_WAIT = "\ufdd1"  # between accents: NFC joins the first with its letter, then the next
_SINGLE = "\ufdd2"  # makes Precompiled see single characters
_OTHER = "\ufdd3"

_RULES = ("nmt_nfkc", "nfkc", "nmt_nfkc_cf", "nfkc_cf")  # SentencePiece's own maps
_LONGEST_KEY = 256
_FINAL_JAMO = range(0x11A8, 0x11C3)
# what Unicode counts as one character with the one before it
_JOINED = r"[\p{M}\u200c\u200d\u1100-\u11ff\ua960-\ua97f\uac00-\ud7ff\uff9e\uff9f]"


def normalizer(spec) -> normalizers.Normalizer:
    """The fast tokenizer's equal of a SentencePiece model's ``normalizer_spec``.

    The result has spaces written as ``▁``, and one in front where the model adds one.

    Raises:
        ValueError: for settings that have no equal there.
    """
    if not spec.escape_whitespaces:
        raise ValueError("expected a SentencePiece model that writes spaces as ▁, found another")
    steps = list(_mapping(spec)) if spec.precompiled_charsmap else []
    if spec.remove_extra_whitespaces:
        steps += [
            normalizers.Replace(Regex("^ +"), ""),
            normalizers.Replace(Regex(" {2,}"), " "),
        ]
    steps.append(normalizers.Replace(" ", SPACE))
    if spec.remove_extra_whitespaces:
        steps.append(normalizers.Replace(Regex(f"{SPACE}+$"), ""))
    if spec.add_dummy_prefix:
        steps.append(normalizers.Prepend(SPACE))
    return normalizers.Sequence(steps)


def _mapping(spec) -> Iterator[normalizers.Normalizer]:
    table = read_charsmap(spec.precompiled_charsmap)
    several = [key for key in table if len(key) > 1]
    single = {key: value for key, value in table.items() if len(key) == 1}
    joins = set("".join(several))
    expanding = {c for c, value in single.items() if len(value) > 1} - joins
    composed = {c for c in _composed_letters() if c not in joins}
    finals = {chr(c) for c in _FINAL_JAMO} | {
        c for c, value in single.items() if value and ord(value[0]) in _FINAL_JAMO
    }
    # signs that join with a sign before them, as the parts of some Indic vowels do
    second_signs = {
        key[i]
        for key in several
        for i in range(1, len(key))
        if unicodedata.category(key[i - 1]).startswith("M") and key[i - 1 : i + 1] in table
    }
    yield normalizers.Replace(Regex(_any(_APART + _WAIT + _SINGLE)), _OTHER)
    if removed := {c for c, value in single.items() if not value}:
        yield normalizers.Replace(Regex(_any(removed)), "")
    apart = [rf"(?<=[\uac00-\ud7a3])(?={_any(finals)})"]
    if composed:
        apart.append(rf"(?<={_any(composed)})(?=\p{{M}})")
    if expanding:
        apart.append(f"(?<={_any(expanding)})(?=.)|(?<=.)(?={_any(expanding)})")
    yield normalizers.Replace(Regex("|".join(apart)), _APART)
    yield normalizers.Replace(Regex(rf"(?<=.)(?={_JOINED})|(?<=\p{{Cf}})(?=.)"), _SINGLE)
    yield normalizers.Precompiled(spec.precompiled_charsmap)
    yield normalizers.Replace(_SINGLE, "")
    if several:
        kept = f"(?!{_any(second_signs)})" if second_signs else ""
        yield normalizers.Replace(Regex(rf"(?<=\p{{M}})(?=\p{{M}}){kept}"), _WAIT)
        yield normalizers.NFC()
        if following := _following_accents(table):
            for _ in range(max(map(len, several)) - 2):
                yield normalizers.Replace(Regex(following), "")
                yield normalizers.NFC()
        yield normalizers.Replace(_WAIT, "")
    yield normalizers.Replace(_APART, "")


def _following_accents(table: dict[str, str]) -> str:
    """A pattern of the ``_WAIT`` between a letter with accents and an accent that joins it."""
    letters: dict[str, set[str]] = defaultdict(set)
    for key in table:
        letter, accent = table.get(key[:-1], ""), table.get(key[-1], key[-1])
        fits = len(key) > 2 and len(letter) == len(accent) == 1
        if fits and unicodedata.category(accent).startswith("M"):
            letters[accent].add(letter)
    return "|".join(
        f"(?<={_any(found)}){_WAIT}(?={_any(accent)})" for accent, found in sorted(letters.items())
    )


def _composed_letters() -> Iterator[str]:
    """Letters with an accent in them that are one character; Korean syllables apart."""
    for code in range(0xC0, 0x20000):
        if not 0xAC00 <= code < 0xE000 and len(unicodedata.normalize("NFD", chr(code))) > 1:
            yield chr(code)


def _any(characters: Iterable[str]) -> str:
    return "[" + "".join(f"\\x{{{ord(c):x}}}" for c in sorted(characters)) + "]"


def check_mapping(model, fast: normalizers.Normalizer, spec) -> None:
    """Refuse a map of somebody's own that the fast tokenizer does not follow.

    Args:
        model: the SentencePieceProcessor.
        fast: from :func:`normalizer`.
    """
    if not spec.precompiled_charsmap or spec.name in _RULES:
        return
    wrong = [
        key
        for key in read_charsmap(spec.precompiled_charsmap)
        if model.normalize(key) != fast.normalize_str(key)
    ]
    if wrong:
        raise ValueError(
            f"expected one of SentencePiece's own normalisations ({', '.join(_RULES)}, identity), "
            f"found {spec.name!r}, of which {len(wrong)} entries have no equal in a fast "
            f"tokenizer, such as {wrong[0]!r}"
        )


@lru_cache(maxsize=1)  # the same in most models
def read_charsmap(blob: bytes) -> dict[str, str]:
    """The map in a SentencePiece model. ValueError for a damaged one."""
    try:
        return _read_trie(blob)
    except (struct.error, IndexError, ValueError) as e:
        raise ValueError(f"expected a table of normalisation, found a damaged one: {e}") from e


def _read_trie(blob: bytes) -> dict[str, str]:
    """A double-array trie over UTF-8, then the strings that its values point into.

    Its units are 32 bits: bit 8 says that a key ends here, bits 10 to 30 (shifted by 8 more where
    bit 9 is set) lead to the children, and the low byte is the one that led here.
    """
    size = struct.unpack_from("<I", blob)[0]
    units = struct.unpack_from(f"<{size // 4}I", blob, 4)
    strings = blob[4 + size :]
    children: dict[int, list[int]] = defaultdict(list)
    for place, unit in enumerate(units):
        if not unit >> 31:  # else it is a value
            children[place ^ (unit & 0xFF)].append(place)
    table = {}
    waiting = [(0, b"")]
    while waiting:
        place, key = waiting.pop()
        if len(key) > _LONGEST_KEY:
            raise ValueError(f"a key of more than {_LONGEST_KEY} bytes")
        unit = units[place]
        base = place ^ ((unit >> 10) << ((unit & (1 << 9)) >> 6))
        if unit >> 8 & 1:
            start = units[base] & 0x7FFFFFFF
            table[key.decode()] = strings[start : strings.index(b"\0", start)].decode()
        waiting += [
            (child, key + bytes([child ^ base])) for child in children[base] if child != base
        ]
    return table
