"""A tokenizer's vocabulary as a fairseq dictionary: which symbol is which row.

fairseq's dictionaries begin with <s> <pad> </s> <unk>, and masked LMs end with <mask>. A
tokenizer has these anywhere, under any name, or not at all.
"""

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import count
from typing import Any

from fairseq.data import Dictionary

MASK = "<mask>"
SPECIAL = ("<s>", "<pad>", "</s>", "<unk>")
_WHITE_SPACE = re.compile(r"\s")

# what a tokenizer may call them, the first that it has counts; causal models name no cls and sep
_NAMES = {
    "<s>": ("cls_token", "bos_token"),
    "<pad>": ("pad_token",),
    "</s>": ("sep_token", "eos_token"),
    "<unk>": ("unk_token",),
    MASK: ("mask_token",),
}


@dataclass(frozen=True)
class Vocabulary:
    """fairseq's symbols and the tokenizer's ids.

    symbols: by fairseq id, ``<mask>`` last in masked LMs.
    rows: by fairseq id the tokenizer's id, None for a special symbol that it does not have.
    """

    symbols: tuple[str, ...]
    rows: tuple[int | None, ...]

    @property
    def absent(self) -> tuple[str, ...]:
        """The symbols that the tokenizer does not have."""
        return tuple(s for s, row in zip(self.symbols, self.rows) if row is None)

    def dictionary(self) -> Dictionary:
        """fairseq's dictionary, ``<mask>`` included; save it without (:func:`save`)."""
        dictionary = Dictionary()
        for symbol in self.symbols[len(SPECIAL) :]:
            dictionary.add_symbol(symbol)
        return dictionary

    def by_row(self) -> dict[int, str]:
        """The tokenizer's id to fairseq's symbol."""
        return {row: s for s, row in zip(self.symbols, self.rows) if row is not None}


def read_vocabulary(
    tokens: Mapping[str, int], special: Mapping[str, Any], rows: int, masked: bool
) -> Vocabulary:
    """The vocabulary of a tokenizer for a model with ``rows`` embeddings.

    Args:
        tokens: token to id.
        special: the tokenizer's names for special tokens (``bos_token`` and so on).
        rows: ids below this have an embedding; those without a token become ``madeupword…``.
        masked: whether <mask> is needed, else it is a symbol like others.

    Raises:
        ValueError: for ids without an embedding, one id for two tokens, and masked LMs without
            one of <s> <pad> </s> <mask>.
    """
    by_id: dict[int, str] = {}
    for token, i in tokens.items():
        if i in by_id:
            raise ValueError(
                f"tokenizer: expected one token an id, found {by_id[i]!r} and {token!r} at {i}"
            )
        by_id[i] = token
    beyond = [token for i, token in sorted(by_id.items()) if not 0 <= i < rows]
    if beyond:
        raise ValueError(
            f"tokenizer: expected ids below the model's {rows} embeddings, found {len(beyond)} "
            f"tokens beyond ({_some(beyond)}); tokenizer and model do not belong together, or "
            "the embeddings were not resized after tokens were added"
        )
    roles = _roles(tokens, special, masked)
    if masked:
        lacking = [s for s in ("<s>", "<pad>", "</s>", MASK) if s not in roles]
        if lacking:
            raise ValueError(
                f"tokenizer: expected tokens for <s>, <pad>, </s> and <mask> (cls_token, "
                f"pad_token, sep_token, mask_token), found none for {_some(lacking)}"
            )
    taken = set(roles.values())
    pairs: list[tuple[str, int | None]] = [(s, roles.get(s)) for s in SPECIAL]
    pairs += [
        (_writable(by_id[i]) if i in by_id else f"madeupword{i:04d}", i)
        for i in range(rows)
        if i not in taken
    ]
    if masked:
        pairs.append((MASK, roles[MASK]))
    symbols = tuple(symbol for symbol, _ in pairs)
    if len(set(symbols)) != len(symbols):
        twice = [s for s, times in Counter(symbols).items() if times > 1]
        raise ValueError(
            f"tokenizer: expected tokens with names of their own beside fairseq's {SPECIAL}, "
            f"found twice: {_some(twice)}"
        )
    return Vocabulary(symbols, tuple(row for _, row in pairs))


