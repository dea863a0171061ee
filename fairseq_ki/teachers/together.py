"""A live teacher's answers for several micro-batches of an update at once.

A student's micro-batch is as large as its activations allow; a teacher keeps none, and a batch of
several micro-batches uses a GPU better.

Shapes: B samples, T length, N rows of one micro-batch.
"""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from fairseq_ki.objective.positions import Positions, carried
from fairseq_ki.objective.signals import HeadSignal

TOGETHER = "ki_together"  # the batch's key: (Together, its place there)


class Together:
    """Some micro-batches, and what the teacher said for those that have not yet asked.

    Args:
        net_inputs: of each, on the CPU.
        positions: of the rows of each, on the CPU.
        pad: the token that fills up the shorter ones.
    """

    def __init__(self, net_inputs: list[dict], positions: list[Positions], pad: int) -> None:
        self.net_inputs = net_inputs
        self.positions = positions
        self.pad = pad
        self._answers: list[HeadSignal | None] = []

    def answer(
        self,
        place: int,
        ask: Callable[[dict, Positions], HeadSignal],
        device: torch.device,
    ) -> HeadSignal | None:
        """For the rows of one of them; None if it was given before.

        Once only: fairseq may keep a batch of the run for its dummy updates, and would keep this
        memory with it.

        Args:
            ask: the teacher, called at the first answer with all of them as one batch.
            device: of the teacher.
        """
        if not self._answers:
            said = ask(self._net_input(device), Positions.joined(self.positions).to(device))
            parts = said.features.split([len(each) for each in self.positions])
            self._answers = [HeadSignal(part, said.weight, said.bias) for part in parts]
        answer, self._answers[place] = self._answers[place], None
        return answer

    def _net_input(self, device: torch.device) -> dict:
        longest = max(each.shape[1] for each in self.positions)
        joined = dict(self.net_inputs[0])
        for key, value in joined.items():
            if isinstance(value, Tensor):
                parts = [each[key] for each in self.net_inputs]
                if value.dim() == 2:
                    parts = [F.pad(x, (0, longest - x.size(1)), value=self.pad) for x in parts]
                joined[key] = carried(torch.cat(parts), device)
        return joined
