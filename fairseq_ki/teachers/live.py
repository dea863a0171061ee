"""A frozen model that is run beside the student."""

import torch
from torch import Tensor

from fairseq_ki.models.ki_teacher import KITeacher
from fairseq_ki.objective.signals import HeadSignal


class LiveTeacher:
    """A :class:`SignalSource` that runs a frozen teacher on the student's own batches.

    Not an ``nn.Module``: were it one, assigning it to a criterion or model would register the
    teacher there, and fairseq would train it, wrap it in DDP and save it.
    """

    def __init__(self, model: KITeacher, dtype: torch.dtype | None = None) -> None:
        """``dtype``: what it computes in; None: as the student does."""
        self.model = model
        self.dtype = dtype

    @torch.no_grad()
    def signal(self, sample: dict, rows: Tensor, temperature: float) -> HeadSignal:
        features, weight, bias = self.model.head_input(sample["net_input"], rows, rows_alone=True)
        return HeadSignal(features, weight, bias)

    def check_temperature(self, temperature: float) -> None:
        """A live teacher has its logits, and so serves any."""

    def to(self, device: torch.device, dtype: torch.dtype) -> None:
        self.model.to(device=device, dtype=self.dtype or dtype)

    def describe(self) -> str:
        return f"live teacher {self.model.path} ({self.model.num_parameters():,} parameters)"
