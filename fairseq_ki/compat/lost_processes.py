"""What a run says when another of its processes has died."""

import re

# in gloo's words, in NCCL's, and in those of the store through which ranks meet
_LOST_RANK = re.compile(
    r"(gloo|NCCL|TCPStore|socket).*"
    r"(closed by peer|reset by peer|broken pipe|remote process exited|failed to recv)",
    re.IGNORECASE,
)
_LOST_WORKER = re.compile(r"DataLoader worker \(pid.*?\) (exited unexpectedly|is killed by signal)")


def lost_process(error: BaseException) -> str | None:
    """One line about the process whose death ``error`` comes from; None for any other error."""
    if not isinstance(error, RuntimeError):  # as all of torch's are
        return None
    text = " ".join(str(error).split())
    if _LOST_WORKER.search(text):
        return (
            f"a loader worker has ended ({text[:120].rstrip('.')}). Most often the system took it "
            "because memory or /dev/shm was full: try fewer --num-workers. The same command goes "
            "on from the last checkpoint."
        )
    if _LOST_RANK.search(text):
        return (
            f"another rank of this run has ended, and so this one does ({text[:160]}). Why is in "
            "that rank's own output. The same command goes on from the last checkpoint."
        )
    return None
