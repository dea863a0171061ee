"""Criterion ``ki``: the paper's Equation 2, L = (1 - rate) * L_SELF + rate * L_KI."""

import logging
import math
from dataclasses import dataclass, field
from typing import Optional  # fairseq reads no `X | None`

from fairseq import utils
from fairseq.criterions import FairseqCriterion, register_criterion
from fairseq.criterions.cross_entropy import CrossEntropyCriterion
from fairseq.dataclass import ChoiceEnum, FairseqDataclass
from fairseq.logging import metrics
from omegaconf import II
from torch import Tensor

from fairseq_ki.criterions._clock import TeacherClock
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
from fairseq_ki.objective.schedules import SCHEDULES, Schedule, default_rate
from fairseq_ki.objective.signals import Signal
from fairseq_ki.objective.surpassed import SurpassedMonitor
from fairseq_ki.teachers.inheritance import Inheritance

logger = logging.getLogger(__name__)


@dataclass
class KICriterionConfig(FairseqDataclass):
    """How much is inherited, and for how long. Who teaches is an option of the task."""

    ki_schedule: ChoiceEnum(SCHEDULES) = field(
        default="linear",
        metadata={"help": "how the inheritance rate falls (the paper: linear)"},
    )
    ki_steps: int = field(
        default=0,
        metadata={
            "help": "updates of teacher-guided learning, T/alpha_T in the paper (its Table 7), "
            "after which the rate is 0; required with a teacher, but for --ki-schedule constant"
        },
    )
    ki_rate: Optional[float] = field(
        default=None,
        metadata={"help": "start (or constant) inheritance rate; default 1.0 (constant: 0.5)"},
    )
    ki_temperature: float = field(
        default=2.0,
        metadata={"help": "temperature of teacher and student in the KL term"},
    )
    ki_label_smoothing: float = field(
        default=0.0,
        metadata={
            "help": "smooth the targets of the self-learning part in training, as the paper's "
            "Table 10 does; logs and validation stay unsmoothed"
        },
    )
    ki_stop_when_surpassed: bool = field(
        default=False,
        metadata={
            "help": "let the teacher go once the student's own loss on the same rows has been "
            "below the teacher's for --ki-surpassed-window updates running"
        },
    )
    ki_surpassed_window: int = field(
        default=100,
        metadata={"help": "consecutive updates of --ki-stop-when-surpassed"},
    )
    sentence_avg: bool = II("optimization.sentence_avg")  # fairseq's own, to refuse it
    # fairseq's own options, read to tell whether its DDP lets the head run outside of forward
    find_unused_parameters: bool = II("distributed_training.find_unused_parameters")
    ddp_backend: str = II("distributed_training.ddp_backend")
    model_parallel_size: int = II("common.model_parallel_size")
    ki_valid_teacher: bool = field(
        default=False,
        metadata={"help": "run the teacher in validation too, to log its PPL and agreement"},
    )


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
        self.valid_teacher = cfg.ki_valid_teacher
        check_smoothing(cfg.ki_label_smoothing)
        self.label_smoothing = cfg.ki_label_smoothing
        self.head_outside = head_may_run_outside(cfg)
        self.clock = TeacherClock()
        self.host = CrossEntropyCriterion(task, sentence_avg=False)

    def forward(self, model, sample: dict, reduce: bool = True):
        """One micro-batch.

        Returns:
            loss: the blended objective, summed over rows (0-dim, differentiable).
            sample_size: number of rows.
            logging_output: the same keys in every update of a run; see :meth:`reduce_metrics`.
        """
        rows = self.task.loss_rows(sample)
        target = sample["target"][rows]
        signal, rate = self._signal(sample, rows)
        if signal is None:
            terms = self._self_learning(model, sample, rows, target)
        else:
            terms = self._blended(model, sample, rows, target, signal, rate)
        return terms.objective, target.numel(), self._log(sample, target, terms, rate, signal)

    def _self_learning(self, model, sample: dict, rows: Tensor, target: Tensor) -> Terms:
        """Without a teacher: fairseq's own way, to the last bit, unless targets are smoothed."""
        smoothing = self.label_smoothing if self.training else 0.0
        if not self.task.causal or smoothing:  # masked_lm: the logits of the masked positions
            logits = row_logits(model, sample["net_input"], rows)
            return dense_terms(logits, target, None, 0.0, 1.0, smoothing)
        ce, _ = self.host.compute_loss(model, model(**sample["net_input"]), sample)
        zero = ce.new_zeros(())
        return Terms(ce, ce.detach(), zero, zero, zero)

    def _blended(
        self, model, sample: dict, rows: Tensor, target: Tensor, signal: Signal, rate: float
    ) -> Terms:
        temperature = self.inheritance.temperature
        smoothing = self.label_smoothing if self.training else 0.0
        student = unwrapped(model)
        if self._fuses(student, target.numel()):
            head = head_input(student, features(model, sample["net_input"]), rows)
            return fused_terms(*head, target, signal, rate, temperature, label_smoothing=smoothing)
        logits = row_logits(model, sample["net_input"], rows)
        return dense_terms(logits, target, signal, rate, temperature, smoothing)

    def _fuses(self, student, rows: int) -> bool:
        return (
            self.head_outside
            and supports_head_input(student)
            and not has_quant_noise(student)
            and prefer_fused(rows)
        )

    def _signal(self, sample: dict, rows: Tensor):
        """The teacher's word on these rows and its weight; (None, 0) where it is silent."""
        inheritance = self.inheritance
        if inheritance is None or inheritance.source is None:
            return None, 0.0
        if not self.training:
            if not self.valid_teacher:
                return None, 0.0
            return inheritance.source.signal(sample, rows, inheritance.temperature), 0.0
        with self.clock.teacher(rows.device):
            signal = inheritance.source.signal(sample, rows, inheritance.temperature)
        return signal, inheritance.rate

    def _log(self, sample: dict, target: Tensor, terms: Terms, rate: float, signal) -> dict:
        rows = target.numel()
        log = {
            "loss": terms.ce,
            "ntokens": sample["ntokens"],
            "nsentences": self.task.number_of_sentences(sample),
            "sample_size": rows,
        }
        if self.inheritance is None:
            return log
        taught = 0 if signal is None else rows
        log |= {
            "ki_objective": terms.objective.detach(),
            "ki_rate": rate * rows,
            "ki_rows": taught,
            "ki_loss": terms.kl,
            "ki_teacher_nll": terms.teacher_nll,
            "ki_agreement": terms.agreement,
            "ki_student_nll": terms.ce if taught else 0.0,
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
        first) on the same rows; ``ki_teacher_share`` the teacher's share of the wall time.
        """

        def total(key: str):
            return sum(log.get(key, 0) for log in logging_outputs)

        def bits(key: str, rows):
            # fairseq's order of divisions, so that the last digit is the same
            return total(key) / rows / math.log(2) if rows > 0 else 0.0

        rows = total("sample_size")
        metrics.log_scalar("loss", bits("loss", rows), rows, round=3)
        metrics.log_derived("ppl", lambda meters: utils.get_perplexity(meters["loss"].avg))
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
        if "ki_seconds" in logging_outputs[0]:
            seconds = total("ki_seconds")
            share = total("ki_teacher_seconds") / seconds if seconds > 0 else 0.0
            metrics.log_scalar("ki_teacher_share", share, seconds, round=3)

    @staticmethod
    def logging_outputs_can_be_summed() -> bool:
        """Every value is a sum over rows, so ranks may add theirs up first."""
        return True


def head_may_run_outside(cfg: KICriterionConfig) -> bool:
    """False where a wrapper needs every parameter used inside the model's own forward."""
    reasons = {
        "--find-unused-parameters": cfg.find_unused_parameters,
        f"--ddp-backend {cfg.ddp_backend!s}": str(cfg.ddp_backend)
        not in ("c10d", "pytorch_ddp", "no_c10d", "legacy_ddp"),
        f"--model-parallel-size {cfg.model_parallel_size}": cfg.model_parallel_size > 1,
    }
    found = [option for option, set_ in reasons.items() if set_]
    if found:
        logger.warning(
            f"{', '.join(found)}: the output layer has to run inside the model, so the loss is "
            "computed on full logits, which takes more memory"
        )
    return not found


