"""Keeps the lineage of a model while it is trained, and never stops the training.

It is in the checkpoints; lineage.json beside them is for people and other programs. All costs but
two additions an update are paid where checkpoints are: teachers and data are hashed when the run
starts, on the first rank alone, and a small file is written with each checkpoint.
"""

import logging
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from functools import wraps
from typing import Any

from fairseq_ki.evaluation.flops import Batch, Sizes, batch_of, teacher_flops, training_flops
from fairseq_ki.lineage.files import (
    LINEAGE,
    TREE,
    folder_name,
    now,
    of_checkpoint,
    recorded_lineage,
    teacher_sha256,
    versions,
    write_lineage,
)
from fairseq_ki.lineage.records import (
    Lineage,
    Model,
    Parent,
    apart_from,
    merged,
    new_id,
    printable,
)
from fairseq_ki.store import file_sha256

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Source:
    """What a run was told to inherit from.

    Args:
        role: ``teacher`` or ``start``.
        path: of a checkpoint, or of the directory of a store.
        rows: logging outputs that count the rows on which it spoke.
        sha256: of its content, where that was read already.
    """

    role: str
    path: str
    rows: tuple[str, ...] = ()
    sha256: str | None = None


def _never_fails(method: Callable) -> Callable:
    @wraps(method)
    def call(self, *args, **kwargs):
        try:
            return method(self, *args, **kwargs)
        except Exception as error:  # whatever it is, a training is worth more than its record
            if str(error) not in self._warned:
                self._warned.add(str(error))
                logger.warning(f"{LINEAGE} is not complete, training goes on: {error}")
            return None

    return call


class Recorder:
    """One training run.

    Args:
        folder: of its checkpoints.
        task: ``tokens_per_sample``, and ``mask_prob`` for a masked LM.
    """

    def __init__(self, folder: str, task: Mapping[str, Any]) -> None:
        self.folder = folder
        self.task = dict(task)
        self.id = new_id()
        self.updates = 0
        self.tokens = 0.0
        self.taught: dict[str, float] = {}  # rows by the path of the teacher
        self._sources: Sequence[Source] = ()
        self._families: list[Lineage] = []
        self._parents: dict[tuple[str, str], Parent] = {}  # by role and file
        self._own = Model(how="trained", name=folder_name(os.path.join(folder, LINEAGE)))
        self._seen: set[str] = set()
        self._warned: set[str] = set()

    # -- counts, which checkpoints keep

    def state_dict(self) -> dict:
        """For the checkpoint that is about to be written. Exports lineage.json, too."""
        state = {
            "id": self.id,
            "updates": self.updates,
            "tokens": self.tokens,
            "taught": dict(self.taught),
        }
        lineage = self._lineage()
        if lineage is not None:
            state[TREE] = lineage.to_dict()
            self._export(lineage)
        return state

    @_never_fails
    def load_state_dict(self, state: dict) -> None:
        """Go on with a run; perhaps a teacher of it is gone by now."""
        self.updates, self.tokens = int(state["updates"]), float(state["tokens"])
        self.taught = {str(path): float(rows) for path, rows in state["taught"].items()}
        self.id = str(state["id"])
        earlier = recorded_lineage(state, os.path.join(self.folder, "its checkpoint"))
        if earlier is not None:
            self._families.append(earlier)
            self._parents = {(parent.role, parent.file): parent for parent in earlier.own.parents}
            self._own = replace(self._own, data=earlier.own.data)

    @_never_fails
    def count(self, logging_outputs: Iterable[Mapping[str, Any]]) -> None:
        """One update, from the sums over all ranks and micro-batches."""
        outputs = list(logging_outputs)
        self.updates += 1
        self.tokens += float(sum(log.get("ntokens", 0) for log in outputs))
        for source in self._sources:
            rows = float(sum(log.get(key, 0) for log in outputs for key in source.rows))
            if rows:
                file = printable(source.path)
                self.taught[file] = self.taught.get(file, 0.0) + rows

    # -- facts, found when the run starts

    @_never_fails
    def begin(
        self,
        *,
        arch: str | None,
        sizes: Sizes | None,
        dictionary: str,
        sources: Sequence[Source],
    ) -> None:
        """Look at what the run inherits from.

        Args:
            arch: its ``--arch``.
            sizes: None where its FLOPs cannot be counted.
            dictionary: path of dict.txt.
        """
        self._sources = sources
        self._own = replace(
            self._own, arch=arch, sizes=asdict(sizes) if sizes else {}, versions=versions()
        )
        for source in sources:
            self._look_at(source)
        self._own = replace(self._own, dictionary=file_sha256(dictionary))

    @_never_fails
    def saw(self, data: str, fingerprint: Callable[[], str]) -> None:
        """A split of the data is about to be trained on; its hash is asked for once."""
        path = printable(data)
        if path not in self._seen:
            self._seen.add(path)
            self._own = replace(self._own, data={**self._own.data, path: fingerprint()})

    @_never_fails
    def _look_at(self, source: Source) -> None:
        file = printable(source.path)
        sha256 = source.sha256 or teacher_sha256(source.path)
        if os.path.isdir(source.path):
            model = f"sha256-{sha256}"
            # several stores may hold one teacher's logits: its name is none of theirs
            family = Lineage(model, {model: Model(how="store", name=f"teacher {sha256[:12]}")})
            parent = Parent(model, source.role, file, sha256)
        else:
            family, updates = of_checkpoint(source.path)
            family = apart_from(family, self.id)
            parent = Parent(family.model, source.role, file, sha256, updates)
        self._families.append(family)
        self._parents[parent.role, file] = parent

    # -- what is known

    @_never_fails
    def _lineage(self) -> Lineage:
        known = {each: family.models[each] for family in self._families for each in family.models}
        parents = [
            replace(parent, flops=self._passes(parent, known[parent.model]))
            for parent in self._parents.values()
        ]
        own = replace(
            self._own,
            updates=self.updates,
            tokens=self.tokens,
            flops=self._training_flops(),
            written=now(),
            parents=tuple(parents),
        )
        return merged(self.id, own, self._families)

    @_never_fails
    def _export(self, lineage: Lineage) -> None:
        write_lineage(lineage, self.folder)

    def _training_flops(self) -> float | None:
        sizes = _sizes(self._own)
        return training_flops(sizes, batch_of(self.task, self.tokens)) if sizes else None

    def _passes(self, parent: Parent, model: Model) -> float | None:
        """FLOPs of a teacher's forward passes in this run; a store has none."""
        rows = self.taught.get(parent.file, 0.0)
        if parent.role != "teacher" or model.how == "store" or not rows:
            return 0.0
        sizes = _sizes(model)
        if sizes is None:
            return None
        share = self.task.get("mask_prob")
        batch = Batch(rows / share if share else rows, self.task["tokens_per_sample"], rows)
        return teacher_flops(sizes, batch)


def _sizes(model: Model) -> Sizes | None:
    """None where they are not known, or another program's."""
    known = {field.name for field in fields(Sizes)}
    sizes: dict[str, Any] = dict(model.sizes)
    return Sizes(**sizes) if sizes.keys() == known else None
