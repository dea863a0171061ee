"""The thread that reads ahead is ended before the process is."""

import time

from fairseq.data.iterators import BufferedIterator

from fairseq_ki import compat
from fairseq_ki.compat.loader_threads import end_reading_ahead


def slow_batches(n):
    class Batches(list):
        def __iter__(self):
            for item in range(n):
                time.sleep(0.01)
                yield item

    return Batches(range(n))


def test_reading_ahead_ends_whether_it_waits_or_works():
    compat.apply()
    waiting, working = (BufferedIterator(size, slow_batches(1000)) for size in (1, 900))
    assert next(waiting) == next(working) == 0
    begun = time.monotonic()
    end_reading_ahead()
    assert time.monotonic() - begun < 5
    assert not waiting._consumer.is_alive()
    assert not working._consumer.is_alive()
