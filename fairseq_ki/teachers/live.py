"""A frozen model that is run beside the student."""

import torch

from fairseq_ki.models.ki_teacher import KITeacher
from fairseq_ki.objective.positions import Positions
from fairseq_ki.objective.signals import HeadSignal
from fairseq_ki.teachers.together import TOGETHER


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
    def signal(self, sample: dict, rows: Positions, temperature: float) -> HeadSignal:
        if TOGETHER in sample:
            together, place = sample[TOGETHER]
            answer = together.answer(place, self._ask, rows.sample.device)
            if answer is not None:
                return answer
        return self._ask(sample["net_input"], rows)

    def _ask(self, net_input: dict, rows: Positions) -> HeadSignal:
        return HeadSignal(*self.model.head_input(net_input, rows, rows_alone=True))

    def check_temperature(self, temperature: float) -> None:
        """A live teacher has its logits, and so serves any."""

    def to(self, device: torch.device, dtype: torch.dtype) -> None:
        self.model.to(device=device, dtype=self.dtype or dtype)

    def describe(self) -> str:
        return f"live teacher {self.model.path} ({self.model.num_parameters():,} parameters)"
