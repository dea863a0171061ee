"""Trainings that are killed at chosen moments, and what each of their updates did.

``Launcher`` starts one process that has imported torch and fairseq, and forks from it for every
training: a start costs tenths of a second instead of seconds. The child runs the command's own
entry point, ``fairseq_cli.train.cli_main``, with two additions: :func:`trace_updates` writes what
every update saw and came to, and :func:`inject` kills it, or takes its memory or its disk away.
"""

import json
import os
import random
import signal
import socket
import subprocess
import sys
import time
import zlib
from dataclasses import asdict, dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
KI = f"--user-dir {ROOT / 'fairseq_ki'} --criterion ki"
TINY = (
    "--tokens-per-sample 32 --batch-size 8 --optimizer adam --lr 5e-3 --lr-scheduler fixed --cpu "
    "--log-format json --log-interval 1 --no-progress-bar --dropout 0.1 --attention-dropout 0.1"
)
MASKED = (
    "--task ki_mlm --arch roberta --encoder-layers 1 --encoder-embed-dim 24 "
    "--encoder-ffn-embed-dim 32 --encoder-attention-heads 2 --max-positions 32"
)
CAUSAL = (
    "--task ki_lm --arch gpt_73m --decoder-layers 1 --decoder-embed-dim 24 "
    "--decoder-ffn-embed-dim 32 --decoder-attention-heads 2 --max-target-positions 32"
)


# -- what can happen to a training


@dataclass
class Fault:
    """One blow.

    Args:
        how: "SIGKILL", "SIGTERM" (the whole process), "MemoryError" (raised in the forward pass),
            "worker" (the kernel kills a loader worker, as when memory runs out), or "ENOSPC"
            (the disk is full; for writes only).
        update: strike in the forward pass of the update after this many; or
        write: strike in the n-th file that this start writes, from 0, of those called
        name: (any, if it is empty), after
        fraction: of the bytes written; 1: all are written but the file has not its name yet; 2:
            it has just got it.
    """

    how: str
    update: int | None = None
    write: int | None = None
    name: str = ""
    fraction: float = 0.5


def random_fault(rng: random.Random, updates: range, workers: int) -> Fault:
    """A blow at one of these updates or near the writing of a checkpoint."""
    if rng.random() < 0.5:
        how = rng.choice(["SIGKILL", "SIGTERM", "MemoryError", *["worker"] * bool(workers)])
        return Fault(how, update=rng.choice(updates))
    how = rng.choice(["SIGKILL", "SIGTERM", "ENOSPC"])
    fraction = rng.choice([0.0, rng.random(), 1.0, 2.0][: 3 if how == "ENOSPC" else 4])
    return Fault(how, write=rng.randrange(6), fraction=fraction)


# -- starting


@dataclass
class Ended:
    """How one process ended."""

    status: int  # exit status, or minus the signal
    seconds: float
    log: str


