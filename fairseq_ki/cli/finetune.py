"""``fairseq-ki finetune CHECKPOINT --data DIR --out DIR``."""

import argparse
import math
import os
import sys
from pathlib import Path

from fairseq_ki.cli._quiet import quiet
from fairseq_ki.downstream import driver
from fairseq_ki.downstream.preparing import SUBSET_SEED
from fairseq_ki.downstream.pretrained import read_pretrained
from fairseq_ki.downstream.probing import POOLINGS
from fairseq_ki.downstream.reading import find_tasks, unread
from fairseq_ki.downstream.request import Request
from fairseq_ki.downstream.tasks import MICRO_GRID, TASKS, Task, canonical, task_named
from fairseq_ki.downstream.training import EPOCHS, HowToTrain
from fairseq_ki.evaluation.downstream import FILE
from fairseq_ki.evaluation.downstream_table import downstream_tables
from fairseq_ki.evaluation.metrics import METRICS
from fairseq_ki.evaluation.summary import WIDTH
from fairseq_ki.experiments.process import RunError, Terminated

_OF_TRAINING = (
    "seeds",
    "grid",
    "lr",
    "batch_size",
    "epochs",
    "update_freq",
    "fp16",
    "keep_checkpoints",
)
_NOT_IN_PATHS = (os.pathsep, "${")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of the verb."""
    parser.add_argument("checkpoint", type=Path, metavar="CHECKPOINT", help="a masked LM")
    parser.add_argument(
        "--data",
        type=Path,
        required=True,
        help="folder with one folder a task: train.jsonl, dev.jsonl and, if there is one, "
        "test.jsonl; or GLUE as it is distributed",
    )
    parser.add_argument(
        "--out",
        type=Path,
        required=True,
        help=f"folder for trainings, predictions and {FILE}; a second call resumes there",
    )
    parser.add_argument(
        "--data-bin",
        type=Path,
        help="folder with dict.txt and spm.model (default: what the checkpoint was trained on)",
    )
    parser.add_argument("--spm", type=Path, help="SentencePiece model, if it is not in there")
    parser.add_argument("--label", help="name of the model in tables (default: from its path)")
    parser.add_argument(
        "--tasks",
        nargs="+",
        metavar="TASK",
        help=f"default: {' '.join(TASKS)}, and whatever else --data has",
    )
    parser.add_argument("--seeds", type=int, nargs="+", help="default: 3 to 10 of them, by task")
    parser.add_argument(
        "--grid",
        choices=("paper", "micro"),
        help="the paper's Table 8 (default), or learning rates for models of a few million "
        f"parameters ({', '.join(f'{lr:g}' for lr in MICRO_GRID.lrs)}, batch "
        f"{', '.join(map(str, MICRO_GRID.batch_sizes))})",
    )
    parser.add_argument("--lr", type=float, nargs="+", help="in place of the grid's")
    parser.add_argument("--batch-size", type=int, nargs="+", help="in place of the grid's")
    parser.add_argument("--epochs", type=int, help=f"default: {EPOCHS}")
    parser.add_argument(
        "--max-train",
        type=int,
        metavar="N",
        help=f"train on N rows of each task, drawn with seed {SUBSET_SEED} (default: all)",
    )
    parser.add_argument(
        "--probe",
        choices=POOLINGS,
        help="do not fine-tune: a linear model on the frozen encoder's first token, or on the "
        "mean over tokens",
    )
    parser.add_argument(
        "--metric",
        action="append",
        default=[],
        metavar="TASK=METRIC",
        help=f"what decides on a task of your own: {', '.join(METRICS)} (default: accuracy, or "
        "Pearson where labels are numbers with a point)",
    )
    parser.add_argument(
        "--update-freq", type=int, metavar="N", help="run a batch in N parts (default: 1)"
    )
    parser.add_argument("--fp16", action="store_true", help="half precision, on a GPU")
    parser.add_argument("--cpu", action="store_true", help="do not use a GPU")
    parser.add_argument(
        "--keep-checkpoints",
        action="store_true",
        help="of finished trainings, which are deleted otherwise",
    )
    parser.add_argument(
        "--redo-changed",
        action="store_true",
        help="delete and repeat what was made with other options, data or another checkpoint",
    )
    parser.add_argument(
        "--dry-run", action="store_true", help="prepare the data, print every command, run none"
    )


def run(args: argparse.Namespace) -> int:
    """Exit status 0; 1 if a training failed; 130 if it was interrupted."""
    with quiet("fairseq"):
        return _run(args)


def _run(args: argparse.Namespace) -> int:
    request = _request(args)
    pretrained = read_pretrained(args.checkpoint, args.data_bin, args.spm)
    if args.probe is not None and pretrained.fine_tuned:
        raise ValueError(
            f"--probe {args.probe}: expected a pre-trained checkpoint, found {args.checkpoint}, "
            "which was fine-tuned; probe the one that it came from"
        )
    if args.dry_run:
        driver.print_commands(request, pretrained)
        return 0
    try:
        found = driver.run(request, pretrained)
    except RunError as e:
        print(f"\nfairseq-ki finetune: {e}", file=sys.stderr)
        return 1
    except (KeyboardInterrupt, Terminated):
        print("\ninterrupted; the same command goes on from here", file=sys.stderr)
        return 130
    for table in downstream_tables([found], asked=request.method):
        print("\n" + table.text(WIDTH))
    print(f"\nwrote {args.out / FILE}")
    return 0


def _request(args: argparse.Namespace) -> Request:
    if args.probe is not None:
        _check_probe(args)
    for option in ("epochs", "max_train", "update_freq"):
        value = getattr(args, option)
        if value is not None and value < 1:
            raise ValueError(f"--{option.replace('_', '-')}: expected at least 1, found {value}")
    for lr in args.lr or []:
        if not 0 < lr < math.inf:
            raise ValueError(f"--lr: expected a number above 0, found {lr}")
    for size in args.batch_size or []:
        if size < 1:
            raise ValueError(f"--batch-size: expected at least 1, found {size}")
    for seed in args.seeds or []:
        if seed < 0:
            raise ValueError(f"--seeds: expected numbers of at least 0, found {seed}")
    tasks, others = _tasks(args)
    for place in (args.out, *(args.out / task.name for task, folder in tasks if folder)):
        if args.probe is None and any(sign in str(place) for sign in _NOT_IN_PATHS):
            raise ValueError(
                f"{place}: expected a path without {' and '.join(_NOT_IN_PATHS)}, which fairseq "
                "reads as more than a name; choose another --out, or rename the task's folder"
            )
    update_freq = args.update_freq or 1
    grid = MICRO_GRID if args.grid == "micro" else None
    request = Request(
        out=args.out,
        label=args.label or _label(args.checkpoint),
        tasks=tasks,
        unread=others,
        seeds=list(dict.fromkeys(args.seeds)) if args.seeds else None,
        grid=grid,
        lrs=tuple(dict.fromkeys(args.lr)) if args.lr else None,
        batch_sizes=tuple(dict.fromkeys(args.batch_size)) if args.batch_size else None,
        how=HowToTrain(args.epochs or EPOCHS, update_freq, args.fp16, args.cpu),
        probe=args.probe,
        max_train=args.max_train,
        keep_checkpoints=args.keep_checkpoints,
        redo_changed=args.redo_changed,
    )
    for task, _ in (found for found in tasks if found[1] is not None):
        for setting, _ in request.runs(task):
            if setting.batch_size % update_freq:
                raise ValueError(
                    f"--update-freq {update_freq}: expected a divisor of the batch size, "
                    f"found {setting.batch_size} for {task.title}"
                )
    return request


def _check_probe(args: argparse.Namespace) -> None:
    given = [name for name in _OF_TRAINING if getattr(args, name) not in (None, False)]
    if given:
        options = ", ".join(f"--{name.replace('_', '-')}" for name in given)
        raise ValueError(
            f"--probe {args.probe}: expected no options of fine-tuning, found {options}; drop "
            f"{'it' if len(given) == 1 else 'them'}: a probe trains no model, and has no seeds"
        )


def _tasks(args: argparse.Namespace) -> tuple[list[tuple[Task, Path | None]], dict[str, str]]:
    """Tasks with their folders, None without data; and why folders that are there are not read."""
    folders = find_tasks(args.data)
    others = unread(args.data, folders)
    asked = [_metric(text) for text in args.metric]
    metrics = dict(asked)
    if len(metrics) < len(asked):
        raise ValueError(f"--metric: expected one for each task, found {' '.join(args.metric)}")
    names = [canonical(n) for n in args.tasks] if args.tasks else [*TASKS, *sorted(folders)]
    names = list(dict.fromkeys(names))
    for name in names:
        if args.tasks and name in others:
            raise ValueError(
                f"--tasks {name}: expected a task in {args.data}, found {name}: {others[name]}"
            )
        if name not in TASKS and name not in folders:
            known = ", ".join(sorted({*TASKS, *folders}))
            raise ValueError(f"--tasks: expected some of {known}, found {name}")
    for name in metrics:
        if name not in names:
            raise ValueError(f"--metric: expected a task among {', '.join(names)}, found {name}")
    if not folders and not args.tasks:
        found = "; ".join(f"{name}: {why}" for name, why in others.items()) or "none"
        raise ValueError(
            f"--data {args.data}: expected a folder for each task with a train.jsonl or GLUE's "
            f"train.tsv, found {found}"
        )
    if not args.tasks:
        names = list(dict.fromkeys([*names, *others]))
    tasks = [(task_named(name, metrics.get(name)), folders.get(name)) for name in names]
    return tasks, others


def _metric(text: str) -> tuple[str, str]:
    name, _, metric = text.partition("=")
    if metric not in METRICS:
        raise ValueError(
            f"--metric: expected TASK=METRIC, one of {', '.join(METRICS)}, found {text}"
        )
    return canonical(name), metric


def _label(checkpoint: Path) -> str:
    """The folder, which is the run's name; and the file, unless it is the training's last."""
    path = checkpoint.resolve()
    folder = f"{path.parent.parent.name}/{path.parent.name}"
    name = path.stem.removeprefix("checkpoint_")
    return folder if name == "last" else f"{folder} {name}"
