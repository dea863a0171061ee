"""Training logs of ``fairseq-train --log-format json`` as curves over updates.

Both forms are read: what fairseq prints (``2026-01-31 ... | INFO | valid | {...}``) and the
bare lines of its ``--log-file``, which names no tag and repeats each line once more with every
epoch. The kind of a line is therefore told from its keys.
"""

import json
import math
from bisect import bisect_left
from collections.abc import Iterable
from datetime import datetime
from pathlib import Path

# fairseq prints its configuration first, in both forms of the log, whenever it starts
_SESSION_START = "{'_name': None, 'common': "
_DONE = "| done training in "
_MOST_UPDATES = 10**15  # more are no count, and their sums no numbers
# of a criterion that logs neither
_NOT_VALIDATED = {"loss": math.nan, "ppl": math.nan}


class TrainingLog:
    """Curves of one run, fed line by line; a run may have been resumed several times.

    Attributes:
        train: one record per log interval, ``{"updates": ..., "loss": ..., "ki_rate": ...}``,
            values as floats in fairseq's units (losses in bits), ``updates`` an int.
        valid: per subset, one record per validation, ``{"updates": ..., "loss", "ppl", ...}``;
            these two are always there, nan where the log lacks them.
        done: the last session ended by itself.
    """

    def __init__(self) -> None:
        self.train: list[dict] = []
        self.valid: dict[str, list[dict]] = {}
        self.done = False
        self._new_session = False
        self._newest = 0
        self._wall_before = 0.0
        self._session_began: datetime | None = None

    def feed(self, line: str) -> dict | None:
        """Take one line; returns its record, or None where it holds none (or is cut off)."""
        if _SESSION_START in line:
            self._new_session = True
            self._session_began = _stamp(line)
            self.done = False
        elif _DONE in line:
            self.done = True
        start = line.find('{"')
        if start < 0:
            return None
        try:
            stats = json.loads(line[start:])
        except (ValueError, RecursionError):  # killed while it wrote; or no line of fairseq's
            return None
        kind, record = _record(stats)
        if kind is None:
            return None
        self._resumed_at(record["updates"])
        if "wall" in record:  # fairseq's clock starts anew in every session
            record["wall"] = self._wall_before + self._session_wall(record["wall"], line)
        if kind != "epoch":  # averages over an epoch: the intervals say more
            curve = self.train if kind == "train" else self.valid.setdefault(kind, [])
            if curve and curve[-1]["updates"] == record["updates"]:
                curve[-1] = record
            else:
                curve.append(record)
        return record

    def _resumed_at(self, updates: int) -> None:
        """Forget what a resumed run does again."""
        if self._new_session or updates < self._newest:
            for curve in (self.train, *self.valid.values()):
                while curve and curve[-1]["updates"] >= updates:
                    curve.pop()
            self._wall_before = self.train[-1].get("wall", 0.0) if self.train else 0.0
            self._newest = updates
        self._new_session = False
        self._newest = max(self._newest, updates)

    def _session_wall(self, wall: float, line: str) -> float:
        # after it has loaded a checkpoint, fairseq's clock stands still at 0
        if wall or not self._wall_before:
            return wall
        now, began = _stamp(line), self._session_began
        return max(0.0, (now - began).total_seconds()) if now and began else math.nan

    @property
    def updates(self) -> int:
        """The newest update that any line tells of."""
        return self._newest

    def wall_at(self, updates: float) -> float:
        """Seconds of training until ``updates``, over all sessions; nan where not logged."""
        points = [(r["updates"], r["wall"]) for r in self.train if "wall" in r]
        if not points:
            return math.nan
        return interpolate([(0, 0.0), *points], updates)

    def columns(self, curve: list[dict]) -> dict[str, list]:
        """Records as lists, one per name; nan where a record lacks the name."""
        names = list(dict.fromkeys(name for record in curve for name in record))
        return {name: [record.get(name, math.nan) for record in curve] for name in names}


def read_log(path: str | Path) -> TrainingLog:
    """Parse a training log.

    Raises:
        ValueError: if it holds no record of training or validation.
    """
    with open(path, encoding="utf-8", errors="replace") as lines:
        return parse_log(lines, str(path))


def ended(path: Path, updates: int) -> bool:
    """Whether a log tells of a training that ended by itself, after so many updates."""
    try:
        log = read_log(path)
    except (FileNotFoundError, ValueError):
        return False
    return log.done and log.updates >= updates


def parse_log(lines: Iterable[str], name: str = "log") -> TrainingLog:
    """The same for lines in memory; ``name`` is what an error calls them."""
    log = TrainingLog()
    for line in lines:
        log.feed(line)
    if not log.train and not log.valid:
        raise ValueError(
            f"{name}: expected JSON lines of training or validation, found none; "
            "was it written by fairseq-train with --log-format json?"
        )
    return log


def interpolate(points: list[tuple[float, float]], x: float) -> float:
    """Piecewise linear through (x, y) points in order of x; constant beyond both ends."""
    i = bisect_left(points, x, key=lambda point: point[0])
    if i == 0:
        return points[0][1]
    if i == len(points):
        return points[-1][1]
    (x0, y0), (x1, y1) = points[i - 1], points[i]
    return y0 + (y1 - y0) * (x - x0) / (x1 - x0)


def _stamp(line: str) -> datetime | None:
    """The time that fairseq wrote a line at, to the second; its ``--log-file`` has none."""
    try:
        return datetime.strptime(line[:19], "%Y-%m-%d %H:%M:%S")
    except ValueError:
        return None


def _record(stats: dict) -> tuple[str | None, dict]:
    """('train' | 'epoch' | subset, record without the subset's prefix), or (None, {})."""
    if "num_updates" in stats:
        kind, prefix = "train", ""
    else:
        counted = [key for key in stats if key.endswith("_num_updates")]
        if not counted:
            return None, {}
        kind = counted[0].removesuffix("_num_updates")
        prefix = kind + "_"
        if kind == "train":
            kind = "epoch"
    try:
        updates = int(float(stats[prefix + "num_updates"]))
    except (TypeError, ValueError, OverflowError):
        return None, {}
    if not 0 <= updates <= _MOST_UPDATES:
        return None, {}
    record: dict = {"updates": updates}
    for key, value in stats.items():
        name = key.removeprefix(prefix)
        if name not in ("num_updates", "update"):  # `update` counts epochs
            try:
                record[name] = float(value)
            except (TypeError, ValueError, OverflowError):
                continue
    if kind not in ("train", "epoch"):
        record = {**_NOT_VALIDATED, **record}
    return kind, record
