"""What ``ki_mlm`` and ``ki_lm`` share: the hooks that fairseq calls."""

import filecmp
import logging
import os

import torch
from fairseq.distributed import utils as distributed_utils

from fairseq_ki.compat import copy_whole
from fairseq_ki.criterions._bad_rows import BadTeacherError
from fairseq_ki.data.data_bin import check_dictionary
from fairseq_ki.data.positions import CollateWithPositions, positions_of
from fairseq_ki.data.together import read_together
from fairseq_ki.models._heads import unwrapped
from fairseq_ki.models.ki_teacher import load_teacher
from fairseq_ki.objective.positions import Positions
from fairseq_ki.tasks._lineage import LineageMixin
from fairseq_ki.tasks._mixture import MixtureMixin
from fairseq_ki.tasks._options import (
    TEACHER_DTYPES,
    KITaskConfig,
    check_counts,
    check_lengths,
    check_no_teacher_options,
    check_teacher_batches,
    check_teacher_options,
    plain,
)
from fairseq_ki.tasks._resumed import check_resumed_state
from fairseq_ki.tasks._stores import StoreMixin
from fairseq_ki.tasks._teacher_record import is_among, refusal_to_resume, refusal_to_start
from fairseq_ki.teachers.inheritance import Inheritance
from fairseq_ki.teachers.live import LiveTeacher
from fairseq_ki.teachers.source import SignalSource

logger = logging.getLogger(__name__)

LAST = "checkpoint_last.pt"


