"""The options of criterion ``ki``, and what they mean, checked."""

import logging
from dataclasses import dataclass, field
from typing import Optional  # fairseq reads no `X | None`

from fairseq.dataclass import ChoiceEnum, FairseqDataclass
from omegaconf import II

from fairseq_ki.objective.schedules import SCHEDULES, Schedule, default_rate
from fairseq_ki.objective.surpassed import SurpassedMonitor
from fairseq_ki.teachers.inheritance import Inheritance

logger = logging.getLogger(__name__)

# tested to the ends; far below, the quotients of logits leave float32
TEMPERATURES = (0.001, 10_000.0)


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
    ki_teacher_stream: bool = field(
        default=False,
        metadata={
            "help": "on CUDA, run a live teacher on a stream of its own, beside the student's "
            "forward pass; pays where neither fills the GPU"
        },
    )
    ki_skip_bad_rows: bool = field(
        default=False,
        metadata={
            "help": "where a live teacher's logits hold NaN or infinity, learn the row without it "
            "and count it in ki_bad_rows; default: stop, naming teacher and samples"
        },
    )


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


def build_inheritance(cfg: KICriterionConfig) -> Inheritance:
    """The teacher's side of a run from its options, checked.

    Raises:
        ValueError: naming the option, what was expected and what was found.
    """
    lowest, highest = TEMPERATURES
    if not lowest <= cfg.ki_temperature <= highest:
        raise ValueError(
            f"--ki-temperature: expected a number from {lowest} to {highest}, found "
            f"{cfg.ki_temperature}"
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
