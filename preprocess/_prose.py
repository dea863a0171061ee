"""The English prose in a docstring or a README, without code, tables and mark-up."""

import inspect
import math
import re

_DIRECTIVE = re.compile(r"^\s*\.\. ?([\w:+-]+)::|^\s*\.\. (?=[\[_|])|^\s*\.\.$")
# Directives whose body is prose; the body of all others (math, code, tables, plots) is not.
_PROSE_DIRECTIVES = frozenset(
    re.findall(
        r"\w+",
        "note warning seealso tip important caution attention admonition deprecated versionadded "
        "versionchanged hint danger topic",
    )
)
_ITEM = re.compile(r"^\s*([-*+•]|\(?\d{1,2}[.)]|\[\d+\]|#\.)\s+")
_FIELD = re.compile(r"^:(param|type|returns?|rtype|raises?|keyword|ivar|cvar|var)\b[^:]*:\s*", re.I)
_ENTRY = re.compile(r"^[\w.*`]+( ?\([^)]*\))?: \S")  # Google style: "name (type): text"
_TYPED = re.compile(r"^[\w.*`\\]+(, [\w.*`\\]+)* : ")  # numpydoc: "name : type"

_SUBSTITUTIONS = [
    (re.compile(pattern), replacement)
    for pattern, replacement in (
        (r"^:(param|type|returns?|rtype|raises?|keyword|ivar|cvar|var)\b[^:]*:\s*", ""),
        (r"!?\[([^\]]*)\]\([^)]*\)", r"\1"),  # [text](address)
        (r":[a-zA-Z][\w:+-]*:`~?!?\.?([^`<]+?)(?:\s*<[^`>]*>)?`", r"\1"),  # :role:`text <target>`
        (r"`([^`<]+?)\s*<[^`>]+>`_{0,2}", r"\1"),  # `text <address>`_
        (r"\s*\[[\w#*]+\]_(?=\W|$)", ""),  # footnote [1]_
        (r"(?<=\S)`_{1,2}(?=\W|$)", ""),  # end of `text`_
        (r"</?(a|b|br|center|code|div|em|h\d|i|img|li|p|pre|span|strong|su[bp]|ul)\b[^<>]*>", ""),
        (r"`{1,3}|\*\*|(?<!\S)\|(?=\S)|(?<=\S)\|_?(?!\S)", ""),
        (r"(?<![\w*])\*([^\s*]|[^\s*][^*]*[^\s*])\*(?![\w*])", r"\1"),  # *emphasis*
        (r"\\ ", ""),
        (r"\\([_*`|])", r"\1"),
        (r"::$", ":"),
    )
]
_WORD = re.compile(r"[^\W\d_]+(?:'[^\W\d_]+)?")
_FUNCTION_WORDS = frozenset(
    _WORD.findall(
        "a all also an and any are as at be been being but by can could did do does each either "
        "every for from given had has have how if in into is it its may more most must no not of "
        "on one only or other over same should so some such than that the their them then there "
        "these they this those to under until up use used using was we were what when where "
        "whether which while who will with within without would you your"
    )
)
MIN_WORDS = 8
"""Fewer words of prose than this are no document."""


def prose(text: str) -> list[str]:
    """Return the paragraphs of readable English in `text`, one line each; [] if there is none.

    Doctests, literal and code blocks, tables, mathematics, headings, "name : type" lines,
    directives and mark-up are dropped; so is what is not mostly words, or has too few of
    English's function words.
    """
    paragraphs = (_plain(" ".join(block)) for block in _blocks(inspect.cleandoc(text)))
    kept = [paragraph for paragraph in paragraphs if _is_sentence(paragraph)]
    return kept if is_document(kept) else []


def is_document(paragraphs: list[str]) -> bool:
    """Whether paragraphs make a document: MIN_WORDS words, one in eight a function word."""
    words = _WORD.findall(" ".join(paragraphs).lower())
    return len(words) >= MIN_WORDS and _function_words(words) * 8 >= len(words)


def _function_words(words: list[str]) -> int:
    return sum(word.lower() in _FUNCTION_WORDS for word in words)


def _is_sentence(paragraph: str) -> bool:
    """Whether a paragraph is a phrase or more, made mostly of words; a long one, of English."""
    words = _WORD.findall(paragraph)
    if len(words) < 4 or sum(map(len, words)) < 0.68 * len(paragraph):
        return False
    return len(words) < 20 or _function_words(words) * 12 >= len(words)


def _plain(paragraph: str) -> str:
    """Take mark-up away and keep its text."""
    text = _ITEM.sub("", paragraph)
    for pattern, replacement in _SUBSTITUTIONS:
        text = pattern.sub(replacement, text)
    return " ".join(text.split())


def _blocks(text: str) -> list[list[str]]:
    """Group lines into paragraphs, leaving out those of code, tables and directives."""
    blocks: list[list[str]] = [[]]
    skip_deeper_than: int | None = None  # bodies of literal blocks and directives are deeper
    skip_to_blank = fenced = False
    base, previous = 0, 0.0  # indentation of the paragraph's first line and of the last line

    for line in text.splitlines():
        stripped = line.strip()
        indent = len(line) - len(line.lstrip())
        if stripped.startswith(("```", "~~~")):
            fenced = not fenced
            blocks.append([])
            continue
        if fenced:
            continue
        if not stripped:
            skip_to_blank = False
            blocks.append([])
            continue
        if stripped.startswith((">>>", "In [", "$ ", "|", "+-")):
            skip_to_blank = True
        if skip_to_blank or (skip_deeper_than is not None and indent > skip_deeper_than):
            continue
        skip_deeper_than = None
        if directive := _DIRECTIVE.match(line):
            blocks.append([])
            argument = line[directive.end() :].strip()
            if directive.group(1) not in _PROSE_DIRECTIVES:
                skip_deeper_than = indent
            elif argument and not re.fullmatch(r"[\d.]+", argument):
                blocks[-1].append(argument)
            base, previous = indent, math.inf  # the body, however deep, goes on with the argument
            continue
        if len(stripped) > 2 and not any(character.isalnum() for character in stripped):
            # An underline makes the single line above it a heading, which is no sentence.
            if len(blocks[-1]) == 1:
                blocks.pop()
            blocks.append([])
            continue
        block = blocks[-1]
        if block and indent > base and indent > previous and _TYPED.match(block[-1]):
            block.pop()  # numpydoc's type line above its description
        if not block or _begins_paragraph(stripped, indent, base, previous, block[0]):
            blocks.append([])
            base = indent
        previous = indent
        blocks[-1].append(stripped)
        if stripped.endswith("::"):
            blocks.append([])
            skip_deeper_than = indent
    return [block for block in blocks if block and not (len(block) == 1 and _TYPED.match(block[0]))]


def _begins_paragraph(line: str, indent: int, base: int, previous: float, first: str) -> bool:
    """Whether a line begins a paragraph though no blank line is before it."""
    if _ITEM.match(line) or _FIELD.match(line) or _ENTRY.match(line) or _TYPED.match(line):
        return True
    if indent > previous:  # the hanging indent of an item or entry, else something new
        return not (_ITEM.match(first) or _FIELD.match(first) or _ENTRY.match(first))
    return indent < previous and indent <= base
