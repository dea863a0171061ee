"""Students, teachers of every kind, and the objective from the functions of `divergence`."""

import torch
import torch.nn.functional as F

from fairseq_ki.objective.dense import Terms
from fairseq_ki.objective.divergence import (
    dense_kl,
    inheritance_objective,
    renormalised_topk,
    smoothed_cross_entropy,
    sparse_kl,
    tail_kl,
    target_log_prob,
    top1_agreement,
)
from fairseq_ki.objective.fused import fused_terms
from fairseq_ki.objective.signals import DenseSignal, HeadSignal, SparseSignal

SIGNALS = ("head", "dense", "topk", "sampled", "tail")
SUMS = Terms._fields[:5]
EXACT = {"rtol": 1e-10, "atol": 1e-12}


def student(rows=13, vocab=37, dim=7, bias=True, dtype=torch.float64):
    make = lambda *shape: torch.randn(*shape, dtype=torch.float64).to(dtype).requires_grad_()  # noqa: E731
    return [make(rows, dim), make(vocab, dim), make(vocab) if bias else None]


def teacher(kind, target, vocab, tau, dtype=torch.float64):
    rows = len(target)
    head = HeadSignal(*(torch.randn(s, dtype=dtype) for s in ((rows, 5), (vocab, 5), (vocab,))))
    if kind == "head":
        return head
    logits = head.dense().logits
    if kind == "dense":
        return DenseSignal(logits)
    said, top1 = target_log_prob(logits, target), logits.argmax(-1)
    k = min(4, vocab)
    log_probs, ids = torch.log_softmax(logits, -1).topk(k)
    if kind == "topk":
        probs = renormalised_topk(log_probs, tau)
        probs[::3, -1] = 0.0  # padding carries any id
        ids[::3, -1] = ids[::3, 0]
        return SparseSignal(ids, probs, said, top1)
    if kind == "sampled":
        ids = torch.softmax(logits / tau, -1).multinomial(6, replacement=True)  # ids repeat
        return SparseSignal(ids, torch.full(ids.shape, 1 / 6, dtype=dtype), said, top1)
    probs = torch.softmax(logits / tau, -1).gather(1, ids)
    tail = 1 - probs.sum(-1)
    tail[::4] = 0.0
    return SparseSignal(ids, probs, said, top1, tail)


def reference(logits, target, signal, rate, tau, smoothing=0.0) -> Terms:
    """The same from full logits and the functions of `divergence`, float64 all through."""
    ce = -target_log_prob(logits, target).sum()
    own = smoothed_cross_entropy(logits, target, smoothing)
    if signal is None:
        return Terms(own, ce, *[torch.zeros_like(ce)] * 3)
    if isinstance(signal, SparseSignal):
        said, top1 = signal.target_log_prob, signal.top1
        if signal.tail is None:
            kl = sparse_kl(logits, signal.ids, signal.probs, tau)
        else:
            kl = tail_kl(logits, signal.ids, signal.probs, signal.tail, tau)
    else:
        teachers = signal.dense().logits if isinstance(signal, HeadSignal) else signal.logits
        said, top1 = target_log_prob(teachers, target), teachers.argmax(-1)
        kl = dense_kl(logits, teachers, tau)
    objective = inheritance_objective(own, kl, rate, tau)
    return Terms(objective, ce, kl, -said.sum(), top1_agreement(logits, top1))


def gradients(objective, inputs, **kwargs):
    return torch.autograd.grad(objective, [x for x in inputs if x is not None], **kwargs)


def check(inputs, target, signal, rate, tau, tolerance=EXACT, **kwargs):
    expected = reference(F.linear(*inputs), target, signal, rate, tau)
    found = fused_terms(*inputs, target, signal, rate, tau, **kwargs)
    for name, a, b in zip(SUMS, found, expected):
        torch.testing.assert_close(a, b.to(a.dtype), msg=lambda m, n=name: f"{n}: {m}", **tolerance)
    for a, b in zip(gradients(found.objective, inputs), gradients(expected.objective, inputs)):
        torch.testing.assert_close(a, b, **tolerance)
