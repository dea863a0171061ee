"""One line that says how far a run is, rewritten on a terminal, repeated now and then elsewhere."""

import math
import shutil
import sys
import time
from typing import TextIO

from fairseq_ki.evaluation.logs import TrainingLog

REPEAT_SECONDS = 15.0


class Progress:
    """Fed with the lines that a run writes to its log.

    Args:
        title: what runs, ``[2/9] student, seed 1``.
        total: its updates, if known; without it the newest line of the log is shown.
        stream: default stdout.
    """

    def __init__(self, title: str, total: int | None, stream: TextIO | None = None) -> None:
        self.title, self.total = title, total
        self.stream = stream or sys.stdout
        self.live = self.stream.isatty()
        self.log = TrainingLog()
        self.newest_line = ""
        self.begun = time.monotonic()
        self._first: tuple[float, int] | None = None  # where this session's speed counts from
        self._last_shown = self.begun
        self._width = 0

    def remember(self, line: str) -> None:
        """A line of an earlier session: it says where the run stands, not how fast it is."""
        self.log.feed(line)

    def feed(self, line: str) -> None:
        """A line that the run has just written."""
        self.newest_line = line.strip() or self.newest_line
        if self.log.feed(line) and self._first is None:
            self._first = (time.monotonic(), self.log.updates)

    def tick(self) -> None:
        """Show the line if it is time to."""
        now = time.monotonic()
        if self.live:
            width = shutil.get_terminal_size().columns - 1
            text = self.line(now)[:width]
            self.stream.write("\r" + text.ljust(self._width))
            self._width = len(text)
            self.stream.flush()
        elif now - self._last_shown >= REPEAT_SECONDS:
            self._last_shown = now
            print(self.line(now), file=self.stream, flush=True)

    def end(self, text: str) -> None:
        """Replace the live line by a last word on this run."""
        start = "\r" if self.live else ""
        print(start + f"{self.title}: {text}".ljust(self._width), file=self.stream, flush=True)

    def standing(self) -> str:
        """Update, PPL and inheritance rate, as far as the log tells; empty before the first."""
        log = self.log
        if not log.updates:
            return ""
        parts = [f"update {log.updates:,}" + (f"/{self.total:,}" if self.total else "")]
        newest_train = log.train[-1] if log.train else {}
        validations = next(iter(log.valid.values()), None)
        if validations and math.isfinite(validations[-1]["ppl"]):  # regression has none
            newest = validations[-1]
            parts.append(f"valid PPL {newest['ppl']:g} at {newest['updates']:,}")
        elif "ppl" in newest_train:
            parts.append(f"train PPL {newest_train['ppl']:g}")
        if validations and "score" in validations[-1]:  # of fine-tuning
            parts.append(f"dev score {100 * validations[-1]['score']:.1f}")
        if "ki_rate" in newest_train:
            parts.append(f"rate {newest_train['ki_rate']:.2f}")
        return " · ".join(parts)

    def line(self, now: float) -> str:
        """Where the run stands, its speed, and the time left, as far as known."""
        parts = [self.standing()]
        updates = self.log.updates
        if not updates:
            parts = [f"started {_clock(now - self.begun)} ago"]
            if not self.total:  # not a training: its own words say how far it is
                parts.append(self.newest_line)
        if self._first and updates > self._first[1]:
            pace = (now - self._first[0]) / (updates - self._first[1])
            parts.append(f"{pace:.2f} s/update")
            if self.total:
                parts.append(f"{_clock(pace * max(0, self.total - updates))} left")
        return f"{self.title}: " + " · ".join(part for part in parts if part)


def _clock(seconds: float) -> str:
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
