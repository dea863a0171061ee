"""One training or probe at a time; what is finished is read back, what was cut off goes on."""

import hashlib
import json
import os
import time
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

import numpy as np

from fairseq_ki.compat.checkpoint_reading import num_updates
from fairseq_ki.downstream import probing, training
from fairseq_ki.downstream.predicting import predict, write_predictions
from fairseq_ki.downstream.preparing import Prepared
from fairseq_ki.downstream.pretrained import Pretrained
from fairseq_ki.downstream.reading import DEV
from fairseq_ki.downstream.request import Request
from fairseq_ki.downstream.training import Setting
from fairseq_ki.evaluation.downstream import SeedScores, SettingScores, tenths
from fairseq_ki.evaluation.logs import ended, read_log
from fairseq_ki.evaluation.metrics import TITLES
from fairseq_ki.evaluation.whole_files import read_note, write_json
from fairseq_ki.experiments.process import RunError, delete_run, run_logged
from fairseq_ki.experiments.progress import Progress

STARTED, DONE = "started.json", "done.json"
LOG, PREDICTIONS = "train.log", "predictions.jsonl"


def changed(request: Request, pretrained: Pretrained, prepared: Prepared) -> bool:
    """Whether a run that is asked for was made otherwise before, and so is to be repeated.

    Raises:
        ValueError: naming the first such run, if it may not be repeated, or a folder that
            something else has filled.
    """
    repeated = False
    for folder, signature in _asked(request, pretrained, prepared):
        started = read_note(folder / STARTED, {"signature": str})
        if started is None:
            if foreign := sorted(p.name for p in folder.glob("*") if p.suffix != ".tmp"):
                raise ValueError(
                    f"{folder}: expected an empty folder or a run of this command, found "
                    f"{foreign[:5]}; move it away or choose another --out"
                )
        elif started["signature"] != signature:
            if not request.redo_changed:
                raise ValueError(
                    f"{folder}: expected a run of this command, found one with other options, "
                    "data or checkpoint. Repeat it with --redo-changed, which deletes it first, "
                    "or choose another --out"
                )
            repeated = True
    return repeated


def _asked(
    request: Request, pretrained: Pretrained, prepared: Prepared
) -> Iterator[tuple[Path, str]]:
    """Folder and signature of every run."""
    if request.probe is not None:
        for strength in probing.STRENGTHS:
            yield _probe(request, pretrained, prepared, strength)
        return
    for setting, seed in request.runs(prepared.data.task):
        run = TrainingRun(request, pretrained, prepared, setting, seed)
        yield run.folder, run.signature


def trained(request: Request, pretrained: Pretrained, prepared: Prepared) -> list[SettingScores]:
    """Every setting of the grid with every seed."""
    task = prepared.data.task
    runs = list(request.runs(task))
    grid: dict[Setting, SettingScores] = {}
    for number, (setting, seed) in enumerate(runs, 1):
        title = f"[{number}/{len(runs)}] {task.title}, lr {setting.lr:g}, batch "
        title += f"{setting.batch_size}, seed {seed}"
        scores = TrainingRun(request, pretrained, prepared, setting, seed).done(title)
        grid.setdefault(setting, SettingScores(asdict(setting), [])).runs.append(scores)
    return list(grid.values())


