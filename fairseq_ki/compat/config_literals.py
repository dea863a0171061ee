"""Strings in a checkpoint's configuration are never evaluated as Python.

fairseq calls ``eval`` on some of them while it builds a model, such as
``adaptive_softmax_cutoff`` or ``conv_feature_layers``. So a checkpoint of nothing but plain
strings could run code although it was unpickled safely. What honest configurations hold are
literals, sums of lists and repeated lists, as in ``[(512, 3, 2)] * 4 + [(512, 2, 2)]``.
"""

import ast
import importlib
import operator
from collections.abc import Callable, Sized
from typing import Any

from fairseq_ki.compat.patching import CompatError

# every file of the host that calls eval on a part of a configuration (a test compares)
MODULES = (
    "fairseq.utils",
    "fairseq.criterions.ctc",
    "fairseq.data.audio.raw_audio_dataset",
    "fairseq.data.codedataset",
    "fairseq.models.fconv",
    "fairseq.models.fconv_lm",
    "fairseq.models.fconv_self_att",
    "fairseq.models.hubert.hubert",
    "fairseq.models.lightconv_lm",
    "fairseq.models.multires_hubert.multires_hubert",
    "fairseq.models.speech_to_text.s2t_wav_transformer",
    "fairseq.models.transformer_lm",
    "fairseq.models.wav2vec.wav2vec",
    "fairseq.models.wav2vec.wav2vec2",
    "fairseq.optim.adafactor",
    "fairseq.optim.adam",
    "fairseq.optim.adamax",
    "fairseq.optim.cpu_adam",
    "fairseq.optim.fused_lamb",
)

# honest values are far below; a few bytes could ask for any memory, or for a number that Python
# makes and then refuses to print
_LONGEST = 100_000
_MOST_BITS = 1024

_OPERATORS = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
}


def evaluate_literal(expression: str) -> Any:
    """The value of a literal, or of ``+ - * /`` over literals.

    Raises :class:`CompatError` for anything else, a name or a call above all.
    """
    try:
        return _value(ast.parse(expression.strip(), mode="eval").body)
    except (
        SyntaxError, TypeError, ValueError, AttributeError, ArithmeticError, RecursionError,
        MemoryError,  # what the parser says of deep nesting
    ) as error:  # fmt: skip
        shown = repr(expression[:200]) if isinstance(expression, str) else type(expression).__name__
        raise CompatError(
            f"the configuration value {shown} is not a literal ({str(error) or 'too deep'}). "
            "Expected numbers, strings, lists, tuples, dictionaries, and + - * / between them. "
            "If it comes from a checkpoint, do not trust that file."
        ) from None


def _value(node: ast.expr) -> Any:
    if isinstance(node, ast.BinOp) and type(node.op) in _OPERATORS:
        return _calculated(_OPERATORS[type(node.op)], _value(node.left), _value(node.right))
    if isinstance(node, ast.Tuple):
        return tuple(_value(item) for item in node.elts)
    if isinstance(node, ast.List):
        return [_value(item) for item in node.elts]
    for part in ast.walk(node):
        if isinstance(part, ast.Constant):
            _check_number(part.value)
    return ast.literal_eval(node)


def _calculated(operation: Callable[[Any, Any], Any], left: Any, right: Any) -> Any:
    for sequence, times in ((left, right), (right, left)):
        repeats = isinstance(sequence, Sized) and isinstance(times, int)
        if operation is operator.mul and repeats and len(sequence) * times > _LONGEST:
            raise ValueError(f"expected at most {_LONGEST} entries")
    value = operation(left, right)
    _check_number(value)
    return value


def _check_number(value: Any) -> None:
    if isinstance(value, int) and value.bit_length() > _MOST_BITS:
        raise ValueError(f"expected a number of at most {_MOST_BITS} bits")


def evaluate_only_literals() -> bool:
    """Gives the modules of the host an ``eval`` of their own."""
    changed = False
    for name in MODULES:
        try:
            module = importlib.import_module(name)
        except ImportError:
            continue  # needs an optional package, without which no model of it can be built
        if module.__dict__.get("eval") is not evaluate_literal:
            module.__dict__["eval"] = evaluate_literal
            changed = True
    return changed
