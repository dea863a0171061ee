"""Names that numpy 2 took away and that text data reaches.

Of those left in the host, ``np.compat.long`` is the one in the way of language models:
``--sample-break-mode eos``, and every sentence given to ``fairseq-interactive``. The others
(``np.int``, ``np.float``) stand in functions for speech and images alone.
"""

import types

import numpy as np
from fairseq.data import language_pair_dataset, token_block_dataset

from fairseq_ki.compat.patching import show_module_with


def restore_numpy_compat() -> bool:
    """Gives two files of the host the old name; numpy itself is left alone."""
    if hasattr(np, "compat"):
        return False
    compat = types.SimpleNamespace(long=int)
    blocks = show_module_with(token_block_dataset, "np", compat=compat)
    return show_module_with(language_pair_dataset, "np", compat=compat) or blocks