class TrainingRun:
    """One training, resumable, with its predictions."""

    def __init__(
        self,
        request: Request,
        pretrained: Pretrained,
        prepared: Prepared,
        setting: Setting,
        seed: int,
    ) -> None:
        self.request, self.prepared, self.seed = request, prepared, seed
        name = f"{setting.name}-seed{seed}"
        self.folder = request.out / prepared.data.task.name / name
        words = training.options(prepared, pretrained, setting, seed, request.how)
        self.per_epoch = training.updates_per_epoch(prepared, setting, request.how)
        self.total = self.per_epoch * request.how.epochs
        self.command = training.command(words, prepared, pretrained, request.how, self.folder)
        self.signature = _signature(words, pretrained.sha256, prepared.signature)

    def done(self, title: str) -> SeedScores:
        """Train and predict, as far as that is not done."""
        progress = Progress(title, self.total)
        earlier = _earlier(self.folder, self.signature)
        if earlier is not None:
            progress.end("done before")
            return earlier
        log, checkpoint = self.folder / LOG, self.folder / "checkpoint_best.pt"
        # else only this process was gone before it could predict
        if not (checkpoint.is_file() and ended(log, self.total)):
            self._train(log, progress)
        if not checkpoint.is_file():  # no score was better than none at all
            raise self._diverged(title)
        read = read_log(log)
        outputs = predict(checkpoint, self.prepared, self.request.how.cpu)
        if not all(np.isfinite(values).all() for values in outputs.values()):
            raise self._diverged(title)
        scores = SeedScores(
            seed=self.seed,
            scores=write_predictions(self.folder / PREDICTIONS, self.prepared, outputs),
            epoch=num_updates(checkpoint) // self.per_epoch,
            seconds=read.wall_at(read.updates),
            folder=os.path.relpath(self.folder, self.request.out),
        )
        write_json(self.folder / DONE, {"signature": self.signature, "scores": asdict(scores)})
        if not self.request.keep_checkpoints:
            for file in self.folder.glob("checkpoint*.pt"):
                file.unlink()
        metric = self.prepared.data.task.metric
        value = 100 * scores.scores[DEV][metric]
        progress.end(f"done · dev {TITLES[metric]} {tenths(value)} (epoch {scores.epoch})")
        return scores

    def _train(self, log: Path, progress: Progress) -> None:
        try:
            run_logged(self.command, log, progress)
        except RunError as e:
            with open(log, encoding="utf-8", errors="replace") as lines:
                if any(line.startswith("FloatingPointError") for line in lines):
                    raise self._diverged(progress.title) from e
            raise

    def _diverged(self, title: str) -> RunError:
        return RunError(
            f"{title}: expected finite numbers, found NaN or infinity: the training diverged (see "
            f"{self.folder / LOG}). Leave this learning rate out of --lr, or take a smaller one"
        )


def probed(
    request: Request, pretrained: Pretrained, prepared: Prepared, pooling: str
) -> list[SettingScores]:
    """Every strength of regularisation; the features are made once, if they are needed."""
    found: list[SettingScores] = []
    features = None
    for strength in probing.STRENGTHS:
        folder, signature = _probe(request, pretrained, prepared, strength)
        scores = _earlier(folder, signature)
        if scores is None:
            begun = time.monotonic()
            if features is None:
                features = probing.features(prepared, pretrained, pooling, request.how.cpu)
            outputs = probing.fit(prepared, features, strength)
            written = write_predictions(folder / PREDICTIONS, prepared, outputs)
            seconds = time.monotonic() - begun
            scores = SeedScores(1, written, 0, seconds, os.path.relpath(folder, request.out))
            write_json(folder / DONE, {"signature": signature, "scores": asdict(scores)})
        found.append(SettingScores({"C": strength}, [scores]))
    return found


def _probe(
    request: Request, pretrained: Pretrained, prepared: Prepared, strength: float
) -> tuple[Path, str]:
    """Folder and signature of the linear model with this strength."""
    task = prepared.data.task
    folder = request.out / task.name / f"{request.method}-C{strength:g}"
    words = [request.method, f"C={strength:g}", *task.metrics]
    return folder, _signature(words, pretrained.sha256, prepared.signature)


def _signature(words: list[str], *hashes: str) -> str:
    return hashlib.sha256(json.dumps([words, *hashes]).encode()).hexdigest()


def _earlier(folder: Path, signature: str) -> SeedScores | None:
    """The scores of a finished run; otherwise its folder is ready for this one."""
    started = read_note(folder / STARTED, {"signature": str})
    if started is not None and started["signature"] == signature:
        done = read_note(folder / DONE, {"scores": dict})
        return None if done is None else _scores(done["scores"], folder / DONE)
    if started is not None:  # the request allows that: see changed()
        delete_run(folder)
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / STARTED, {"signature": signature})
    return None


def _scores(record: dict, file: Path) -> SeedScores:
    try:
        return SeedScores(**record)
    except TypeError as e:
        raise ValueError(
            f"{file}: expected the scores of one run, found {sorted(record)} ({e}); move "
            f"{file.parent} away to repeat it"
        ) from None
