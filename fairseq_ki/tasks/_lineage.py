"""The part of a task that writes lineage.json beside its checkpoints."""

import os
from functools import cached_property
from typing import Any

from fairseq import utils
from fairseq.distributed import utils as distributed_utils

from fairseq_ki.criterions._domains import taught_rows
from fairseq_ki.data.splits import combined_fingerprint
from fairseq_ki.evaluation.flops import Sizes, sizes_of
from fairseq_ki.lineage import Recorder, Source
from fairseq_ki.models._heads import unwrapped
from fairseq_ki.tasks._teacher_record import NamedTeacher, named_teachers, teacher_record


class LineageMixin:
    """Records who teaches a run, where its weights come from, and what it costs.

    Mixed into a task by ``KITaskMixin``, which gives ``config``, ``mixture``, ``_dictionary_file``,
    ``_fingerprints`` and ``_restored_file``. On the first rank alone, and with checkpoints alone.
    """

    _recorder: Recorder | None = None
    _lineage_state: dict | None = None
    _architecture: str | None = None

    def build_model(self, cfg, from_checkpoint: bool = False):
        self._architecture = getattr(cfg, "_name", None) or getattr(cfg, "arch", None)
        return super().build_model(cfg, from_checkpoint)

    def begin_epoch(self, epoch: int, model) -> None:
        super().begin_epoch(epoch, model)
        config = self.config
        if config.no_save or distributed_utils.get_global_rank() != 0:
            return
        if self._recorder is None:
            self._recorder = self._started_recorder(model)
        shards = utils.split_paths(config.data)
        seen = [domain.data for domain in self.mixture if domain.weight]
        for data in seen or [shards[(epoch - 1) % len(shards)]]:
            self._recorder.saw(data, lambda data=data: self._fingerprint(data))

    def reduce_metrics(self, logging_outputs, criterion):
        super().reduce_metrics(logging_outputs, criterion)
        if criterion.training and self._recorder is not None:
            self._recorder.count(logging_outputs)

    @property
    def named_teachers(self) -> list[NamedTeacher]:
        """Of this run, live and stored, in the order in which they are named."""
        return named_teachers(self.config, self.mixture)

    @cached_property
    def teacher_record(self) -> list[dict]:
        """Who they are; they are read for it once."""
        return teacher_record(self.named_teachers)

    def lineage_state(self) -> dict[str, Any]:
        """Of the checkpoint that is about to be written, which is when the file is, too."""
        if self._recorder is None:
            return {}
        return {"lineage": self._recorder.state_dict(), "teachers": self.teacher_record}

    def resume_lineage(self, state: dict) -> None:
        """Go on with the record of an interrupted run."""
        self._lineage_state = state.get("lineage")

    def _started_recorder(self, model) -> Recorder:
        config = self.config
        options = ("tokens_per_sample", "mask_prob")
        recorder = Recorder(
            config.save_dir, {name: getattr(config, name, None) for name in options}
        )
        if self._lineage_state is not None:
            recorder.load_state_dict(self._lineage_state)
        recorder.begin(
            arch=self._architecture,
            sizes=_sizes(model),
            dictionary=self._dictionary_file,
            sources=[*self._teachers(), *self._start()],
        )
        return recorder

    def _teachers(self) -> list[Source]:
        rows: dict[str, list[str]] = {}  # the logging outputs that count them, by path
        known = {}
        for teacher, found in zip(self.named_teachers, self.teacher_record, strict=True):
            known[teacher.path] = found["sha256"]
            spoken = rows.setdefault(teacher.path, [])
            key = taught_rows(teacher.domain) if teacher.domain else "ki_rows"
            if key not in spoken:
                spoken.append(key)
        return [Source("teacher", path, tuple(rows[path]), known[path]) for path in rows]

    def _start(self) -> list[Source]:
        """The checkpoint of another run that this one's weights are from."""
        config, restored = self.config, self._restored_file()
        if self._lineage_state is not None:
            return []
        if not os.path.isfile(restored):
            restored = config.finetune_from_model
        return [Source("start", restored)] if restored else []

    def _fingerprint(self, data: str) -> str:
        prefix = os.path.join(data, self.config.train_subset)
        if prefix not in self._fingerprints:
            self._fingerprints[prefix] = combined_fingerprint(prefix, combine=True)
        return self._fingerprints[prefix]


def _sizes(model) -> Sizes | None:
    # not state_dict(): of a sharded model that is for all ranks to call, and this is one
    try:
        return sizes_of(dict(unwrapped(model).named_parameters()))
    except (ValueError, KeyError):
        return None
