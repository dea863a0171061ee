"""Checks of ``fairseq-ki doctor``: a planned training, from its command line alone."""

import contextlib
import importlib
import io
import os
import re
import shlex
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from fairseq_ki.cli._doctor_machine import LAUNCHER, check_disk, check_store
from fairseq_ki.cli._findings import Finding

PROGRAM = re.compile(r"(.*/)?fairseq-train$|fairseq_cli\.train$|(.*/)?fairseq_cli/train\.py$")
_PROCESSES = re.compile(r"--(nproc[-_]per[-_]node|nnodes)(?:=(\d+))?$")
BYTES_PER_PARAMETER = 12  # weights and Adam's two moments in float32
CHECKPOINTS = 3  # the last, the best, and the one that is being written


def check_command(text: str | None) -> Iterator[Finding]:
    """What of a ``fairseq-train`` command will not work here; nothing of it is run."""
    if text is None:
        return
    launched, options = split_command(shlex.split(text))
    cfg, refusal = parsed(options)
    if refusal:
        yield Finding("command", refusal, "problem", "correct it; fairseq-train --help lists all")
        return
    yield from check_format(cfg)
    yield from check_ranks(cfg, launched, "--distributed-world-size" in " ".join(options))
    yield from check_disk(cfg.checkpoint.save_dir)
    yield from check_room(cfg)
    for store in filter(None, str(getattr(cfg.task, "ki_store", None) or "").split(os.pathsep)):
        yield from check_store(store)


def split_command(words: list[str]) -> tuple[int | None, list[str]]:
    """How many processes a launcher in front starts (None without one), and fairseq's options.

    Raises ValueError for a command of another program.
    """
    program = next((i for i, word in enumerate(words) if PROGRAM.match(word)), None)
    if program is None:
        raise ValueError(
            "--command: expected 'fairseq-train DATA ...', 'python -m fairseq_cli.train DATA ...' "
            f"or either after torchrun, found {' '.join(words)[:80]!r}"
        )
    launcher = words[:program]
    if not any(os.path.basename(word) == "torchrun" or "distributed" in word for word in launcher):
        return None, words[program + 1 :]
    launched = 1
    for i, word in enumerate(launcher):
        count = _PROCESSES.match(word)
        if count:
            value = count[2] or (launcher[i + 1] if i + 1 < len(launcher) else "")
            gpus = importlib.import_module("torch").cuda.device_count()
            # what torchrun makes of a word
            words_of_torchrun = {"gpu": gpus, "cpu": os.cpu_count(), "auto": gpus or os.cpu_count()}
            launched *= int(value) if value.isdecimal() else words_of_torchrun.get(value) or 1
    return launched, words[program + 1 :]


def parsed(options: list[str]) -> tuple[Any, str]:
    """fairseq's configuration, or the line with which it refuses the options."""
    fairseq_options = importlib.import_module("fairseq.options")
    convert = importlib.import_module("fairseq.dataclass.utils").convert_namespace_to_omegaconf
    said = io.StringIO()
    try:
        with contextlib.redirect_stderr(said), contextlib.redirect_stdout(said):
            parser = fairseq_options.get_training_parser()
            return convert(fairseq_options.parse_args_and_arch(parser, input_args=options)), ""
    except (SystemExit, ValueError, OSError) as error:
        lines = said.getvalue().strip().splitlines() or [str(error)]
        return None, lines[-1].partition("error: ")[2] or lines[-1]


def check_format(cfg: Any) -> Iterator[Finding]:
    """--fp16 and the like on the CPU."""
    compat = importlib.import_module("fairseq_ki.compat")
    try:
        importlib.import_module("fairseq_ki.compat.precision").check_precision(cfg)
    except compat.CompatError as error:
        yield Finding("number format", str(error), "problem", "drop it, or train on a GPU")


def check_ranks(cfg: Any, launched: int | None, explicit: bool) -> Iterator[Finding]:
    """Whether as many processes are started as the run waits for, and what one update sees."""
    compat = importlib.import_module("fairseq_ki.compat")
    cpu_ranks = importlib.import_module("fairseq_ki.compat.cpu_ranks")
    asked = cfg.distributed_training.distributed_world_size
    if explicit and launched is not None and asked != launched:
        yield Finding(
            "world size",
            f"the launcher starts {launched} processes, --distributed-world-size says {asked}: "
            "the run would wait for ranks that never come, or leave some out",
            "problem",
            "leave --distributed-world-size out: torchrun tells fairseq",
        )
        return
    on_cpu = cpu_ranks.runs_on_cpu(cfg)
    gpus = importlib.import_module("torch").cuda.device_count()
    if not on_cpu and explicit and launched is None and asked > gpus:
        yield Finding(
            "world size", f"--distributed-world-size {asked}, and {gpus} GPUs here", "problem",
            f"leave it out for all {gpus}, or start torchrun on every machine",
        )  # fmt: skip
        return
    try:
        with _environment(launched):
            cpu_ranks.connect_ranks(cfg)
    except compat.CompatError as error:
        yield Finding("world size", str(error), "problem", "use torchrun as it says")
        return
    ranks = launched or max(1, cfg.distributed_training.distributed_world_size)
    where = "CPU, joined by gloo" if on_cpu else "GPU"
    frequency = int(cfg.optimization.update_freq[0])
    batch = cfg.dataset.batch_size
    sees = f", {ranks} x {batch} x {frequency} = {ranks * batch * frequency} samples an update"
    yield Finding("world size", f"{ranks} rank(s) on the {where}{sees if batch else ''}")


@contextlib.contextmanager
def _environment(launched: int | None) -> Iterator[None]:
    """As the first process of a launcher would see it."""
    before = {name: os.environ.pop(name, None) for name in LAUNCHER}
    if launched is not None:
        os.environ |= dict(zip(LAUNCHER, ("localhost", "29500", str(launched), "0")))
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name, None)
            if value is not None:
                os.environ[name] = value


def check_room(cfg: Any) -> Iterator[Finding]:
    """Whether the disk takes the checkpoints of this model."""
    size = checkpoint_bytes(cfg)
    place = Path(cfg.checkpoint.save_dir).resolve()
    while not place.exists():
        place = place.parent
    free, needed = shutil.disk_usage(place).free, CHECKPOINTS * size
    found = f"about {size / 2**30:.2f} GiB each, {free / 2**30:.1f} GiB free"
    if size and needed > free:
        yield Finding(
            "checkpoints", found, "problem",
            f"make room for {CHECKPOINTS} of them (the last, the best, the one being written), and "
            "add --no-epoch-checkpoints --keep-interval-updates 1; or name another --save-dir",
        )  # fmt: skip
    elif size:
        yield Finding("checkpoints", found)


def checkpoint_bytes(cfg: Any) -> int:
    """Of a RoBERTa or a transformer_lm, from its sizes and dict.txt; 0 where these are unknown."""
    model = cfg.model
    side = "decoder" if hasattr(model, "decoder_layers") else "encoder"
    names = (f"{side}_layers", f"{side}_embed_dim", f"{side}_ffn_embed_dim")
    if not all(hasattr(model, name) for name in names):
        return 0
    layers, width, ffn = (int(getattr(model, name)) for name in names)
    dictionary = Path(str(cfg.task.data).split(os.pathsep)[0]) / "dict.txt"
    symbols = 0
    if dictionary.is_file():
        symbols = dictionary.read_bytes().count(b"\n")
    return BYTES_PER_PARAMETER * (symbols * width + layers * (4 * width**2 + 2 * width * ffn))
