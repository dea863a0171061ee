"""A checkpoint that training cannot go on from is refused in a line that names it.

fairseq fails in a traceback where a part is missing. Weights that are no numbers it loads, and
fails with the first update, in its own search for where they came from.
"""

from collections.abc import Callable
from typing import Any

import torch
from fairseq import checkpoint_utils, trainer
from fairseq.logging.meters import MetersDict

from fairseq_ki.compat.checkpoint_reading import CheckpointError, UnreadableCheckpointError
from fairseq_ki.compat.patching import replace, show_module_with


def _load_to_resume(path: str, *args: Any, **kwargs: Any) -> dict[str, Any]:
    """``load_checkpoint_to_cpu`` for the trainer, which needs more parts than other readers."""
    try:
        # looked up here: what other patches make of it counts, too
        state = checkpoint_utils.load_checkpoint_to_cpu(path, *args, **kwargs)
        place = state["extra_state"]["train_iterator"]
        place["epoch"]
        for meters in state["extra_state"].get("metrics", {}).values():
            MetersDict().load_state_dict(meters)
    except (CheckpointError, OSError, MemoryError):
        raise
    except Exception as error:  # fairseq's upgrade of old checkpoints, omegaconf, meters
        said = f"{type(error).__name__}: {error}".splitlines()[0][:200]
        raise UnreadableCheckpointError(
            f"{path}: expected what fairseq-train writes, found a file from which training cannot "
            f"go on ({said}); give the original checkpoint"
        ) from error
    return state


def _with_finite_weights(original: Callable) -> Callable:
    def load_checkpoint(self, filename, *args, **kwargs):
        extra_state = original(self, filename, *args, **kwargs)
        if extra_state is not None:
            name = first_not_finite(self.get_model())
            if name is not None:
                raise CheckpointError(
                    f"{filename}: expected finite weights, found inf or nan in {name}; its "
                    "training diverged, so take an earlier checkpoint"
                )
        return extra_state

    return load_checkpoint


def first_not_finite(model: torch.nn.Module) -> str | None:
    """The name of a parameter with inf or NaN that training would use; None if there is none.

    A classifier made from one of transformers has an output layer for words of NaN, since it has
    none in truth; nothing that trains a classifier touches it.
    """
    named = dict(model.named_parameters())
    if any("classification_heads." in name for name in named):
        named = {name: p for name, p in named.items() if ".lm_head." not in f".{name}"}
    if not named:
        return None
    # one answer from the device for all of them
    finite = torch.stack([parameter.isfinite().all() for parameter in named.values()]).tolist()
    return next((name for name, fine in zip(named, finite) if not fine), None)


def refuse_what_cannot_be_resumed() -> bool:
    """Wraps what the trainer reads and what it has loaded."""
    reading = show_module_with(trainer, "checkpoint_utils", load_checkpoint_to_cpu=_load_to_resume)
    return replace(trainer.Trainer, "load_checkpoint", _with_finite_weights) or reading
