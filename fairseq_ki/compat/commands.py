"""What every fairseq command runs through before its own main function."""

from collections.abc import Callable

from fairseq.distributed import utils as distributed_utils

from fairseq_ki.compat.cpu_ranks import connect_ranks
from fairseq_ki.compat.host_refusals import refusal_of_the_host
from fairseq_ki.compat.lost_processes import lost_process
from fairseq_ki.compat.patching import replace
from fairseq_ki.compat.save_dirs import no_empty_folders


def _prepared(original: Callable) -> Callable:
    def call_main(cfg, main, **kwargs):
        try:
            connect_ranks(cfg)
            with no_empty_folders(cfg.checkpoint.save_dir):
                return original(cfg, main, **kwargs)
        except Exception as error:
            own = isinstance(error, ValueError) and raised_here(error)
            said = str(error) if own else lost_process(error) or refusal_of_the_host(error)
            if said is None:
                raise
            # one line for what a user can mend; a traceback would bury it
            raise SystemExit(f"error: {said}") from error

    return call_main


def raised_here(error: BaseException) -> bool:
    """True if this package's own code raised the error, and so worded it for the user."""
    innermost = error.__traceback__
    while innermost is not None and innermost.tb_next is not None:
        innermost = innermost.tb_next
    module = innermost.tb_frame.f_globals.get("__name__", "") if innermost else ""
    return module.partition(".")[0] == __name__.partition(".")[0]


def prepare_commands() -> bool:
    """Wraps ``call_main``, which all of them look up in its module after ``--user-dir``."""
    return replace(distributed_utils, "call_main", _prepared)
