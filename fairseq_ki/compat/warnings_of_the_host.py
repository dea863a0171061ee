"""Warnings that speak to fairseq's authors, at every start of every command.

Each is named by its own words: nothing else is hidden, and a user can act on none of these.
"""

import warnings

# category, beginning of the message
SILENCED: tuple[tuple[type[Warning], str], ...] = (
    (FutureWarning, r"`torch\.cuda\.amp\.(autocast|GradScaler)\(args\.\.\.\)` is deprecated"),
    (FutureWarning, r"`broadcast_buffers` is deprecated"),
    (UserWarning, r"hydra\.experimental\.(initialize|compose)\(\) is no longer experimental"),
    (UserWarning, r"\s*The version_base parameter is not specified"),
    (UserWarning, r"In '.*': Usage of deprecated keyword in package header"),
    (UserWarning, r"\s*'config' is validated against ConfigStore schema with the same name"),
    (UserWarning, r"\s*The strict flag in the compose API is deprecated"),
    (UserWarning, r"'pin_memory' argument is set as true but no accelerator is found"),
    (UserWarning, r"Support for mismatched key_padding_mask and attn_mask is deprecated"),
)


def silence_warnings() -> bool:
    """Adds one filter for each of :data:`SILENCED`; False if all are there."""
    # a filter is (action, pattern of the message, category, module, line)
    present = {(getattr(f[1], "pattern", None), f[2]) for f in warnings.filters if f[0] == "ignore"}
    missing = [(c, m) for c, m in SILENCED if (m, c) not in present]
    for category, message in missing:
        warnings.filterwarnings("ignore", message=message, category=category)
    return bool(missing)
