"""How much compiled code torch's library for CPU layers (oneDNN) keeps."""

import os

_SETTING = "ONEDNN_PRIMITIVE_CACHE_CAPACITY"

# Shapes per process: several times those of a model whose batches are full, so that only rare
# ones are compiled again, which costs nothing that can be measured.
_SHAPES = "128"


def bound_kernel_cache() -> bool:
    """Keeps the last 128 shapes unless the user has said how many.

    The library reads this when it is first used, which is after the options are parsed.
    """
    if _SETTING in os.environ:
        return False
    os.environ[_SETTING] = _SHAPES
    return True