class KITaskMixin(LineageMixin, MixtureMixin, StoreMixin):
    """Mixed into a fairseq task class, before it in the bases.

    The subclass gives ``config`` (its options, whatever fairseq's base class calls them)
    and ``causal``. The signal source belongs to the task's ``inheritance``, a plain object:
    nothing that fairseq trains, wraps or saves ever holds the teacher.
    """

    causal: bool
    student_positions: int = 0
    inheritance: Inheritance | None = None
    _opened: SignalSource | None = None
    _trains = False  # fairseq-validate and its like build the same task
    _started = False
    _left_dictionary = False
    _resumes_inheritance = False
    _resumed_teachers: list[dict] | None = None

    @property
    def config(self) -> KITaskConfig:
        raise NotImplementedError

    def loss_rows(self, sample: dict) -> Positions:
        """The positions whose token is to be predicted."""
        return positions_of(sample, self.pad)

    @property
    def longest_sample(self) -> int:
        """In tokens, special ones included."""
        longest = self.config.tokens_per_sample
        if plain(self.config.sample_break_mode) != "none":
            # a long sentence stays whole; fairseq skips what exceeds the student's positions
            longest = max(longest, self.student_positions)
        return longest

    @property
    def names_teacher(self) -> bool:
        """True if this run was asked to inherit, even if its teacher is silent by now."""
        config = self.config
        named = config.ki_teacher is not None or config.ki_store is not None
        return named or bool(self._mixture_teachers)

    @property
    def names_live_teacher(self) -> bool:
        """True if a model of the teacher is to be run."""
        live = any(entry.checkpoint for entry in self._mixture_teachers)
        return self.config.ki_teacher is not None or live

    # -- building: a teacher is loaded for training only, a student must load without it

    @classmethod
    def setup_task(cls, cfg, **kwargs):
        check_dictionary(cfg.data)
        return super().setup_task(cfg, **kwargs)

    def build_model(self, cfg, from_checkpoint: bool = False):
        model = super().build_model(cfg, from_checkpoint)
        self._trains = not from_checkpoint
        self.student_positions = model.max_positions()
        if self._trains:
            check_counts(self.config)
            check_lengths(self.config, self.student_positions, self.causal)
            check_teacher_batches(self.config)
        if self.config.ki_mixture is not None and self._trains:
            self._read_mixture()
            self.check_teachable(model)
        if self.names_teacher and self._trains:
            check_teacher_options(self.config, self.names_live_teacher, bool(self.mixture))
            self.check_teachable(model)
            if not self._restores():
                # a fresh run: a wrong teacher should stop it before hours of other work
                self._opened = self.open_source()
        return model

    def build_criterion(self, cfg, **kwargs):
        if self._trains and not self.names_teacher:
            check_no_teacher_options(self.config, cfg)
        criterion = super().build_criterion(cfg, **kwargs)
        self.inheritance = getattr(criterion, "inheritance", None)
        if self._trains and self.names_teacher and self.inheritance is None:
            raise ValueError(
                f"--ki-teacher: expected --criterion ki, found {type(criterion).__name__}, "
                "which would ignore the teacher"
            )
        beside = self._trains and getattr(cfg, "ki_teacher_stream", False)
        if beside and not self.names_live_teacher:
            raise ValueError(
                "--ki-teacher-stream: expected a live teacher, found a store, which runs no model; "
                "drop it"
            )
        if self._trains and self.config.ki_store is not None:
            self._check_store_serves(criterion)
        if self.mixture:
            self._check_mixture_serves(criterion)
        return criterion

    def check_teachable(self, model: torch.nn.Module) -> None:
        """Refuse host options and students that no teacher can follow; overridden by tasks."""

    def open_source(self) -> SignalSource:
        """Load and check the teachers, on the CPU; open and check stores."""
        if self.mixture:
            return self._open_router()
        if self.config.ki_store is not None:
            if self._stored is None:
                self._stored = self.open_stores(self._store_directories)
            return self._stored
        return self.live_teacher(self.config.ki_teacher, self.config.ki_teacher_dict)

    def live_teacher(self, checkpoint: str, dictionary: str | None) -> LiveTeacher:
        """Load and check one teacher, on the CPU."""
        return LiveTeacher(
            load_teacher(
                checkpoint,
                self,
                dictionary=dictionary,
                causal=self.causal,
                positions=self.longest_sample,
            ),
            TEACHER_DTYPES.get(plain(self.config.ki_teacher_dtype)),
        )

    # -- training

    def begin_epoch(self, epoch: int, model) -> None:
        """Refuse a save directory with the checkpoints of other data."""
        super().begin_epoch(epoch, model)
        config = self.config
        beside = self._dictionary_beside
        if beside is None or not os.path.isfile(beside):
            return
        if not filecmp.cmp(self._dictionary_file, beside, shallow=False):
            raise ValueError(
                f"--save-dir {config.save_dir}: expected the dictionary of this run, "
                f"{self._dictionary_file}, found another dict.txt, so the checkpoints there are of "
                "other data; name another --save-dir, or move that file away"
            )

    @property
    def _dictionary_beside(self) -> str | None:
        """The dict.txt beside the checkpoints; None where this process writes none."""
        if self.config.no_save or distributed_utils.get_global_rank() != 0:
            return None
        return os.path.join(self.config.save_dir, "dict.txt")

    def _leave_dictionary(self) -> None:
        """Copy dict.txt beside the checkpoints: they hold none, and may be teachers one day.

        Where they were trained is no substitute: "data-bin" is another directory in another
        project, perhaps with as many symbols.
        """
        beside = self._dictionary_beside
        if beside is not None and not os.path.isfile(beside):
            copy_whole(self._dictionary_file, beside)

    def train_step(self, sample, model, criterion, optimizer, update_num, ignore_grad=False):
        if self.names_teacher:
            try:
                self._begin_update(update_num, model, criterion)
            except ValueError as refusal:
                # an Exception out of train_step makes fairseq save a crash.pt first
                raise SystemExit(f"error: {refusal}") from refusal
            # a rank without a batch gets the first one of whatever was loaded last, be it of the
            # validation set; its gradient does not count
            self.inheritance.unasked = ignore_grad
        if not self._left_dictionary:  # now that nothing can be refused any more
            self._leave_dictionary()
            self._left_dictionary = True
        try:
            return super().train_step(sample, model, criterion, optimizer, update_num, ignore_grad)
        except BadTeacherError as refusal:
            raise SystemExit(f"error: {refusal}") from refusal

    def _begin_update(self, update_num: int, model, criterion) -> None:
        if not self._started:
            self._check_start(update_num)
            self._started = True
        self.inheritance.begin_update(update_num, lambda: self._source_like(model))
        if self.inheritance.over(update_num):
            self._opened = self._stored = None
            self._domain_stores.clear()
            self.reading.off()

    def reduce_metrics(self, logging_outputs, criterion):
        super().reduce_metrics(logging_outputs, criterion)
        # sums over all ranks, so every rank comes to the same verdict; dummy batches were
        # zeroed and updates that overflowed never get here
        if criterion.training and self.inheritance is not None and self.inheritance.monitor:
            rows, student, teacher = (
                float(sum(log[key] for log in logging_outputs))
                for key in ("ki_rows", "ki_student_nll", "ki_teacher_nll")
            )
            if rows > 0:
                self.inheritance.end_update(student, teacher)

    def _source_like(self, model: torch.nn.Module) -> SignalSource:
        source = self._opened or self.open_source()
        self._opened = None
        parameter = next(unwrapped(model).parameters())
        source.to(parameter.device, parameter.dtype)
        return source

    def _check_start(self, update_num: int) -> None:
        """Stop a run that names a teacher but would never listen to it."""
        if not self.inheritance.over(update_num):
            return
        teachers, recorded = self.named_teachers, self._resumed_teachers
        if not self._resumes_inheritance:
            raise ValueError(refusal_to_start(teachers[0], update_num))
        if recorded is None:
            return  # a checkpoint of before there was a record
        let_go = self.inheritance.let_go_at is not None
        for teacher, found in zip(teachers, self.teacher_record, strict=True):
            if not is_among(found, recorded):
                save_dir = self.config.save_dir
                raise ValueError(refusal_to_resume(teacher, update_num, save_dir, let_go))

    def _restored_file(self) -> str:
        config = self.config
        if config.restore_file != LAST:
            return config.restore_file
        last = os.path.join(config.save_dir, LAST)
        if config.continue_once is not None and not os.path.lexists(last):
            return config.continue_once
        return last

    def _restores(self) -> bool:
        """True if fairseq is going to load a checkpoint, and so may be past the teacher's end."""
        # a link that leads nowhere is no new start, but is refused when it is to be loaded
        return os.path.lexists(self._restored_file())

    # -- state that has to survive a restart; fairseq files it under the task's class name

    def get_checkpoint_dict(self) -> dict:
        state = self.lineage_state() | self.mixture_state()
        if self.inheritance is not None:
            state["inheritance"] = self.inheritance.state_dict()
        return {type(self).__name__: state} if state else {}

    def set_checkpoint_dict(self, state: dict) -> None:
        own = os.path.realpath(os.path.dirname(self._restored_file()))
        if own != os.path.realpath(self.config.save_dir):
            return  # a new run that starts from another one's checkpoint
        check_resumed_state(state, self._restored_file())
        self.check_resumed_mixture(state)
        if self.config.reset_optimizer:
            return  # the updates are counted from 0 again
        self.resume_lineage(state)
        self._resumed_teachers = state.get("teachers")
        if self.inheritance is not None and "inheritance" in state:
            self.inheritance.load_state_dict(state["inheritance"])
            self._resumes_inheritance = True

    # -- data

    def get_batch_iterator(self, dataset, *args, **kwargs):
        """fairseq's iterator, with loader workers that are started anew for every epoch.

        fairseq keeps workers alive across epochs, and a living worker never hears of
        ``set_epoch``: it would repeat the masks of the epoch it was started in.
        """
        iterator = super().get_batch_iterator(dataset, *args, **kwargs)
        iterator.reuse_dataloader = False
        iterator.persistent_workers = False
        if not isinstance(iterator.collate_fn, CollateWithPositions):  # fairseq keeps iterators
            iterator.collate_fn = CollateWithPositions(iterator.collate_fn, self.pad)
            training = self._trains and dataset is self.datasets.get(self.config.train_subset)
            if self.config.ki_teacher_batches > 1 and training:
                read_together(iterator, self.config.ki_teacher_batches, self.pad)
        return iterator
