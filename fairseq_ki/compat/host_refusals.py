"""What fairseq refuses in its own words, with a traceback: one line, and what mends it."""

import errno
import re

# fairseq's message -> what to do. Only what a user can cause; all else keeps its traceback.
MENDS = (
    (
        r"Cannot load model parameters from checkpoint \S+; please ensure that the architectures "
        r"match",
        "Give the --arch and sizes that it was trained with, or another checkpoint; a new model "
        "needs a --save-dir of its own",
    ),
    (
        r"\w+ does not match; please reset the optimizer \(--reset-optimizer\)\..*",
        "Give the checkpoint to --finetune-from-model, or add --reset-optimizer "
        "--reset-lr-scheduler --reset-meters --reset-dataloader",
    ),
    (
        r"Cannot resume training due to dataloader mismatch.*",
        "The checkpoint has seen more batches of its epoch than there are now: give the data, "
        "--batch-size and number of processes that it was trained with, or --reset-dataloader",
    ),
    (r"--finetune-from-model \S+ does not exist", "Correct the path"),
    (r"Model file not found: .*", "Correct --path"),
    (
        r"Must specify batch size either with --max-tokens or --batch-size",
        "Add --batch-size, in samples",
    ),
    (r"Seed must be between 0 and 2\*\*32 - 1", "Correct --seed"),
    (r"num_workers option should be non-negative", "Correct --num-workers"),
    (
        r"embed_dim must be divisible by num_heads",
        "Choose attention heads that divide the model's width",
    ),
    (r"dropout probability has to be between 0 and 1, but got \S+", "Correct the dropout"),
)
# what another path or other rights mend; a full disk is not among them
_PATHS = (
    errno.ENOENT,
    errno.EACCES,
    errno.EPERM,
    errno.ENOTDIR,
    errno.EISDIR,
    errno.EEXIST,
    errno.EROFS,
    errno.ELOOP,
    errno.ENAMETOOLONG,
)
_KNOWN = tuple((re.compile(pattern), mend) for pattern, mend in MENDS)


def refusal_of_the_host(error: BaseException) -> str | None:
    """The line for an error of fairseq's that the user can mend; None for any other."""
    text = " ".join(str(error).split())
    for pattern, mend in _KNOWN:
        if pattern.match(text):
            return f"{text.rstrip('.')}{_reason(error)}. {mend}."
    if isinstance(error, OSError) and error.errno in _PATHS and error.filename is not None:
        return f"{error.filename}: {error.strerror}. Correct the path, or the right to use it."
    return None


def _reason(error: BaseException) -> str:
    """The first line of what fairseq caught before it raised its own, where it says more."""
    cause = error.__cause__ or error.__context__
    lines = [line.strip() for line in str(cause or "").splitlines() if line.strip()]
    # torch's list of what does not fit has a title
    reason = next((line for line in lines if not line.startswith("Error(s) in loading")), "")
    return f" ({reason[:300]})" if reason else ""
