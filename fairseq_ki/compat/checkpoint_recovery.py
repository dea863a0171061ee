"""A run that was cut off starts again from the newest checkpoint that can be read."""

import logging
import os
import re
from collections.abc import Callable

import torch
from fairseq import checkpoint_utils
from fairseq.file_io import PathManager

from fairseq_ki.compat.checkpoint_reading import (
    CheckpointError,
    UnreadableCheckpointError,
    num_updates,
)
from fairseq_ki.compat.checkpoint_writing import TEMPORARY, copy_whole
from fairseq_ki.compat.patching import replace

logger = logging.getLogger(__name__)

LAST = "checkpoint_last"
DAMAGED = ".damaged"


def repair_last_checkpoint(save_dir: str, suffix: str = "") -> str | None:
    """Puts the newest good checkpoint in the place of a ``checkpoint_last`` that cannot be read.

    The damaged file is kept with ``.damaged`` after its name. One that was being written for the
    first time when the run was killed counts as damaged, too. Returns the checkpoint that was
    taken, or None if there was nothing to mend. Raises :class:`UnreadableCheckpointError` if
    there is no good one (a run never starts over in silence), and lets an
    ``UnsafeCheckpointError`` pass: such a file is no accident. Nor is a ``checkpoint_last`` that
    is no file: a :class:`CheckpointError` says what could go on.
    """
    last = os.path.join(save_dir, f"{LAST}{suffix}.pt")
    _check_is_file(save_dir, suffix)
    if not os.path.lexists(last):
        good = _newest_good(save_dir, suffix, last) if os.path.isfile(last + TEMPORARY) else None
        if good is None:
            return None
        logger.warning(f"{last} was not finished. Going on from {good[1]} ({good[0]} updates)")
        copy_whole(good[1], last)
        return good[1]
    try:
        num_updates(last)
        return None
    except UnreadableCheckpointError as error:
        damage = error
    good = _newest_good(save_dir, suffix, besides=last)
    if good is None:
        raise UnreadableCheckpointError(
            f"{damage} No other checkpoint in {save_dir} can be read either. To start from "
            "scratch, name another --save-dir or move that file away."
        )
    updates, path = good
    logger.warning(
        f"{damage} Going on from {path} ({updates} updates) instead; the damaged file is kept as "
        f"{last}{DAMAGED}"
    )
    os.replace(last, last + DAMAGED)
    copy_whole(path, last)
    return path


def _check_is_file(save_dir: str, suffix: str) -> None:
    """fairseq would start over, as if nothing were there, and write in its place.

    Nothing is taken instead: behind a link to a disk that is not mounted is the newest checkpoint.
    """
    last = os.path.join(save_dir, f"{LAST}{suffix}.pt")
    if os.path.isfile(last) or not os.path.lexists(last):
        return
    if os.path.islink(last):
        found = f"a link that leads to no file ({os.readlink(last)}). Mount the disk that it is on"
    else:
        kind = "a folder" if os.path.isdir(last) else "neither a file nor a link"
        found = f"{kind}. Move it away"
    good = _newest_good(save_dir, suffix, besides=last)
    go_on = (
        f"To go on from {good[1]} ({good[0]} updates), put a copy of it in its place"
        if good is not None
        else "To start from scratch, name another --save-dir"
    )
    raise CheckpointError(f"{last}: expected a checkpoint, found {found}. {go_on}.")


def _newest_good(save_dir: str, suffix: str, besides: str) -> tuple[int, str] | None:
    pattern = re.compile(rf"checkpoint[\w.]*{re.escape(suffix)}\.pt")
    found = []
    for name in sorted(os.listdir(save_dir)):
        path = os.path.join(save_dir, name)
        # a pipe would be waited for; what else is no file cannot be read
        if path == besides or not pattern.fullmatch(name) or not os.path.isfile(path):
            continue
        try:
            found.append((num_updates(path), path))
        except (CheckpointError, OSError) as error:
            logger.warning(f"passed over: {error}")
    return max(found, default=None)


def remove_leftovers(save_dir: str) -> None:
    """Deletes what a killed run had begun to write in ``save_dir``."""
    if os.path.isdir(save_dir):
        for name in os.listdir(save_dir):
            if name.startswith("checkpoint") and name.endswith(".pt" + TEMPORARY):
                logger.info(f"removing {name}, left half written by an earlier run")
                os.remove(os.path.join(save_dir, name))


def _load(original: Callable) -> Callable:
    def load_checkpoint(cfg, trainer, **passthrough_args):
        if cfg.restore_file == f"{LAST}.pt":
            # a sharded state has one file per rank, which must not fall back one by one
            is_whole = trainer.checkpoint_suffix == (cfg.checkpoint_suffix or "")
            if not is_whole:
                _check_is_file(cfg.save_dir, trainer.checkpoint_suffix)
            elif trainer.data_parallel_rank == 0:
                repair_last_checkpoint(cfg.save_dir, trainer.checkpoint_suffix)
                remove_leftovers(cfg.save_dir)
            if trainer.data_parallel_world_size > 1:
                torch.distributed.barrier(trainer.data_parallel_process_group)
        elif trainer.data_parallel_rank == 0 and not PathManager.isfile(
            path := cfg.restore_file.replace(".pt", f"{trainer.checkpoint_suffix}.pt")
        ):
            raise CheckpointError(
                f"--restore-file {path} does not exist, and fairseq would start from scratch. "
                "Correct the path, or leave the option out."
            )
        if cfg.finetune_from_model is not None and os.path.isdir(cfg.finetune_from_model):
            raise CheckpointError(
                f"--finetune-from-model {cfg.finetune_from_model} is a folder, and fairseq would "
                "start from scratch. Name a checkpoint in it."
            )
        extra_state, epoch_itr = original(cfg, trainer, **passthrough_args)
        if extra_state is not None and cfg.reset_dataloader:
            _hand_over_task_state(trainer.task, extra_state)
        return extra_state, epoch_itr

    return load_checkpoint


def _hand_over_task_state(task, extra_state: dict) -> None:
    """As fairseq does, but only where it restores the place in the data, too."""
    state = extra_state.get(type(task).__name__)
    if state and hasattr(task, "set_checkpoint_dict"):
        task.set_checkpoint_dict(state)


def resume_from_readable_checkpoints() -> bool:
    """Wraps what fairseq-train calls to resume."""
    return replace(checkpoint_utils, "load_checkpoint", _load)
