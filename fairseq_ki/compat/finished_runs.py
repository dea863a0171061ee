"""A run that is over stays as it is when its command is given again.

fairseq compares the number of updates with ``--max-update`` after an update only. A run that was
killed after its last checkpoint, or that a cluster starts again, would make one more update each
time, and overwrite its result.
"""

import logging
from collections.abc import Callable

from fairseq import checkpoint_utils

from fairseq_ki.compat.patching import replace

logger = logging.getLogger(__name__)


def _without_another_update(original: Callable) -> Callable:
    def load_checkpoint(cfg, trainer, **passthrough_args):
        extra_state, epoch_itr = original(cfg, trainer, **passthrough_args)
        options = trainer.cfg.optimization
        if 0 < options.max_update <= trainer.get_num_updates():
            logger.info(
                f"nothing is left to train: {trainer.get_num_updates()} updates are done, and "
                f"--max-update is {options.max_update}"
            )
            options.max_epoch = -1  # which fairseq reads next, and it trains no epoch beyond it
        return extra_state, epoch_itr

    return load_checkpoint


def leave_finished_runs() -> bool:
    """Wraps what fairseq-train calls before its first update."""
    return replace(checkpoint_utils, "load_checkpoint", _without_another_update)
