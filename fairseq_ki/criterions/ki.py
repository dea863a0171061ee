"""Criterion ``ki``: the paper's Equation 2, L = (1 - rate) * L_SELF + rate * L_KI."""

import math
from collections.abc import Callable

from fairseq import utils
from fairseq.criterions import FairseqCriterion, register_criterion
from fairseq.criterions.cross_entropy import CrossEntropyCriterion
from fairseq.logging import metrics
from torch import Tensor

from fairseq_ki.criterions._bad_rows import BadRowsWatch
from fairseq_ki.criterions._clock import TeacherClock
from fairseq_ki.criterions._domains import (
    DomainTerms,
    add_up,
    log_domains,
    reduce_domains,
    taught_part,
    terms_by_domain,
)
from fairseq_ki.criterions._options import (
    KICriterionConfig,
    build_inheritance,
    head_may_run_outside,
)
from fairseq_ki.models._heads import (
    features,
    has_quant_noise,
    head_input,
    row_logits,
    supports_head_input,
    unwrapped,
)
from fairseq_ki.objective.dense import Terms, dense_terms
from fairseq_ki.objective.divergence import check_smoothing
from fairseq_ki.objective.fused import fused_terms, prefer_fused
from fairseq_ki.objective.positions import Positions
from fairseq_ki.teachers.router import DOMAIN, rows_by_domain
from fairseq_ki.teachers.side_stream import SideStream


