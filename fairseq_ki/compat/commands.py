"""What every fairseq command runs through before its own main function."""

from collections.abc import Callable

from fairseq.distributed import utils as distributed_utils

from fairseq_ki.compat.cpu_ranks import connect_ranks
from fairseq_ki.compat.patching import CompatError, replace


def _prepared(original: Callable) -> Callable:
    def call_main(cfg, main, **kwargs):
        try:
            connect_ranks(cfg)
            return original(cfg, main, **kwargs)
        except CompatError as error:
            # one line for what a user can mend; a traceback would bury it
            raise SystemExit(f"error: {error}") from error

    return call_main


def prepare_commands() -> bool:
    """Wraps ``call_main``, which all of them look up in its module after ``--user-dir``."""
    return replace(distributed_utils, "call_main", _prepared)
