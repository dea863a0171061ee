"""The only code that patches fairseq, or that looks at versions of fairseq and torch.

``apply()`` runs when ``--user-dir fairseq_ki`` is imported. fairseq does that while it parses
the options, before a command's main function runs, so functions that commands look up in their
modules can still be replaced. :data:`PATCHES` lists every deviation with its reason.
"""

import logging

# said by fairseq at every import, about a writer that its language models do not use
logging.getLogger("fairseq.tasks.text_to_speech").setLevel(logging.WARNING)

from fairseq_ki.compat import (  # noqa: E402
    checkpoint_reading,
    checkpoint_recovery,
    checkpoint_resuming,
    checkpoint_writing,
    commands,
    config_literals,
    cpu_ranks,
    finished_runs,
    kernel_cache,
    loader_threads,
    numpy_names,
    precision,
    warnings_of_the_host,
)
from fairseq_ki.compat.checkpoint_reading import (  # noqa: E402
    CheckpointError,
    UnreadableCheckpointError,
    UnsafeCheckpointError,
    load_checkpoint,
    load_structure,
)
from fairseq_ki.compat.checkpoint_writing import (  # noqa: E402
    CheckpointWriteError,
    copy_whole,
    write_together,
    write_whole,
)
from fairseq_ki.compat.patching import CompatError, Patch  # noqa: E402

__all__ = [
    "PATCHES",
    "CheckpointError",
    "CheckpointWriteError",
    "CompatError",
    "UnreadableCheckpointError",
    "UnsafeCheckpointError",
    "active_patches",
    "apply",
    "copy_whole",
    "load_checkpoint",
    "load_structure",
    "write_together",
    "write_whole",
]

PATCHES = (
    Patch(
        "namespaces in checkpoints",
        "torch >= 2.6 refuses fairseq's checkpoints, which hold an argparse.Namespace",
        checkpoint_reading.allow_namespaces,
    ),
    Patch(
        "safe checkpoint reading",
        "a checkpoint may run code when it is loaded, and a damaged one fails without a name",
        checkpoint_reading.read_checkpoints_safely,
    ),
    Patch(
        "safe broadcast of checkpoints",
        "torch >= 2.6 refuses what rank 0 sends to the other ranks when they resume",
        checkpoint_reading.read_broadcasts_safely,
    ),
    Patch(
        "no eval of configurations",
        "fairseq evaluates strings from a checkpoint's configuration as Python",
        config_literals.evaluate_only_literals,
    ),
    Patch(
        "whole checkpoints",
        "fairseq copies onto checkpoint_last.pt in place, and retries on a full disk",
        checkpoint_writing.write_checkpoints_whole,
    ),
    Patch(
        "recovery of checkpoint_last.pt",
        "fairseq stops at a damaged checkpoint_last.pt although older ones are good, starts from "
        "scratch if --restore-file names no file, and with --reset-dataloader forgets the task's "
        "state",
        checkpoint_recovery.resume_from_readable_checkpoints,
    ),
    Patch(
        "refusal of what cannot be resumed",
        "a checkpoint with a part missing or weights of NaN ends a run in a traceback",
        checkpoint_resuming.refuse_what_cannot_be_resumed,
    ),
    Patch(
        "finished runs",
        "a run that is started again after its --max-update makes one more update each time",
        finished_runs.leave_finished_runs,
    ),
    Patch(
        "connected ranks on the CPU",
        "under torchrun without GPUs fairseq trains unconnected copies",
        cpu_ranks.connect_launched_ranks,
    ),
    Patch(
        "pytorch_ddp on the CPU",
        "fairseq passes a GPU number, which torch refuses for CPU modules",
        cpu_ranks.let_pytorch_ddp_run_on_cpu,
    ),
    Patch(
        "all_gather_list on the CPU",
        "fairseq gathers lists through CUDA tensors",
        cpu_ranks.gather_lists_on_cpu,
    ),
    Patch(
        "no fp16 on the CPU",
        "--fp16 fails deep in fairseq without CUDA, and --amp does nothing",
        precision.refuse_fp16_on_cpu,
    ),
    Patch(
        "bf16 without a TPU",
        "fairseq takes --bf16 to mean a TPU",
        precision.separate_bf16_from_tpu,
    ),
    Patch(
        "np.compat",
        "numpy 2 has no np.compat, which --sample-break-mode eos uses",
        numpy_names.restore_numpy_compat,
    ),
    Patch(
        "errors in one line",
        "what a user can mend ends a command without a traceback",
        commands.prepare_commands,
    ),
    Patch(
        "clean exit in mid-epoch",
        "the thread that reads batches ahead can make the process abort when it exits",
        loader_threads.end_threads_before_exit,
    ),
    Patch(
        "bounded cache of CPU kernels",
        "the code of 1,024 shapes is kept by default, and batches whose rows vary fill that for "
        "thousands of updates, as a leak would",
        kernel_cache.bound_kernel_cache,
    ),
    Patch(
        "quiet start",
        "fairseq's use of old torch and hydra functions prints warnings at every start",
        warnings_of_the_host.silence_warnings,
    ),
)

_active: dict[str, str] = {}


def apply() -> None:
    """Puts every patch in place that the host needs; a second call changes nothing."""
    for patch in PATCHES:
        if patch.name not in _active and patch.install():
            _active[patch.name] = patch.reason


def active_patches() -> list[tuple[str, str]]:
    """The (name, reason) of each patch that changed something."""
    return list(_active.items())