class Launcher:
    """Starts trainings as forks of one process; to be closed."""

    def __init__(self, folder: Path) -> None:
        self.folder = Path(folder)
        self.count = 0
        self.process = subprocess.Popen(
            [sys.executable, str(Path(__file__).resolve()), "serve"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )

    def close(self) -> None:
        # closing its input would not end it: loader workers forked by others have that open too
        self.process.terminate()
        self.process.wait()

    def run(
        self,
        arguments: str,
        *,
        command: str = "fairseq-train",
        ranks: int = 1,
        faults: dict[int, Fault] | None = None,
        trace: Path | None = None,
        gauge: Path | None = None,
        kill_after: float | None = None,
        slow_reads: float = 0.0,
        timeout: float = 300.0,
    ) -> list[Ended]:
        """Runs a command to its end, whatever that is; one process per rank.

        Args:
            faults: by rank.
            trace: file that rank 0 appends its updates to.
            gauge: file that rank 0 appends its memory and file handles to.
            kill_after: seconds until SIGKILL comes from outside, wherever the processes are then.
            slow_reads: seconds that each read of a store takes.
            timeout: seconds after which the processes are killed and reported with status -9.
        """
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        self.count += 1
        specs = []
        for rank in range(ranks):
            env = {}
            if ranks > 1:
                env = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
                env |= {"WORLD_SIZE": str(ranks), "RANK": str(rank)}
            fault = (faults or {}).get(rank)
            specs.append(
                {
                    "command": command,
                    "arguments": arguments.split(),
                    "env": env,
                    "log": str(self.folder / f"{self.count}-{rank}.log"),
                    "trace": str(trace) if trace is not None and rank == 0 else None,
                    "gauge": str(gauge) if gauge is not None and rank == 0 else None,
                    "fault": asdict(fault) if fault else None,
                    "slow_reads": slow_reads,
                }
            )
        request = {"specs": specs, "kill_after": kill_after, "timeout": timeout}
        self.process.stdin.write(json.dumps(request) + "\n")
        self.process.stdin.flush()
        ended = json.loads(self.process.stdout.readline())
        return [
            Ended(status, seconds, Path(spec["log"]).read_text(errors="replace"))
            for (status, seconds), spec in zip(ended, specs)
        ]


def serve() -> dict | None:
    """The parent of all trainings. Returns in the children, with what to do."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what the imports print is no answer
    sys.path.insert(0, str(ROOT))
    import fairseq_cli.train  # noqa: F401  # first: it sets up the log that fairseq writes
    import fairseq.options  # isort: skip
    import torch._dynamo  # noqa: F401  # every torch optimizer imports it, for two seconds

    import fairseq_ki  # noqa: F401

    fairseq.options.get_training_parser()  # and what it imports
    for line in sys.stdin:
        request = json.loads(line)
        children = {}
        for number, spec in enumerate(request["specs"]):
            pid = os.fork()
            if pid == 0:
                return spec
            children[pid] = number
        print(json.dumps(_wait(children, request)), file=answers, flush=True)
    return None


def _wait(children: dict[int, int], request: dict) -> list[list[float]]:
    start = time.monotonic()
    patience = request["kill_after"] or request["timeout"]
    ended: list = [None] * len(children)
    left = dict(children)
    while left:
        pid, status = os.waitpid(-1, os.WNOHANG)
        now = time.monotonic() - start
        if pid in left:
            ended[left.pop(pid)] = [os.waitstatus_to_exitcode(status), now]
        elif pid == 0:
            time.sleep(0.01)
        if now > patience:
            for late in left:
                os.kill(late, signal.SIGKILL)
            patience = float("inf")
    return ended


def train(spec: dict) -> None:
    """In the child: the command as its entry point runs it."""
    log = os.open(spec["log"], os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    for descriptor, target in ((log, 1), (log, 2), (os.open(os.devnull, os.O_RDONLY), 0)):
        os.dup2(descriptor, target)
    os.environ.update(spec["env"])
    sys.argv = [spec["command"], *spec["arguments"]]
    if spec["command"] == "fairseq-ki":
        from fairseq_ki.cli.main import main

        sys.exit(main(spec["arguments"]))
    if spec["trace"]:
        trace_updates(spec["trace"])
    if spec["gauge"]:
        gauge_epochs(spec["gauge"])
    if spec["fault"]:
        inject(Fault(**spec["fault"]))
    if spec["slow_reads"]:
        read = os.pread

        def slow(*arguments):
            time.sleep(spec["slow_reads"])
            return read(*arguments)

        os.pread = slow
    from fairseq_cli.train import cli_main

    cli_main()


# -- in the training


def trace_updates(path: str) -> None:
    """One JSON line per update: its data, loss and rate, and the state that it leaves."""
    import torch
    from fairseq.trainer import Trainer

    from fairseq_ki.criterions.ki import KICriterion

    forward, train_step, micro_batches = KICriterion.forward, Trainer.train_step, []

    def crc(*tensors) -> int:
        total = 0
        for tensor in tensors:
            total = zlib.crc32(tensor.detach().contiguous().view(-1).numpy(), total)
        return total

    def traced_forward(self, model, sample, reduce=True):
        loss, rows, log = forward(self, model, sample, reduce)
        if self.training:
            tokens = crc(sample["net_input"]["src_tokens"], sample["target"])
            rate = self.inheritance.rate if self.inheritance is not None else None
            micro_batches.append([sample["id"].tolist(), tokens, float(loss).hex(), rate])
        return loss, rows, log

    def traced_step(self, samples, raise_oom=False):
        micro_batches.clear()
        output = train_step(self, samples, raise_oom)
        inheritance = self.task.inheritance
        line = {
            "update": self.get_num_updates(),
            "micro_batches": list(micro_batches),
            "weights": crc(*self.model.parameters()),
            "rng": crc(torch.random.get_rng_state()),
            "lr": self.get_lr(),
            "inheritance": inheritance.state_dict() if inheritance else None,
            "teacher": inheritance is not None and inheritance.source is not None,
        }
        with open(path, "a") as file:
            file.write(json.dumps(line) + "\n")
        return output

    KICriterion.forward, Trainer.train_step = traced_forward, traced_step


def gauge_epochs(path: str) -> None:
    """Before each epoch: updates so far, resident memory in bytes, open file handles.

    Then no batch is read ahead; during the epoch the handles are as many as are in the queues.
    """
    from fairseq.trainer import Trainer

    begin_epoch, page = Trainer.begin_epoch, os.sysconf("SC_PAGE_SIZE")

    def gauged(self, epoch):
        resident = int(Path("/proc/self/statm").read_text().split()[1]) * page
        with open(path, "a") as file:
            print(self.get_num_updates(), resident, len(os.listdir("/proc/self/fd")), file=file)
        begin_epoch(self, epoch)

    Trainer.begin_epoch = gauged


def inject(fault: Fault) -> None:
    """Let the fault happen in this process."""
    if fault.update is not None:
        _strike_in_update(fault)
    else:
        _strike_in_write(fault)


def _strike(fault: Fault) -> None:
    print(f"-- fault injected: {fault}", flush=True)
    if fault.how == "MemoryError":
        raise MemoryError("simulated")
    if fault.how == "ENOSPC":
        raise OSError(28, os.strerror(28))
    if fault.how == "worker":
        import multiprocessing

        # none is alive if all batches of the epoch have been read; then it is the main process
        victim = next(iter(multiprocessing.active_children()), None)
        os.kill(victim.pid if victim else os.getpid(), signal.SIGKILL)
        return
    os.kill(os.getpid(), getattr(signal, fault.how))
    time.sleep(60)


def _strike_in_update(fault: Fault) -> None:
    from fairseq_ki.criterions.ki import KICriterion
    from fairseq_ki.tasks._common import KITaskMixin

    forward, train_step, now = KICriterion.forward, KITaskMixin.train_step, []

    def counted(self, sample, model, criterion, optimizer, update_num, ignore_grad=False):
        now[:] = [update_num]
        return train_step(self, sample, model, criterion, optimizer, update_num, ignore_grad)

    def struck(self, model, sample, reduce=True):
        if self.training and now == [fault.update] and not done:
            done.append(True)
            _strike(fault)
        return forward(self, model, sample, reduce)

    done: list[bool] = []
    KITaskMixin.train_step, KICriterion.forward = counted, struck


def _strike_in_write(fault: Fault) -> None:
    from fairseq_ki.compat import checkpoint_writing

    started = []

    class Breaking:
        """A file that takes ``room`` bytes."""

        def __init__(self, file, room: int) -> None:
            self.file, self.room = file, room

        def write(self, data) -> int:
            data = bytes(data)
            if len(data) > self.room:
                self.file.write(data[: self.room])
                self.file.flush()
                _strike(fault)
            self.room -= len(data)
            return self.file.write(data)

        def __getattr__(self, name):
            return getattr(self.file, name)

        def __enter__(self):
            return self

        def __exit__(self, *error) -> None:
            self.file.close()

    size_of_a_checkpoint = 120_000  # a little under that of the tiny models

    def opened(path, mode="r", *rest):
        file = open(path, mode, *rest)  # noqa: SIM115
        if "w" not in mode:
            return file
        if os.path.basename(path).startswith(fault.name):
            started.append(path)
        hit = path in started[-1:] and len(started) == fault.write + 1 and fault.fraction < 1
        return Breaking(file, int(fault.fraction * size_of_a_checkpoint)) if hit else file

    replace = os.replace

    def renamed(source, target) -> None:
        hit = len(started) == fault.write + 1 and source == started[-1]  # a temporary name
        if hit and fault.fraction == 1:
            _strike(fault)
        replace(source, target)
        if hit and fault.fraction == 2:
            _strike(fault)

    checkpoint_writing.open = opened
    os.replace = renamed


# -- what is trained

# Two epoch ends and a half: 127 blocks of 32 tokens in batches of 8 are 16 updates an epoch. Saved
# often, and best and last are copies, so that half of what is on the disk is being written.
SAVING = "--save-interval-updates 5 --keep-interval-updates 2 --validate-interval-updates 10"
UPDATES = 40


def materials(
    launcher: Launcher, data: Path, folder: Path, samples_per_shard: int = 40
) -> dict[str, str]:
    """Trains teachers, captures stores, and returns the options of trainings, by name.

    Args:
        data: a data-bin of some 130 blocks of 32 tokens, as ``write_data_bin`` of tests/conftest.py
            makes it.
    """

    def made(arguments: str, command: str = "fairseq-train") -> None:
        (ended,) = launcher.run(arguments, command=command)
        assert ended.status == 0, ended.log[-3000:]

    teachers = {}
    for name, model in (("masked", MASKED), ("causal", CAUSAL)):
        save_dir = folder / f"{name}-teacher"
        made(
            f"{data} {KI} {TINY} {model} --max-update 12 --num-workers 0 --disable-validation "
            f"--no-epoch-checkpoints --save-dir {save_dir}"
        )
        teachers[name] = save_dir / "checkpoint_last.pt"
    for name, task in (("masked", "ki_mlm"), ("causal", "ki_lm")):
        made(
            f"logits write {data} --task {task} --teacher {teachers[name]} --tokens-per-sample 32 "
            f"--out {folder / name}-store --encoding topk --k 5 "
            f"--samples-per-shard {samples_per_shard}",
            "fairseq-ki",
        )
    mixture = folder / "mixture.yaml"
    mixture.write_text(
        "domains:\n"
        f"  one: {{data: {data}, weight: 2, teachers: [{{checkpoint: {teachers['masked']}}}]}}\n"
        f"  two: {{data: {data}, teachers: [{{store: {folder}/masked-store}}]}}\n"
        f"  three: {{data: {data}}}\n"
    )
    host = f"{data} {KI} {TINY} {SAVING}"
    surpassed = "--ki-steps 60 --ki-stop-when-surpassed --ki-surpassed-window 3"
    return {
        "live": f"{host} {MASKED} --ki-teacher {teachers['masked']} {surpassed}",
        "store": f"{host} {MASKED} --ki-store {folder}/masked-store --ki-steps 25",
        "mixture": f"{host} {MASKED} --ki-mixture {mixture} --ki-steps 25 --batch-size 24",
        "causal live": f"{host} {CAUSAL} --ki-teacher {teachers['causal']} --ki-steps 25",
        "causal store": f"{host} {CAUSAL} --ki-store {folder}/causal-store --ki-steps 25",
    }


# -- comparing


def updates_of(trace: Path) -> dict[int, dict]:
    """The updates of all starts of a run, by their number.

    Raises AssertionError where an update that was done again, after a resume, came out otherwise.
    """
    done: dict[int, dict] = {}
    for line in trace.read_text().splitlines():
        update = json.loads(line)
        before = done.setdefault(update["update"], update)
        assert before == update, f"update {update['update']} came out otherwise when done again"
    return done


# of the meters, what depends on the clock
CLOCKS = ("wall", "wps", "ups", "seconds", "share", "gb_free")


def differences(one, two, where: str = "") -> list[str]:
    """The places in which two checkpoints differ, but for measured times and paths."""
    import torch

    if type(one) is not type(two):
        return [f"{where}: {type(one).__name__} and {type(two).__name__}"]
    if isinstance(one, torch.Tensor):
        same = one.dtype == two.dtype and torch.equal(one, two)
        return [] if same else [where]
    if isinstance(one, dict):
        if one.keys() != two.keys():
            return [f"{where}: keys {one.keys() ^ two.keys()}"]
        return [x for key in one for x in differences(one[key], two[key], f"{where}/{key}")]
    if isinstance(one, (list, tuple)):
        if len(one) != len(two):
            return [f"{where}: {len(one)} and {len(two)} entries"]
        if len(one) == 4 and isinstance(one[1], str) and any(c in one[1] for c in CLOCKS):
            return []  # a meter
        return [x for i in range(len(one)) for x in differences(one[i], two[i], f"{where}/{i}")]
    return [] if one == two or one != one else [f"{where}: {one!r} and {two!r}"]


def final_state(save_dir: Path) -> dict:
    """What the last checkpoint holds, but for the options (paths), wall time and history."""
    from fairseq_ki.compat import load_checkpoint

    state = load_checkpoint(save_dir / "checkpoint_last.pt")
    del state["cfg"], state["args"], state["extra_state"]["previous_training_time"]
    state["optimizer_history"] = state["optimizer_history"][-1:]  # one entry per start
    for task_state in state["extra_state"].values():
        if isinstance(task_state, dict) and "lineage" in task_state:
            del task_state["lineage"]["id"]  # drawn once for each run
    # the others count over the whole run, of which fairseq makes no use and restores nothing
    state["extra_state"]["metrics"] = state["extra_state"]["metrics"]["train"]
    return state


@dataclass
class Survivor:
    """A training that was killed again and again, and then came to its end."""

    updates: dict[int, dict]
    state: dict
    killed: list[Ended]


def survive(
    launcher: Launcher,
    arguments: str,
    folder: Path,
    *,
    updates: int,
    blows: int = 0,
    seed: int = 0,
    ranks: int = 1,
    workers: int = 0,
    from_outside: float = 0.0,
) -> Survivor:
    """Train to ``updates``; while there are blows left, one of the ranks gets one in each start.

    Args:
        from_outside: the share of blows that are a SIGKILL after a random time instead, wherever
            the processes are then; how a run with such blows goes depends on the machine's speed.

    Raises AssertionError where a start fails without a blow.
    """
    rng, trace, killed = random.Random(seed), folder / "trace.jsonl", []
    command = (
        f"{arguments} --save-dir {folder / 'save'} --max-update {updates} --num-workers {workers}"
    )
    folder.mkdir()
    trace.touch()
    while True:
        faults, kill_after = {}, None
        reached = max(updates_of(trace), default=0)
        if len(killed) < blows and reached < updates:
            if rng.random() < from_outside:
                kill_after = rng.uniform(0.2, 5.0)
            else:
                fault = random_fault(rng, range(reached, updates), workers)
                faults = {rng.randrange(ranks): fault}
        ended = launcher.run(
            command, ranks=ranks, faults=faults, trace=trace, kill_after=kill_after
        )
        if all(rank.status == 0 for rank in ended):
            if not faults and not kill_after:
                return Survivor(updates_of(trace), final_state(folder / "save"), killed)
            continue
        assert faults or kill_after, ended[0].log[-3000:]
        killed.append(ended[next(iter(faults), 0)])


if __name__ == "__main__":
    task = serve()
    if task is not None:
        train(task)
