"""Criterion ``ki_sentence_prediction``: fairseq's, with the task's own metric in validation.

fairseq's logs accuracy, Matthews, binary F1 and correlations alone, rounded to three digits, so
that the best checkpoint could not be chosen by macro-F1, nor well by the others.
"""

from dataclasses import dataclass, field

from fairseq.criterions import register_criterion
from fairseq.criterions.sentence_prediction import (
    SentencePredictionConfig,
    SentencePredictionCriterion,
)
from fairseq.dataclass import ChoiceEnum
from fairseq.logging import metrics

from fairseq_ki.evaluation.metrics import METRICS, score

SCORE = "score"  # the metric's name in logs, and for --best-checkpoint-metric


@dataclass
class KISentencePredictionConfig(SentencePredictionConfig):
    """fairseq's options, and the metric."""

    ki_metric: ChoiceEnum(sorted(METRICS)) = field(
        default="accuracy",
        metadata={"help": "metric of the validation set, logged as score"},
    )


@register_criterion("ki_sentence_prediction", dataclass=KISentencePredictionConfig)
class KISentencePredictionCriterion(SentencePredictionCriterion):
    """The label dictionary has the classes' numbers as symbols, in their order.

    A binary F1 counts class 1 as the positive one.
    """

    def __init__(self, cfg: KISentencePredictionConfig, task) -> None:
        super().__init__(cfg, task)
        self.metric = str(cfg.ki_metric)
        self.keep_pred_and_targ = True

    def forward(self, model, sample, reduce=True):
        """As fairseq's; in validation the logging output names the metric as well."""
        loss, sample_size, logging_output = super().forward(model, sample, reduce)
        logging_output["metric"] = self.metric
        return loss, sample_size, logging_output

    @staticmethod
    def reduce_metrics(logging_outputs) -> None:
        """Adds ``score``, over all predictions of the validation set."""
        SentencePredictionCriterion.reduce_metrics(logging_outputs)
        if not any(log.get("pred") for log in logging_outputs):
            return
        name = logging_outputs[0]["metric"]

        def whole_set(meters) -> float:
            predicted, gold = (meters[key].tensor.tolist() for key in ("pred", "targ"))
            if isinstance(gold[0], int):
                predicted, gold = list(map(str, predicted)), list(map(str, gold))
            return score(name, gold, predicted)

        metrics.log_derived(SCORE, whole_set)

    @staticmethod
    def logging_outputs_can_be_summed() -> bool:
        """False: predictions are lists, and ranks have to gather them."""
        return False
