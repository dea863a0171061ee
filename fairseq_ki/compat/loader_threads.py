"""A command that ends in the middle of an epoch ends cleanly.

fairseq reads ahead in a daemon thread. If the process exits while that thread is inside torch,
Python ends the thread by force, C++ calls ``std::terminate`` and the command aborts with status
-6 although its training was done and saved.
"""

import atexit
import queue
import time
import weakref
from collections.abc import Callable

from fairseq.data import iterators

from fairseq_ki.compat.patching import replace

_PATIENCE = 30.0  # seconds; a batch from slow storage may take a while

_consumers: weakref.WeakSet = weakref.WeakSet()


def _remembered(original: Callable) -> Callable:
    def start(self):
        _consumers.add(self)
        original(self)

    return start


def end_reading_ahead() -> None:
    """Ends the threads that read ahead: each stops at its next batch."""
    deadline = time.monotonic() + _PATIENCE
    for consumer in list(_consumers):
        consumer._max_len = 0  # it compares after every batch
        while consumer.is_alive() and time.monotonic() < deadline:
            try:
                consumer._queue.get(timeout=0.05)  # it may be waiting for room
            except queue.Empty:
                continue


def end_threads_before_exit() -> bool:
    """Exit handlers run while threads still can."""
    if not replace(iterators.BackgroundConsumer, "start", _remembered):
        return False
    atexit.register(end_reading_ahead)
    return True
