"""``fairseq-ki finetune`` on tiny tasks, with fairseq-train in this process."""

import json
import logging
import random

import pytest
from fairseq import checkpoint_utils, options
from fairseq.dataclass.utils import convert_namespace_to_omegaconf
from fairseq_cli import train as fairseq_train_cli

from fairseq_ki.cli.main import main
from fairseq_ki.downstream import runs

GOOD, BAD = "fine good great nice warm".split(), "bad dull poor sad weak".split()


def _run_here(command, log, progress):
    """Stands for run_logged: fairseq-train in this process, which spares its start."""
    assert command[1:3] == ["-m", "fairseq_cli.train"]
    parser = options.get_training_parser()
    cfg = convert_namespace_to_omegaconf(options.parse_args_and_arch(parser, command[3:]))
    checkpoint_utils.save_checkpoint.__dict__.pop("best", None)
    handler = logging.FileHandler(log)
    handler.setFormatter(logging.Formatter("%(asctime)s | %(levelname)s | %(name)s | %(message)s"))
    loggers = [logging.getLogger(name) for name in ("fairseq", "fairseq_cli")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.addHandler(handler)
        logger.setLevel(logging.INFO)
    try:
        fairseq_train_cli.main(cfg)
    finally:
        for logger, level in zip(loggers, levels):
            logger.removeHandler(handler)
            logger.setLevel(level)


def _write_rows(file, rows):
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))


@pytest.fixture(scope="session")
def run_here():
    return _run_here


@pytest.fixture(scope="session")
def write_rows():
    return _write_rows


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Three moods, with texts of train in test; and pairs with a number, in GLUE's form."""
    folder, rng = tmp_path_factory.mktemp("tasks"), random.Random(3)
    splits: dict[str, list] = {}
    for split, size in {"train": 60, "dev": 21, "test": 24}.items():
        for i in range(size):
            words = [GOOD, BAD, ["book", "song"]][i % 3]
            text = " ".join(rng.choices(words, k=4) + rng.choices(["the", "a", "is"], k=8))
            label = ["up", "down", "flat"][i % 3]
            splits.setdefault(split, []).append({"text": text, "label": label})
    splits["test"][:4] = splits["train"][:4]
    for split, rows in splits.items():
        _write_rows(folder / "mood" / f"{split}.jsonl", rows)
    for split in ("train", "dev_matched", "dev_mismatched"):
        rows = [{**row, "text2": "a film"} for row in splits[split.partition("_")[0]]]
        _write_rows(folder / "mnli" / f"{split}.jsonl", rows)
    header = (
        "index\tgenre\tfilename\tyear\told_index\tsource1\tsource2\tsentence1\tsentence2\tscore"
    )
    for split, size in {"train": 40, "dev": 20}.items():
        lines = [header]
        for i in range(size):
            first, second = rng.choice([GOOD, BAD]), rng.choice([GOOD, BAD])
            number = 5.0 if first is second else 0.5
            pair = f"{rng.choice(first)} film\t{rng.choice(second)} film"
            lines.append(f"{i}\tg\tf\t2012\t0\ts\ts\t{pair}\t{number}")
        file = folder / "STS-B" / f"{split}.tsv"
        file.parent.mkdir(exist_ok=True)
        file.write_text("\n".join(lines) + "\n")
    return folder


@pytest.fixture
def call(masked_lm, data, tmp_path, capsys, monkeypatch):
    """Runs the verb: (exit status, output, complaint)."""
    monkeypatch.setattr(runs, "run_logged", _run_here)

    def call_verb(more, out=tmp_path / "out", checkpoint=masked_lm, folder=data):
        capsys.readouterr()
        words = ["finetune", str(checkpoint), "--data", str(folder), "--out", str(out)]
        status = main([*words, "--cpu", *more.split()])
        printed = capsys.readouterr()
        return status, printed.out, printed.err

    return call_verb