def rows_of(
    tokenizer: Any, symbols: Sequence[str], absent: Sequence[str], masked: bool
) -> tuple[int | None, ...]:
    """The tokenizer's id of each symbol of a dictionary.

    Symbols that the tokenizer does not have get ids of their own behind its tokens: special ones
    become tokens of it, ``madeupword…`` (embeddings without a token) stay without.

    Args:
        tokenizer: of transformers; special tokens may be added to it.
        symbols: by fairseq id, ``<mask>`` included for masked LMs.
        absent: special symbols that get no id, since the model does not predict them.

    Raises:
        ValueError: where tokenizer and dictionary have different symbols.
    """
    tokens = tokenizer.get_vocab()
    known = read_vocabulary(tokens, tokenizer.special_tokens_map, max(tokens.values()) + 1, masked)
    used = set(tokens.values())
    ids = {symbol: row for row, symbol in known.by_row().items() if row in used}
    unpredicted = [s for s in absent if s in ids]
    lacking = sorted(set(ids) - set(symbols))
    strange = [s for s in symbols if s not in ids and s not in SPECIAL and not _is_filler(s)]
    if unpredicted or lacking or strange:
        raise ValueError(
            f"tokenizer: expected the {len(symbols)} symbols of dict.txt, found {len(lacking)} "
            f"tokens that are not in it ({_some(lacking) or 'none'}) and {len(strange)} symbols "
            f"without a token ({_some(strange) or 'none'})"
            + (f"; the model does not predict {_some(unpredicted)}" if unpredicted else "")
        )
    for symbol in SPECIAL:
        if symbol not in ids and symbol not in absent:
            # <s> gets no role: the tokenizer may begin its texts with another one
            role = "additional_special_tokens" if symbol == "<s>" else _NAMES[symbol][-1]
            tokenizer.add_special_tokens({role: [symbol] if symbol == "<s>" else symbol})
            ids[symbol] = tokenizer.convert_tokens_to_ids(symbol)
    taken = set(ids.values())
    free = (i for i in count() if i not in taken)
    ids |= {s: next(free) for s in symbols if s not in ids and s not in absent}
    if max(ids.values()) >= len(ids):
        raise ValueError(
            f"tokenizer: expected {len(ids)} ids without gaps, found them up to {max(ids.values())}"
        )
    return tuple(ids.get(s) for s in symbols)


def _is_filler(symbol: str) -> bool:
    return re.fullmatch(r"madeupword\d{4,}", symbol) is not None


def _roles(tokens: Mapping[str, int], special: Mapping[str, Any], masked: bool) -> dict[str, int]:
    """fairseq's special symbol to the tokenizer's id, no id twice."""
    roles: dict[str, int] = {}
    # </s> first: where one token ends texts and begins them, it is fairseq's </s>, which does both
    for symbol in ("</s>", "<s>", "<pad>", "<unk>", *((MASK,) if masked else ())):
        names = _NAMES[symbol] if masked else _NAMES[symbol][::-1]
        # named by the tokenizer, or not named but spelt as fairseq's
        for token in (*(special.get(name) for name in names), symbol):
            i = tokens.get(str(token)) if token is not None else None
            if i is not None and i not in roles.values():
                roles[symbol] = i
                break
    return roles


def _writable(token: str) -> str:
    """The token as a symbol of dict.txt, which has no white space in it."""
    return _WHITE_SPACE.sub(lambda m: f"<0x{ord(m[0]):02X}>", token) or "<empty>"


def _some(symbols: list[str]) -> str:
    shown = ", ".join(repr(s) for s in symbols[:5])
    return shown + (", ..." if len(symbols) > 5 else "")