def teacher_ppl(meters) -> float:
    """2^(bits per row) of the teacher, 0 over a span in which it was silent."""
    meter = meters["_ki_teacher_nll"]
    return utils.get_perplexity(meter.avg) if meter.count > 0 else 0.0


def build_inheritance(cfg: KICriterionConfig) -> Inheritance:
    """The teacher's side of a run from its options, checked.

    Raises:
        ValueError: naming the option, what was expected and what was found.
    """
    if not 0 < cfg.ki_temperature < math.inf:
        raise ValueError(
            f"--ki-temperature: expected a finite number above 0, found {cfg.ki_temperature}"
        )
    name = str(cfg.ki_schedule)
    steps = cfg.ki_steps
    if name == "constant" and steps:
        logger.warning(f"--ki-steps {steps} has no effect: --ki-schedule constant never ends")
        steps = 0
    rate = default_rate(name) if cfg.ki_rate is None else cfg.ki_rate
    try:
        schedule = Schedule(name, rate, steps)
    except ValueError as e:
        raise ValueError(f"--ki-schedule, --ki-rate, --ki-steps: {e}") from None
    if cfg.ki_stop_when_surpassed and cfg.ki_surpassed_window < 1:
        raise ValueError(
            f"--ki-surpassed-window: expected at least 1 update, found {cfg.ki_surpassed_window}"
        )
    monitor = SurpassedMonitor(cfg.ki_surpassed_window) if cfg.ki_stop_when_surpassed else None
    return Inheritance(schedule, cfg.ki_temperature, monitor)
