"""What an encoding costs and loses, measured on rows of the data it would be bought for.

Gradients are compared in two ways. Row by row, in the logits. And over many rows, in the output
layer's weight, which is what an update sees: noise that differs from row to row averages out
there, a bias does not. The student's side is a checkpoint's, or, without one, a student at its
start: even over the vocabulary, with the teacher's hidden states as its own.

Shapes: N rows of a group of samples, V vocabulary, D width, F directions.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from fairseq_ki.capture.forecast import kept_ids
from fairseq_ki.capture.quality import (
    angle,
    calibration_error,
    logit_gradient,
    smoothed_kl,
    target_distribution,
)
from fairseq_ki.capture.samples import Sample
from fairseq_ki.capture.session import Session
from fairseq_ki.capture.teacher import TeacherPass
from fairseq_ki.data.stored_rows import collate_rows
from fairseq_ki.objective.signals import DenseSignal
from fairseq_ki.store import Encoding, Rows, StoreReader
from fairseq_ki.store.shard import INDEX_BYTES_PER_SAMPLE, RECORD_HEAD_BYTES
from fairseq_ki.teachers.stored import stored_signal

_DIRECTIONS = 64  # random ones, through which the gradient of the (V, D) weight is seen
_PARTS = 4


@dataclass(frozen=True)
class Finding:
    """One candidate; means over rows.

    Args:
        name: of the encoding with its parameters.
        bytes_per_row: in a store, everything counted.
        ids: kept per row.
        mass: the teacher's probability on the kept ids, at the audited temperature.
        kl: KL(full || stored) in bits, smoothed (see ``quality.smoothed_kl``).
        top1: share of rows where both have the same most probable id.
        calibration: expected calibration error of the stored target.
        row_angle: degrees between the gradients in the logits, row by row.
        part_angle, update_angle: the same in the output weight, over a quarter of the rows and
            over all: noise shrinks from the first to the second, a bias stays.
    """

    name: str
    bytes_per_row: float
    ids: float
    mass: float
    kl: float
    top1: float
    calibration: float
    row_angle: float
    part_angle: float
    update_angle: float


@dataclass(frozen=True)
class Candidate:
    """An encoding to audit, and where its rows come from.

    Args:
        name: for the table.
        encoding: audited with its tail mass, if it keeps one.
        reader: of a finished store with these rows; None selects them from the teacher's.
        split: theirs in that store.
    """

    name: str
    encoding: Encoding
    reader: StoreReader | None = None
    split: int = 0

    def rows_of(self, sample: Sample, log_probs: np.ndarray, fingerprint: str) -> tuple[Rows, int]:
        """A sample's rows as training reads them, and their bytes in a store."""
        if self.reader is not None:
            rows = self.reader.read(self.split, 1, sample.block, checksum=sample.checksum)
            body = self.encoding.encode(rows)
        else:
            n = len(sample.targets)
            uniform = self.encoding.uniforms(fingerprint, 1, sample.block, n)
            selected = self.encoding.select(log_probs, sample.targets.numpy(), uniform)
            body = self.encoding.encode(selected)
            rows = self.encoding.decode(body, n)
        return rows, len(body) + RECORD_HEAD_BYTES + INDEX_BYTES_PER_SAMPLE


@dataclass(frozen=True)
class _Group:
    """Rows of some samples, as teacher and student see them.

    Args:
        part: which quarter of the audit they belong to.
        samples: with rows; targets: (N,) of all of them.
        log_probs: (N, V) of the teacher.
        full: (N, V) its distribution at the audited temperature.
        logits: (N, V) of the student.
        seen: (N, F) what the student's output layer gets, in a few directions.
        gradient: (N, V) in the student's logits, under the full target.
    """

    part: int
    samples: list[Sample]
    targets: Tensor
    log_probs: Tensor
    full: Tensor
    logits: Tensor
    seen: Tensor
    gradient: Tensor


