"""Notices a teacher that says no numbers, without making the device wait."""

import logging
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

logger = logging.getLogger(__name__)

SHOWN = 10  # sample ids in a message


class BadTeacherError(ValueError):
    """A teacher's logits hold a NaN or an infinite value."""


class _Look(NamedTuple):
    found: Tensor  # () bool on the CPU, filled by the time of the event
    event: torch.cuda.Event
    bad: Tensor
    ids: Tensor
    update: int
    teacher: Callable[[], str]


class BadRowsWatch:
    """Reports the first rows about which a teacher says no numbers.

    On CUDA the answer is copied in the background and read at a later look: asking at once would
    stall the device in every update. Nothing is lost by that: the gradient of such an update is
    no number either, and fairseq leaves it out.

    Args:
        skip: the objective leaves such rows out, so warn, once; otherwise stop.
    """

    def __init__(self, skip: bool) -> None:
        self.skip = skip
        self._warned = False
        self._pending: list[_Look] = []

    def look(self, bad: Tensor, ids: Tensor, update: int, teacher: Callable[[], str]) -> None:
        """Take one micro-batch.

        Args:
            bad: (N,) bool, of the objective.
            ids: (N,) of the rows' samples.
            update: how many were made before this one.
            teacher: says who teaches; asked only if there is something to report.

        Raises:
            BadTeacherError: about this micro-batch, or on CUDA about an earlier one.
        """
        if self._warned:
            return
        if not bad.is_cuda:
            if bad.any():
                self._report(bad, ids, update, teacher)
            return
        while self._pending and self._pending[0].event.query():
            look = self._pending.pop(0)
            if look.found:
                self._report(*look[2:])
        found = torch.empty((), dtype=torch.bool, pin_memory=True)
        found.copy_(bad.any(), non_blocking=True)
        event = torch.cuda.Event()
        event.record()
        self._pending.append(_Look(found, event, bad, ids, update, teacher))

    def finish(self) -> None:
        """Read what is still in the air, so that nothing is kept of a teacher that is let go.

        Raises:
            BadTeacherError: as :meth:`look`.
        """
        while self._pending:
            look = self._pending.pop(0)
            look.event.synchronize()
            if look.found:
                self._report(*look[2:])

    def _report(self, bad: Tensor, ids: Tensor, update: int, teacher: Callable[[], str]) -> None:
        samples = list(dict.fromkeys(ids[bad].tolist()))
        more = ", ..." if len(samples) > SHOWN else ""
        what = (
            f"{teacher()}: expected numbers, found NaN or infinite logits for {int(bad.sum())} of "
            f"{bad.numel()} rows at update {update}, in the samples with the ids "
            f"{', '.join(map(str, samples[:SHOWN]))}{more}."
        )
        if self.skip:
            self._warned = True
            self._pending.clear()
            logger.warning(f"{what} Such rows are skipped; ki_bad_rows counts them from now on")
            return
        raise BadTeacherError(
            f"{what} See whether fairseq-validate gives the teacher a finite loss; if it computes "
            "in fp16, try --ki-teacher-dtype fp32 or bf16; to learn such rows without the "
            "teacher, add --ki-skip-bad-rows"
        )