@register_criterion("ki", dataclass=KICriterionConfig)
class KICriterion(FairseqCriterion):
    """Blends self-learning with inheritance at the rate of the current update.

    Works with tasks that own a teacher (``ki_mlm``, ``ki_lm``); without one it is fairseq's own
    ``masked_lm`` or ``cross_entropy``. All sums are over rows and in nats; logs are in bits.
    """

    def __init__(self, cfg: KICriterionConfig, task) -> None:
        super().__init__(task)
        if not hasattr(task, "loss_rows"):
            raise ValueError(
                f"--criterion ki: expected --task ki_mlm or ki_lm, found {type(task).__name__}"
            )
        if cfg.sentence_avg:
            raise ValueError(
                "--criterion ki: expected a loss that is averaged over tokens, found "
                "--sentence-avg; drop it"
            )
        self.inheritance = build_inheritance(cfg) if task.names_teacher else None
        self.domains = task.domains
        self.valid_teacher = cfg.ki_valid_teacher
        check_smoothing(cfg.ki_label_smoothing)
        self.label_smoothing = cfg.ki_label_smoothing
        self.head_outside = head_may_run_outside(cfg)
        self.clock = TeacherClock()
        self.side_stream = SideStream(cfg.ki_teacher_stream)
        self.skip_bad_rows = cfg.ki_skip_bad_rows
        self.bad_rows = BadRowsWatch(cfg.ki_skip_bad_rows)
        self.host = CrossEntropyCriterion(task, sentence_avg=False)

    def forward(self, model, sample: dict, reduce: bool = True):
        """One micro-batch.

        Returns:
            loss: the blended objective, summed over rows (0-dim, differentiable).
            sample_size: number of rows.
            logging_output: the same keys in every update of a run; see :meth:`reduce_metrics`.
        """
        rows = self.task.loss_rows(sample)
        target = rows.of(sample["target"])
        signal, rate = self._signal(sample, rows)
        domains = None
        if self.domains:
            domains = self._by_domain(model, sample, rows, target, signal, rate)
            terms = add_up(domains)
        elif signal is None:
            terms = self._self_learning(model, sample, rows, target)
        else:
            inputs, terms_of = self._student(model, sample, rows)
            self.side_stream.join(signal)
            terms = terms_of(inputs, target, signal, rate)
        if terms.bad_rows is None:
            self.bad_rows.finish()
        else:
            teacher = self._speaker(sample, rows, terms.bad_rows)
            ids = sample["id"].to(target.device)[rows.sample]
            self.bad_rows.look(terms.bad_rows, ids, self.inheritance.update, teacher)
        log = self._log(sample, target, terms, rate, signal, domains)
        return terms.objective, target.numel(), log

    def _speaker(self, sample: dict, rows: Positions, some: Tensor) -> Callable[[], str]:
        """Says who speaks about ``some`` (N,) bool of the rows."""
        source = self.inheritance.source
        if not self.domains:
            return source.describe
        return lambda: source.describe(sample[DOMAIN][rows.sample[some]].tolist())

    def _self_learning(self, model, sample: dict, rows: Positions, target: Tensor) -> Terms:
        """Without a teacher: fairseq's own way, to the last bit, unless targets are smoothed."""
        smoothing = self.label_smoothing if self.training else 0.0
        if not self.task.causal or smoothing:  # masked_lm: the logits of the masked positions
            logits = row_logits(model, sample["net_input"], rows)
            return dense_terms(logits, target, None, 0.0, 1.0, smoothing)
        ce, _ = self.host.compute_loss(model, model(**sample["net_input"]), sample)
        zero = ce.new_zeros(())
        return Terms(ce, ce.detach(), zero, zero, zero)

    def _student(self, model, sample: dict, rows: Positions) -> tuple[Tensor, Callable[..., Terms]]:
        """Run the student once.

        Returns:
            inputs of the objective, (N, ...), and the function of (some of them, their targets,
            signal, rate) that gives their terms.
        """
        temperature = 1.0 if self.inheritance is None else self.inheritance.temperature
        options = {
            "label_smoothing": self.label_smoothing if self.training else 0.0,
            "skip_bad_rows": self.skip_bad_rows,
        }
        student = unwrapped(model)
        if self._fuses(student, len(rows)):
            inputs, *head = head_input(student, features(model, sample["net_input"]), rows)
            return inputs, lambda x, *told: fused_terms(x, *head, *told, temperature, **options)
        logits = row_logits(model, sample["net_input"], rows)
        return logits, lambda x, *told: dense_terms(x, *told, temperature, **options)

    def _by_domain(
        self, model, sample: dict, rows: Positions, target: Tensor, signals, rate: float
    ) -> list[DomainTerms]:
        """Each domain's rows against what its own teachers say; the rate is 0 where none do."""
        places = rows_by_domain(sample[DOMAIN], rows, len(self.domains))
        inputs, terms_of = self._student(model, sample, rows)
        self.side_stream.join(signals)
        return terms_by_domain(inputs, target, places, signals, rate, terms_of)

    def _fuses(self, student, rows: int) -> bool:
        return (
            self.head_outside
            and supports_head_input(student)
            and not has_quant_noise(student)
            and prefer_fused(rows)
        )

    def _signal(self, sample: dict, rows: Positions):
        """The teacher's word on these rows and its weight; (None, 0) where it is silent."""
        inheritance = self.inheritance
        if inheritance is None or inheritance.source is None:
            return None, 0.0
        if self.training and inheritance.unasked:
            return None, 0.0
        if not self.training:
            if not self.valid_teacher:
                return None, 0.0
            return inheritance.source.signal(sample, rows, inheritance.temperature), 0.0
        device = rows.sample.device
        with self.side_stream.aside(device), self.clock.teacher(device):
            signal = inheritance.source.signal(sample, rows, inheritance.temperature)
        return signal, inheritance.rate

    def _log(
        self,
        sample: dict,
        target: Tensor,
        terms: Terms,
        rate: float,
        signal,
        domains: list[DomainTerms] | None,
    ) -> dict:
        rows = target.numel()
        log = {
            "loss": terms.ce,
            "ntokens": sample["ntokens"],
            "nsentences": self.task.number_of_sentences(sample),
            "sample_size": rows,
        }
        zero = terms.ce.new_zeros(())  # where ranks differ, fairseq may not find other types
        if domains is not None:
            log |= log_domains(self.domains, domains, zero, self.skip_bad_rows)
        if self.inheritance is None:
            return log
        if domains is not None:
            taught, student_nll = taught_part(domains, zero)
        else:
            taught, student_nll = (0, zero) if signal is None else (rows, terms.ce)
        if self.skip_bad_rows:
            bad = zero if terms.bad_rows is None else terms.bad_rows.sum()
            log["ki_bad_rows"] = bad
            taught = taught - bad
        log |= {
            "ki_objective": terms.objective.detach(),
            "ki_rate": rate * rows,
            "ki_rows": taught,
            "ki_loss": terms.kl,
            "ki_teacher_nll": terms.teacher_nll,
            "ki_agreement": terms.agreement,
            # with skipped rows too, which the teacher's has not: it is never let go too early
            "ki_student_nll": student_nll,
        }
        if self.training:
            log["ki_teacher_seconds"], log["ki_seconds"] = self.clock.read()
        return log

    @staticmethod
    def reduce_metrics(logging_outputs: list[dict]) -> None:
        """Log means per row, in bits: ``loss`` is the self-learning cross-entropy always.

        ``ki_objective`` is what is differentiated; ``ki_loss`` the KL(teacher || student) at the
        run's temperature without its square and the rate; ``ki_rate`` the inheritance rate;
        ``ki_teacher_ppl`` and ``ki_agreement`` (share of rows where both put the same token
        first) on the same rows; ``ki_teacher_share`` the teacher's share of the wall time. With
        ``--ki-skip-bad-rows`` ``ki_bad_rows`` is the number of rows that were skipped.
        """

        def total(key: str):
            return sum(log.get(key, 0) for log in logging_outputs)

        def bits(key: str, rows):
            # fairseq's order of divisions, so that the last digit is the same
            return total(key) / rows / math.log(2) if rows > 0 else 0.0

        rows = total("sample_size")
        metrics.log_scalar("loss", bits("loss", rows), rows, round=3)
        metrics.log_derived("ppl", lambda meters: utils.get_perplexity(meters["loss"].avg))
        reduce_domains(logging_outputs)
        if "ki_rows" not in logging_outputs[0]:
            return
        metrics.log_scalar("ki_objective", bits("ki_objective", rows), rows, round=3)
        if "ki_seconds" in logging_outputs[0]:
            metrics.log_scalar(
                "ki_rate", total("ki_rate") / rows if rows > 0 else 0.0, rows, round=6
            )
        # zero with weight 0 where the teacher was silent: the key stays, averages do not move
        taught = total("ki_rows")
        metrics.log_scalar("ki_loss", bits("ki_loss", taught), taught, round=3)
        metrics.log_scalar("_ki_teacher_nll", bits("ki_teacher_nll", taught), taught)
        metrics.log_derived("ki_teacher_ppl", teacher_ppl)
        agreement = total("ki_agreement") / taught if taught > 0 else 0.0
        metrics.log_scalar("ki_agreement", agreement, taught, round=3)
        if "ki_bad_rows" in logging_outputs[0]:
            metrics.log_scalar_sum("ki_bad_rows", total("ki_bad_rows"))
        if "ki_seconds" in logging_outputs[0]:
            seconds = total("ki_seconds")
            share = total("ki_teacher_seconds") / seconds if seconds > 0 else 0.0
            metrics.log_scalar("ki_teacher_share", share, seconds, round=3)

    @staticmethod
    def logging_outputs_can_be_summed() -> bool:
        """Every value is a sum over rows, so ranks may add theirs up first."""
        return True


def teacher_ppl(meters) -> float:
    """2^(bits per row) of the teacher, 0 over a span in which it was silent."""
    meter = meters["_ki_teacher_nll"]
    return utils.get_perplexity(meter.avg) if meter.count > 0 else 0.0