class _Sums:
    """What is added up for one candidate over all groups."""

    def __init__(self, vocabulary: int) -> None:
        self.rows = self.bytes = self.ids = 0
        self.mass = self.kl = self.top1 = self.row_angle = 0.0
        self.confidence: list[Tensor] = []
        self.right: list[Tensor] = []
        self.parts = torch.zeros(_PARTS, _DIRECTIONS + 1, vocabulary)

    def add(
        self, candidate: Candidate, group: _Group, temperature: float, fingerprint: str
    ) -> None:
        read, start = [], 0
        for sample in group.samples:
            part = group.log_probs[start : start + len(sample.targets)].numpy()
            rows, size = candidate.rows_of(sample, part, fingerprint)
            self.bytes += size
            self.ids += kept_ids(rows)
            read.append(rows)
            start += len(part)
        use_tail = candidate.encoding.keeps_tail
        signal = stored_signal(collate_rows(read), temperature, use_tail)
        stored = target_distribution(signal, group.full.size(1), temperature)
        # a tail is spread over the ids that were not kept, all of them with a share below it
        kept = stored > 0 if not use_tail else _listed(signal, stored)
        gradient = logit_gradient(group.logits, group.targets, signal, temperature)
        best, first = stored.max(dim=1)
        self.rows += start
        self.mass += float((group.full * kept).sum())
        self.kl += float(smoothed_kl(group.full, stored).sum())
        self.top1 += float((first == group.full.argmax(dim=1)).sum())
        self.confidence.append(best)
        self.right.append(first == group.targets)
        self.row_angle += float(angle(gradient, group.gradient).sum())
        self.parts[group.part] += group.seen.T @ gradient

    def finding(self, candidate: Candidate, full: Tensor) -> Finding:
        """``full``: (parts, F, V) gradients of the output weight under the full target."""
        used = full.flatten(1).abs().sum(dim=1) > 0
        parts = angle(self.parts.flatten(1), full.flatten(1))[used].mean()
        update = angle(self.parts.sum(dim=0).flatten(), full.sum(dim=0).flatten())
        return Finding(
            name=candidate.name,
            bytes_per_row=self.bytes / self.rows,
            ids=self.ids / self.rows,
            mass=self.mass / self.rows,
            kl=self.kl / self.rows / float(np.log(2)),
            top1=self.top1 / self.rows,
            calibration=calibration_error(torch.cat(self.confidence), torch.cat(self.right)),
            row_angle=self.row_angle / self.rows,
            part_angle=float(parts),
            update_angle=float(update),
        )


def _listed(signal, stored: Tensor) -> Tensor:
    kept = torch.zeros_like(stored, dtype=torch.bool)
    row, column = (signal.probs > 0).nonzero(as_tuple=True)
    kept[row, signal.ids[row, column]] = True
    return kept


def audit(
    session: Session,
    candidates: Sequence[Candidate],
    rows: int,
    temperature: float,
    student: TeacherPass | None = None,
) -> list[Finding]:
    """Measure candidates on about so many rows, of samples from all over the first data-bin.

    Args:
        temperature: of the training's KL term.
        student: a frozen one, on the session's device.

    Raises:
        StoreError: for a candidate that does not serve the temperature, or a store of other data.
        ValueError: where there is no row to predict.
    """
    for candidate in candidates:
        candidate.encoding.check_tau(temperature, tail=candidate.encoding.keeps_tail)
    vocabulary = len(session.task.source_dictionary)
    sums = [_Sums(vocabulary) for _ in candidates]
    full = torch.zeros(_PARTS, _DIRECTIONS + 1, vocabulary)
    for group in _groups(session, rows, temperature, student):
        full[group.part] += group.seen.T @ group.gradient
        for candidate, own in zip(candidates, sums):
            own.add(candidate, group, temperature, session.fingerprints[0])
    if not sums[0].rows:
        raise ValueError("audit: expected samples with tokens to predict, found none")
    return [own.finding(candidate, full) for candidate, own in zip(candidates, sums)]


def _groups(
    session: Session, rows: int, temperature: float, student: TeacherPass | None
) -> Iterator[_Group]:
    split = session.splits[0]
    split.set_epoch(1)
    order = np.random.default_rng(0).permutation(len(split))
    typical = np.mean([len(split[int(block)].targets) for block in order[:8]])
    count = int(min(len(order), max(_PARTS, np.ceil(rows / max(1.0, typical)))))
    directions = None
    for part, blocks in enumerate(np.array_split(order[:count], _PARTS)):
        for batch in split.batches(blocks.tolist(), session.settings.batch_size):
            said = session.teacher.say(batch)
            # both cut a batch into the same groups: these follow from the vocabulary
            pairs = zip(said, student.say(batch)) if student else ((each, each) for each in said)
            for teacher, other in pairs:
                samples = [sample for sample in teacher.samples if len(sample.targets)]
                if not samples:
                    continue
                log_probs = teacher.scores.log_probs.cpu()
                hidden = other.hidden.float().cpu()
                if directions is None:
                    width, generator = hidden.size(1), torch.Generator().manual_seed(0)
                    directions = torch.randn(width, _DIRECTIONS, generator=generator)
                    directions /= width**0.5
                targets = torch.cat([sample.targets for sample in samples])
                logits = torch.zeros_like(log_probs)
                if student is not None:
                    logits = other.scores.log_probs.cpu()
                signal = DenseSignal(log_probs)
                yield _Group(
                    part=part,
                    samples=samples,
                    targets=targets,
                    log_probs=log_probs,
                    full=torch.softmax(log_probs / temperature, dim=1),
                    logits=logits,
                    seen=torch.cat([hidden @ directions, torch.ones(len(hidden), 1)], dim=1),
                    gradient=logit_gradient(logits, targets, signal, temperature),
                )
