"""What is logged for each domain of a mixture, and the whole as the sum of its domains."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from fairseq import utils
from fairseq.logging import metrics
from torch import Tensor

from fairseq_ki.objective.dense import Terms
from fairseq_ki.objective.signals import Signal

_KEY = "domain:{}:{}"  # in logging outputs: the domain's name, what it is a sum of


def taught_rows(domain: str) -> str:
    """The logging output that counts the rows of a domain on which its teachers spoke."""
    return _KEY.format(domain, "taught")


class DomainTerms(NamedTuple):
    """One domain's part of a micro-batch.

    Args:
        at: (n,) places of its rows among the batch's N.
        terms: None where n is 0.
        taught: whether teachers spoke.
    """

    at: Tensor
    terms: Terms | None
    taught: bool

    @property
    def spoken(self) -> Terms | None:
        """The terms if teachers spoke."""
        return self.terms if self.taught else None

    @property
    def bad_rows(self) -> Tensor:
        """Number of rows about which the teachers said no numbers."""
        rows = self.at[:0] if self.spoken is None else self.spoken.bad_rows
        return rows.sum()


def terms_by_domain(
    inputs: Tensor,
    target: Tensor,
    places: Sequence[Tensor],
    signals: Sequence[Signal | None] | None,
    rate: float,
    terms_of: Callable[..., Terms],
) -> list[DomainTerms]:
    """Each domain's rows against what its own teachers say; the rate is 0 where none do.

    Args:
        inputs: (N, ...) of the objective; target: (N,).
        places: of each domain's rows among the N.
        signals: by domain; or None where no teacher is asked.
        rate: inheritance rate of the domains whose teachers speak.
        terms_of: of (some inputs, their targets, signal, rate).
    """
    domains = []
    for at, signal in zip(places, signals or [None] * len(places), strict=True):
        terms = None
        if len(at):
            terms = terms_of(inputs[at], target[at], signal, 0.0 if signal is None else rate)
        domains.append(DomainTerms(at, terms, signal is not None))
    if not len(target):  # a rank without a row still has to give every gradient
        domains[0] = domains[0]._replace(terms=terms_of(inputs, target, None, 0.0))
    return domains


def add_up(domains: Sequence[DomainTerms]) -> Terms:
    """The terms of all N rows; at least one domain has terms."""
    present = [domain for domain in domains if domain.terms is not None]
    sums = [sum(values) for values in zip(*(domain.terms[:5] for domain in present), strict=True)]
    bad = None
    if any(domain.taught for domain in present):
        bad = present[0].at.new_zeros(sum(len(domain.at) for domain in domains)).bool()
        for domain in present:
            if domain.spoken is not None:
                bad[domain.at] = domain.spoken.bad_rows
    return Terms(*sums, bad_rows=bad)


def taught_part(domains: Sequence[DomainTerms], zero: Tensor) -> tuple[int, Tensor]:
    """Rows of the domains whose teachers spoke, and the student's cross-entropy there."""
    taught = [domain for domain in domains if domain.spoken is not None]
    return sum(len(domain.at) for domain in taught), sum((d.terms.ce for d in taught), zero)


def log_domains(
    names: Mapping[str, bool], domains: Sequence[DomainTerms], zero: Tensor, skip_bad: bool
) -> dict:
    """Sums over rows, with the same keys whatever is in the batch.

    And with the same types: to add up ranks fairseq packs numbers and tensors apart.

    Args:
        names: of the domains, and whether they have teachers, in the order of ``domains``.
        zero: 0-dim, on the batch's device.
        skip_bad: rows about which the teachers said no numbers do not count as taught.
    """
    log: dict = {}
    for (name, has_teachers), domain in zip(names.items(), domains, strict=True):
        sums = {"rows": len(domain.at), "loss": domain.terms.ce if domain.terms else zero}
        if has_teachers:
            spoken, taught = domain.spoken, len(domain.at) if domain.taught else 0
            sums |= {
                "taught": taught - domain.bad_rows if skip_bad else taught,
                "teacher_nll": spoken.teacher_nll if spoken else zero,
                "agreement": spoken.agreement if spoken else zero,
            }
        log |= {_KEY.format(name, key): value for key, value in sums.items()}
    return log


def reduce_domains(logging_outputs: Sequence[dict]) -> None:
    """Log NAME_loss, NAME_ppl, and with teachers NAME_teacher_ppl and NAME_agreement.

    Zero with weight 0 where the domain had no row, or its teachers were silent.
    """
    for key in logging_outputs[0]:
        if not (key.startswith("domain:") and key.endswith(":rows")):
            continue
        name = key.split(":")[1]

        def total(what: str, name: str = name):
            return sum(log.get(_KEY.format(name, what), 0) for log in logging_outputs)

        rows = total("rows")
        loss = total("loss") / rows / math.log(2) if rows > 0 else 0.0
        metrics.log_scalar(f"{name}_loss", loss, rows, round=3)
        metrics.log_derived(f"{name}_ppl", perplexity_of(f"{name}_loss"))
        if taught_rows(name) not in logging_outputs[0]:
            continue
        taught = total("taught")
        nll = total("teacher_nll") / taught / math.log(2) if taught > 0 else 0.0
        metrics.log_scalar(f"_{name}_teacher_nll", nll, taught)
        metrics.log_derived(f"{name}_teacher_ppl", perplexity_of(f"_{name}_teacher_nll"))
        agreement = total("agreement") / taught if taught > 0 else 0.0
        metrics.log_scalar(f"{name}_agreement", agreement, taught, round=3)


def perplexity_of(key: str) -> Callable[[Mapping], float]:
    """2^(bits per row) of a meter, 0 over a span without rows."""
    return lambda meters: utils.get_perplexity(meters[key].avg) if meters[key].count > 0 else 0.0
