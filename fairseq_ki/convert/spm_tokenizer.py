"""A SentencePiece model and a dict.txt as one fast tokenizer, whose ids are fairseq's."""

from collections.abc import Sequence
from pathlib import Path

from fairseq.data import Dictionary
from sentencepiece import SentencePieceProcessor, sentencepiece_model_pb2
from tokenizers import AddedToken, Tokenizer, decoders, models, processors

from fairseq_ki.convert.spm_normalizer import SPACE, check_mapping, normalizer
from fairseq_ki.convert.vocabulary import MASK, SPECIAL

_NORMAL, _UNKNOWN, _CONTROL, _USER_DEFINED, _UNUSED, _BYTE = range(1, 7)
_UNIGRAM, _BPE = 1, 2


def fast_tokenizer(
    path: Path, dictionary: Dictionary, start: Sequence[str], drop_missing_pieces: bool = False
) -> Tokenizer:
    """The tokenizer.

    Args:
        path: the SentencePiece model.
        dictionary: fairseq's, ``<mask>`` included for masked LMs.
        start: symbols in front of a text: </s> for causal LMs, to which fairseq's
            language_modeling shows it there; <s> for masked ones, which get a </s> at the end too.
        drop_missing_pieces: where a piece is not in the dictionary, let the text be split into
            others; fairseq has <unk> there, which a fast tokenizer cannot say.

    Raises:
        ValueError: for a model that is none, and for what a fast tokenizer cannot do the same.
    """
    proto, model = _load(path)
    try:
        pieces = {piece.piece: piece for piece in proto.pieces}
        missing = [
            p.piece
            for p in proto.pieces
            if p.type in (_NORMAL, _USER_DEFINED, _BYTE) and p.piece not in dictionary.indices
        ]
        _check(proto, missing, drop_missing_pieces)
        if proto.trainer_spec.model_type == _UNIGRAM:
            tokenizer = Tokenizer(_unigram(proto, dictionary.symbols, pieces))
        else:
            tokenizer = Tokenizer(_bpe(proto, dictionary.symbols, pieces))
        tokenizer.normalizer = normalizer(proto.normalizer_spec)
        check_mapping(model, tokenizer.normalizer, proto.normalizer_spec)
    except ValueError as e:
        raise ValueError(f"{path}: {e}") from e
    prefix = "always" if proto.normalizer_spec.add_dummy_prefix else "never"
    steps = [decoders.Metaspace(replacement=SPACE, prepend_scheme=prefix)]
    if proto.trainer_spec.byte_fallback:
        steps = [decoders.ByteFallback(), decoders.Fuse(), *steps]
    tokenizer.decoder = decoders.Sequence(steps)
    tokenizer.post_processor = _template(dictionary, start)
    special = [AddedToken(s, special=True, normalized=False) for s in SPECIAL]
    if MASK in dictionary.indices:
        special.append(AddedToken(MASK, special=True, normalized=False, lstrip=True))
    tokenizer.add_special_tokens(special)
    return tokenizer


def _load(path: Path) -> tuple:
    if not path.is_file():
        raise ValueError(f"{path}: expected a SentencePiece model, found no file")
    proto = sentencepiece_model_pb2.ModelProto()  # type: ignore[attr-defined]
    try:
        proto.ParseFromString(path.read_bytes())
        return proto, SentencePieceProcessor(model_proto=proto.SerializeToString())
    except Exception as e:  # protobuf's errors have no class in common
        raise ValueError(f"{path}: expected a SentencePiece model, found another file: {e}") from e


def _check(proto, missing: Sequence[str], drop: bool) -> None:
    trainer = proto.trainer_spec
    if trainer.model_type not in (_UNIGRAM, _BPE):
        raise ValueError("expected a SentencePiece model of type unigram or bpe, found another")
    if trainer.treat_whitespace_as_suffix:
        raise ValueError("expected ▁ at the beginning of words, found it at their end")
    own = [p.piece for p in proto.pieces if p.type == _USER_DEFINED]
    if own:
        raise ValueError(
            f"expected no user-defined symbols, which are found whatever is around them, found "
            f"{len(own)}, such as {own[0]!r}"
        )
    if missing and (not drop or trainer.model_type == _BPE):
        raise ValueError(
            f"expected all pieces of the model in dict.txt, found {len(missing)} missing, such as "
            f"{', '.join(map(repr, missing[:5]))}; fairseq reads them as <unk>, and a fast "
            "tokenizer of unigrams can be made to split them into other pieces instead: "
            "--drop-missing-pieces"
        )


def _unigram(proto, symbols: Sequence[str], pieces: dict) -> models.Unigram:
    scores = []
    lowest = min(p.score for p in proto.pieces if p.type == _NORMAL)
    for symbol in symbols:
        piece = pieces.get(symbol)
        if piece is not None and piece.type in (_NORMAL, _BYTE):
            scores.append((symbol, piece.score if piece.type == _NORMAL else lowest))
        elif symbol in SPECIAL or symbol == MASK:
            scores.append((symbol, lowest))
        else:
            # no text is split into it: normalised text has no spaces
            scores.append((f" {symbol}", lowest))
    return models.Unigram(
        scores, unk_id=SPECIAL.index("<unk>"), byte_fallback=proto.trainer_spec.byte_fallback
    )


def _bpe(proto, symbols: Sequence[str], pieces: dict) -> models.BPE:
    """SentencePiece joins the pair that gives the best piece, whatever the two are."""
    merges = []
    for rank, piece in enumerate(proto.pieces):
        if piece.type != _NORMAL:
            continue
        text = piece.piece
        merges += [
            (-piece.score, rank, text[:i], text[i:])
            for i in range(1, len(text))
            if text[:i] in pieces and text[i:] in pieces
        ]
    return models.BPE(
        vocab={symbol: i for i, symbol in enumerate(symbols)},
        merges=[(left, right) for _, _, left, right in sorted(merges)],
        unk_token="<unk>",
        fuse_unk=True,
        byte_fallback=proto.trainer_spec.byte_fallback,
    )


def _template(dictionary: Dictionary, start: Sequence[str]) -> processors.TemplateProcessing:
    before = " ".join(start)
    if MASK in dictionary.indices:
        single, pair = f"{before} $A </s>", f"{before} $A </s> </s> $B </s>"
    else:
        single, pair = f"{before} $A", f"{before} $A </s> $B"
    ids = [(symbol, dictionary.index(symbol)) for symbol in ("<s>", "</s>")]
    return processors.TemplateProcessing(single=single, pair=pair, special_tokens=ids)
