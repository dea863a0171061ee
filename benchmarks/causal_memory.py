"""Peak memory of one causal micro-batch: ki_lm with a live teacher beside plain language_modeling.

    python benchmarks/causal_memory.py
    python benchmarks/causal_memory.py --batches 4x512 16x512 --layers 12 --device cuda

One measurement is fairseq's own train_step of a task, forward and backward from tokens to
gradients, in a fresh process: its highest resident size less that before the call (on CUDA: the
allocator's peak). What lies in memory anyway, the weights of the student and of the teacher, is
printed beside it and not part of the ratio. The text is random: sizes do not depend on it.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from argparse import Namespace
from pathlib import Path

import torch
from fairseq import optim, options, tasks
from fairseq.data import Dictionary
from fairseq.data.monolingual_dataset import collate
from fairseq.dataclass.utils import convert_namespace_to_omegaconf
from fairseq.tasks.fairseq_task import FairseqTask
from omegaconf import DictConfig, OmegaConf

USER_DIR = Path(__file__).resolve().parent.parent / "fairseq_ki"
FORMS = {
    "plain": "--task language_modeling --criterion cross_entropy",
    "ki": "--task ki_lm --criterion ki --ki-schedule constant --ki-rate 0.7",
}


def configuration(data: Path, words: str, arch: str, layers: int, length: int) -> DictConfig:
    """What fairseq-train makes of these options."""
    given = (
        f"{data} --user-dir {USER_DIR} {words} --arch {arch} --decoder-layers {layers} "
        f"--tokens-per-sample {length} --optimizer adam --cpu --save-dir {data / 'none'}"
    )
    parser = options.get_training_parser()
    return convert_namespace_to_omegaconf(options.parse_args_and_arch(parser, given.split()))


def write_dictionary(data: Path, vocabulary: int) -> None:
    dictionary = Dictionary()
    for i in range(vocabulary - len(dictionary)):
        dictionary.add_symbol(f"w{i}", n=vocabulary - i)
    dictionary.save(str(data / "dict.txt"))


def write_teacher(data: Path, args: Namespace, length: int) -> Path:
    """A checkpoint with random weights, as fairseq-train writes it."""
    cfg = configuration(data, FORMS["plain"], args.teacher_arch, args.teacher_layers, length)
    model = tasks.setup_task(cfg.task).build_model(cfg.model)
    path = data / "teacher.pt"
    history = {"criterion_name": "CrossEntropyCriterion", "lr_scheduler_state": {}}
    state = {
        "cfg": OmegaConf.to_container(cfg, resolve=True, enum_to_str=True),
        "args": None,
        "model": model.state_dict(),
        "optimizer_history": [history | {"optimizer_name": "FairseqAdam", "num_updates": 0}],
        "extra_state": {"train_iterator": {"epoch": 1}},
        "last_optimizer_state": None,
    }
    torch.save(state, path)
    return path


def batch(task: FairseqTask, samples: int, length: int, device: str) -> dict:
    text = torch.randint(
        task.source_dictionary.nspecial, len(task.source_dictionary), (samples, length + 1)
    )
    rows = [{"id": i, "source": row[:-1], "target": row[1:]} for i, row in enumerate(text)]
    pad, eos = task.source_dictionary.pad(), task.source_dictionary.eos()
    made = collate(rows, pad, eos)
    made["net_input"] = {k: v.to(device) for k, v in made["net_input"].items()}
    return made | {"target": made["target"].to(device)}


def measure(form: str, samples: int, length: int, args: Namespace) -> dict[str, float]:
    """MiB that one micro-batch adds at its highest, and the weights that lie there anyway."""
    torch.manual_seed(0)
    with tempfile.TemporaryDirectory() as folder:
        data = Path(folder)
        write_dictionary(data, args.vocabulary)
        words = FORMS[form]
        if form == "ki":
            words += f" --ki-teacher {write_teacher(data, args, length)}"
        cfg = configuration(data, words, args.arch, args.layers, length)
        task = tasks.setup_task(cfg.task)
        model = task.build_model(cfg.model).to(args.device, getattr(torch, args.dtype))
        criterion = task.build_criterion(cfg.criterion).to(args.device)
        optimizer = optim.build_optimizer(cfg.optimizer, list(model.parameters()))

        def step(samples: int, length: int) -> None:
            sample = batch(task, samples, length, args.device)
            task.train_step(sample, model, criterion, optimizer, update_num=0)

        step(1, 8)  # takes the teacher to the device, and libraries into memory
        optimizer.zero_grad()
        if args.device == "cuda":
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats()
            before = torch.cuda.memory_allocated()
            step(samples, length)
            added = (torch.cuda.max_memory_allocated() - before) / 2**20
        else:
            Path("/proc/self/clear_refs").write_text("5")  # Linux: sets the highest to the present
            before_mib = resident_peak_mib()
            step(samples, length)
            added = resident_peak_mib() - before_mib
        weights = {"student_mib": size_mib(model)}
        if form == "ki":
            weights["teacher_mib"] = size_mib(task.inheritance.source.model)
    return {"peak_mib": added} | weights


def size_mib(model: torch.nn.Module) -> float:
    return sum(p.numel() * p.element_size() for p in model.parameters()) / 2**20


def resident_peak_mib() -> float:
    """Highest resident size of this process since the last reset."""
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) / 1024


def in_a_fresh_process(form: str, samples: int, length: int) -> dict[str, float]:
    command = [sys.executable, __file__, *sys.argv[1:], "--measure", form]
    command += ["--batches", f"{samples}x{length}"]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode != 0:
        raise SystemExit(f"{form}: {done.stderr[-2000:]}")
    return json.loads(done.stdout.splitlines()[-1])


def samples_and_length(text: str) -> tuple[int, int]:
    numbers = text.split("x")
    if len(numbers) != 2 or not all(n.isdigit() and int(n) > 0 for n in numbers):
        raise argparse.ArgumentTypeError(f"expected SAMPLESxTOKENS such as 4x512, got {text!r}")
    return int(numbers[0]), int(numbers[1])


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--batches", type=samples_and_length, nargs="+", default=[(4, 512)])
    parser.add_argument("--vocabulary", type=int, default=50265)
    parser.add_argument("--arch", default="gpt_124m", help="of the student")
    parser.add_argument("--layers", type=int, default=2, help="of the student")
    parser.add_argument("--teacher-arch", default="gpt_73m")
    parser.add_argument("--teacher-layers", type=int, default=2)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--dtype", choices=("float32", "float16", "bfloat16"), default="float32")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--measure", choices=tuple(FORMS), help=argparse.SUPPRESS)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    if args.measure:
        print(json.dumps(measure(args.measure, *args.batches[0], args)))
        return
    for samples, length in args.batches:
        plain, ki = (in_a_fresh_process(form, samples, length) for form in FORMS)
        print(
            f"{samples * length} rows x {args.vocabulary}: cross_entropy {plain['peak_mib']:.0f} "
            f"MiB, ki {ki['peak_mib']:.0f} MiB, ratio {ki['peak_mib'] / plain['peak_mib']:.3f} "
            f"(weights: student {ki['student_mib']:.0f}, teacher {ki['teacher_mib']:.0f} MiB)",
            flush=True,
        )
    print(
        f"student {args.arch} with {args.layers} layers, teacher {args.teacher_arch} with "
        f"{args.teacher_layers}, {args.device}, {args.dtype}, torch {torch.__version__}"
    )


if __name__ == "__main__":
    main()
