"""How far a capture is: one line rewritten on a terminal, a line now and then elsewhere."""

import sys
import time
from typing import TextIO

from fairseq_ki.capture.forecast import duration

_REPEAT_SECONDS = 15.0


class Progress:
    """Counts what is done and tells the time left, from the pace of this session.

    Args:
        what: what is counted, as ``samples``.
        stream: default stderr, so that stdout stays for results.
    """

    def __init__(self, what: str, stream: TextIO | None = None) -> None:
        self.what = what
        self.stream = stream or sys.stderr
        self._live = self.stream.isatty()
        self._width = 0
        self.start(0, 0)

    def start(self, total: int, done: int) -> None:
        """There are so many, and so many of them were done before: the pace counts from here."""
        self.total = total
        self.done = self._before = done
        self._begun = self._shown = time.monotonic()

    def add(self, more: int) -> None:
        """So many more are done; shown if it is time to."""
        self.done += more
        now = time.monotonic()
        if now - self._shown >= (0.2 if self._live else _REPEAT_SECONDS):
            self._shown = now
            self._write(self.line(now), "" if self._live else "\n")

    def end(self) -> None:
        """The last line stays."""
        self._write(self.line(time.monotonic()), "\n")

    def line(self, now: float) -> str:
        """Counts, pace, time left."""
        parts = [f"{self.done:,}/{self.total:,} {self.what}"]
        elapsed, here = now - self._begun, self.done - self._before
        if here and elapsed > 0:
            pace = here / elapsed
            parts.append(f"{pace:,.1f}/s")
            if self.done < self.total:
                parts.append(f"{duration((self.total - self.done) / pace)} left")
        return " · ".join(parts)

    def _write(self, text: str, end: str) -> None:
        if self._live:
            text, self._width = "\r" + text.ljust(self._width), len(text)
        self.stream.write(text + end)
        self.stream.flush()
