"""What each update of a training did, and what the process holds meanwhile."""

import json
import os
import re
import zlib
from pathlib import Path


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
    """Before each epoch: updates so far, resident memory in MB, open file handles.

    Then no batch is read ahead; during the epoch the handles are as many as are in the queues. The
    memory is the process's own (anonymous and shared) and that of files, which are PyTorch's code:
    the kernel brings it in page by page when it is first used, and takes it away as it likes.
    """
    from fairseq.trainer import Trainer

    begin_epoch = Trainer.begin_epoch

    def gauged(self, epoch):
        status = Path("/proc/self/status").read_text()
        resident = {
            name: int(kb) * 1024 / 1e6 for name, kb in re.findall(r"Rss(\w+):\s*(\d+)", status)
        }
        with open(path, "a") as file:
            print(
                self.get_num_updates(), resident["Anon"] + resident["Shmem"], resident["File"],
                len(os.listdir("/proc/self/fd")), file=file,
            )  # fmt: skip
        begin_epoch(self, epoch)

    Trainer.begin_epoch = gauged
