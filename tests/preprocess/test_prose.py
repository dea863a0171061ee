from _prose import is_document, prose

DOCSTRING = """Return the sum of the rows that are given to this function.

    The rows are :func:`added <numpy.add>` one after the other, as in [1]_, so that
    *no* row of ``table`` is left out.

    Parameters
    ----------
    rows : list of int, optional
        The numbers which are to be added.
        They may be of any size.
    name (str): the name by which this is
        known to the others

    .. math::

        x = \\sum_i r_i

    .. note:: This is slow when there are
       a great many of the rows.

    - the first item of the list goes on
      over a second line

    ========  =======
    a         b
    ========  =======

    >>> add([1, 2])
    3 is the answer of the example

    It is called like this::

        total = add(rows)  # and the rest of all the rows

    See `the manual <https://example.org>`_ for what is left to say.
"""


def test_prose_keeps_sentences_and_drops_code_tables_and_markup() -> None:
    assert prose(DOCSTRING) == [
        "Return the sum of the rows that are given to this function.",
        "The rows are added one after the other, as in, so that no row of table is left out.",
        "The numbers which are to be added. They may be of any size.",
        "name (str): the name by which this is known to the others",
        "This is slow when there are a great many of the rows.",
        "the first item of the list goes on over a second line",
        "It is called like this:",
        "See the manual for what is left to say.",
    ]


def test_prose_of_markdown() -> None:
    text = "# Title\n\nThis is [the page](http://x.y) of **all** that you need.\n\n"
    text += "```\nthis is the code that is here\n```\n"
    assert prose(text) == ["This is the page of all that you need."]


def test_what_is_not_english_prose_is_left_out() -> None:
    assert prose("x = f(a[0], b[1]) + g(c) == 12; y = 3 -> {4: 5}") == []
    assert prose("Short one.") == []
    assert prose("eins zwei drei vier sechs sieben acht neun zehn elf") == []
    assert prose("") == []


def test_is_document_counts_words_of_all_paragraphs() -> None:
    assert is_document(["this is one of", "the two that are there"])
    assert not is_document(["this is one of"])
