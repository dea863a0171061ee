"""A process that has imported torch and fairseq, and forks for every training that it is told of.

The child runs the command's own entry point, ``fairseq_cli.train.cli_main``; what is watched in it
is of :mod:`harness.watching`, what happens to it of :mod:`harness.faults`.
"""

import json
import os
import signal
import sys
import time

from harness.faults import Fault, inject
from harness.watching import gauge_epochs, trace_updates


def serve() -> dict | None:
    """The parent of all trainings. Returns in the children, with what to do."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what the imports print is no answer
    import fairseq_cli.train  # noqa: F401  # first: it sets up the log that fairseq writes
    import fairseq.options  # isort: skip
    import torch._dynamo  # noqa: F401  # every torch optimizer imports it, for two seconds

    import fairseq_ki  # noqa: F401

    fairseq.options.get_training_parser()  # and what it imports
    for line in sys.stdin:
        request = json.loads(line)
        children = {}
        for number, spec in enumerate(request["specs"]):
            pid = os.fork()
            if pid == 0:
                return spec
            children[pid] = number
        print(json.dumps(_wait(children, request)), file=answers, flush=True)
    return None


def _wait(children: dict[int, int], request: dict) -> list[list[float]]:
    start = time.monotonic()
    patience = request["kill_after"] or request["timeout"]
    ended: list = [None] * len(children)
    left = dict(children)
    while left:
        pid, status = os.waitpid(-1, os.WNOHANG)
        now = time.monotonic() - start
        if pid in left:
            ended[left.pop(pid)] = [os.waitstatus_to_exitcode(status), now]
        elif pid == 0:
            time.sleep(0.01)
        if now > patience:
            for late in left:
                os.kill(late, signal.SIGKILL)
            patience = float("inf")
    return ended


def train(spec: dict) -> None:
    """In the child: the command as its entry point runs it."""
    log = os.open(spec["log"], os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    for descriptor, target in ((log, 1), (log, 2), (os.open(os.devnull, os.O_RDONLY), 0)):
        os.dup2(descriptor, target)
    os.environ.update(spec["env"])
    sys.argv = [spec["command"], *spec["arguments"]]
    if spec["command"] == "fairseq-ki":
        from fairseq_ki.cli.main import main

        sys.exit(main(spec["arguments"]))
    if spec["trace"]:
        trace_updates(spec["trace"])
    if spec["gauge"]:
        gauge_epochs(spec["gauge"])
    if spec["fault"]:
        inject(Fault(**spec["fault"]))
    if spec["slow_reads"]:
        read = os.pread

        def slow(*arguments):
            time.sleep(spec["slow_reads"])
            return read(*arguments)

        os.pread = slow
    from fairseq_cli.train import cli_main

    cli_main()


if __name__ == "__main__":
    task = serve()
    if task is not None:
        train(task)
