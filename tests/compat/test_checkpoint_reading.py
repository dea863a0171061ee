"""Checkpoints that mean harm run nothing, and files that are none say so."""

import argparse
import io
import os
import pickle
import subprocess
import tarfile

import pytest
import torch
from fairseq import checkpoint_utils

from fairseq_ki import compat
from fairseq_ki.compat.checkpoint_reading import num_updates

READERS = {
    "ours": compat.load_checkpoint,
    "resume and evaluate": lambda path: checkpoint_utils.load_checkpoint_to_cpu(str(path)),
    "models": lambda path: checkpoint_utils.load_model_ensemble_and_task([str(path)]),
    "EMA": lambda path: checkpoint_utils.load_ema_from_checkpoint(str(path)),
    "structure": num_updates,
}


class RunsShell:
    """Pickles as a call of os.system."""

    def __init__(self, marker):
        self.command = f"touch {marker}"

    def __reduce__(self):
        return os.system, (self.command,)


class Evaluates(RunsShell):
    def __reduce__(self):
        return eval, (f"__import__('os').system({self.command!r})",)


class StartsProcess(RunsShell):
    def __reduce__(self):
        return subprocess.check_call, (self.command.split(),)


class SneakyNamespace(argparse.Namespace):
    """Looks like the one class that is allowed, and is not."""

    def __setstate__(self, state):
        os.system(state["command"])


def attribute_chain(marker) -> bytes:
    """A pickle without any class of its own: getattr(os, 'system')(...), by hand."""
    command = f"touch {marker}".encode()
    return (
        b"\x80\x02cbuiltins\ngetattr\ncos\nsystem\n0cbuiltins\n__import__\nX\x02\x00\x00\x00os"
        b"\x85RX\x06\x00\x00\x00system\x86RX" + len(command).to_bytes(4, "little") + command
        + b"\x85R."
    )  # fmt: skip


def poisoned(form: str, honest: dict, path, marker) -> None:
    """Writes a checkpoint that touches ``marker`` when a careless reader loads it."""
    state = dict(honest)
    if form == "beside the model":
        state["extra_state"] = {"x": RunsShell(marker)}
    elif form == "in the optimizer's state":
        state["last_optimizer_state"] = {"state": {0: {"step": 1, "exp_avg": Evaluates(marker)}}}
    elif form == "in the namespace":
        state["args"] = argparse.Namespace(task="masked_lm", arch=StartsProcess(marker))
    elif form == "namespace subclass":
        state["args"] = SneakyNamespace(command=f"touch {marker}")
    elif form in ("the older format", "newer pickle protocol"):
        state["cfg"] = {"model": RunsShell(marker)}
    elif form == "a bare pickle":
        path.write_bytes(pickle.dumps(RunsShell(marker), protocol=2))
        return
    elif form == "attribute chain":
        path.write_bytes(attribute_chain(marker))
        return
    elif form == "the oldest format, a tar":
        with tarfile.open(path, "w") as tar:
            for name in ("sys_info", "pickle", "storages", "tensors"):
                content = pickle.dumps(RunsShell(marker), protocol=2)
                info = tarfile.TarInfo(name)
                info.size = len(content)
                tar.addfile(info, io.BytesIO(content))
        return
    options = {
        "the older format": {"_use_new_zipfile_serialization": False},
        "newer pickle protocol": {"pickle_protocol": 4},
    }
    torch.save(state, path, **options.get(form, {}))


FORMS = [
    "beside the model",
    "in the optimizer's state",
    "in the namespace",
    "namespace subclass",
    "the older format",
    "newer pickle protocol",
    "a bare pickle",
    "attribute chain",
    "the oldest format, a tar",
]


@pytest.fixture(scope="module")
def honest(teacher) -> dict:
    return compat.load_checkpoint(teacher)


@pytest.mark.parametrize("form", FORMS)
def test_a_poisoned_checkpoint_runs_nothing(form, honest, tmp_path, monkeypatch):
    path, marker = tmp_path / "teacher.pt", tmp_path / "executed"
    poisoned(form, honest, path, marker)
    # a careless user's environment does not turn the check off
    monkeypatch.setenv("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", "1")
    for name, read in READERS.items():
        with pytest.raises(compat.CheckpointError, match=r"teacher\.pt"):
            read(path)
        assert not marker.exists(), f"{name} executed what the file says"

    try:  # and the file is as bad as it is said to be
        torch.load(path, weights_only=False)
    except Exception:
        if not marker.exists():
            pickle.loads(path.read_bytes())
    assert marker.exists()


def test_the_message_names_every_class_and_a_way_out(honest, tmp_path):
    path = tmp_path / "teacher.pt"
    torch.save({**honest, "a": RunsShell("x"), "b": Evaluates("x")}, path)
    with pytest.raises(compat.UnsafeCheckpointError) as error:
        compat.load_checkpoint(path)
    for part in (str(path), "posix.system", "eval", "fairseq_ki.compat.plain_copy"):
        assert part in str(error.value)
    assert "weights_only=False" not in str(error.value)


def test_a_namespace_cannot_be_made_to_call_anything(tmp_path):
    """BUILD on a Namespace fills attributes, whatever their names are."""
    marker = tmp_path / "executed"
    hook = b"X\x0c\x00\x00\x00__setstate__cos\nsystem\n"
    command = f"touch {marker}".encode()
    text = b"X" + len(command).to_bytes(4, "little") + command
    for global_ in (hook, hook.replace(b"cos\nsystem\n", b"cargparse\nNamespace\n")):
        content = b"\x80\x02cargparse\nNamespace\n)\x81}" + global_ + b"sb" + text + b"b."
        path = tmp_path / "x.pt"
        path.write_bytes(content)
        with pytest.raises(compat.CheckpointError):
            compat.load_checkpoint(path)
    assert not marker.exists()


def test_an_honest_checkpoint_comes_back_as_it_was_stored(teacher, honest):
    assert isinstance(honest["cfg"]["model"], argparse.Namespace)
    assert type(honest["cfg"]) is dict
    assert num_updates(teacher) == 30
    models, _, task = checkpoint_utils.load_model_ensemble_and_task([str(teacher)])
    torch.testing.assert_close(models[0].state_dict(), dict(honest["model"]), check_device=False)
    assert type(task).__name__ == "MaskedLMTask"


def test_the_older_format_is_read_too(honest, tmp_path):
    path = tmp_path / "old.pt"
    torch.save(honest, path, _use_new_zipfile_serialization=False)
    assert num_updates(path) == 30
    assert compat.load_checkpoint(path)["model"].keys() == honest["model"].keys()


class Doubles(torch.nn.Module):
    def forward(self, x):
        return 2 * x


def broken(kind: str, good, path) -> None:
    content = good.read_bytes()
    if kind == "empty":
        path.write_bytes(b"")
    elif kind == "truncated":
        path.write_bytes(content[: len(content) // 2])
    elif kind == "almost whole":
        path.write_bytes(content[:-10])
    elif kind == "text":
        path.write_text("this is not the file you want\n")
    elif kind == "noise":
        path.write_bytes(bytes(range(256)) * 20)
    elif kind == "a tensor":
        torch.save(torch.zeros(3), path)
    elif kind == "bare weights":
        torch.save({"encoder.weight": torch.zeros(3)}, path)
    elif kind == "TorchScript":
        torch.jit.save(torch.jit.script(Doubles()), path)


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize(
    "kind",
    [
        "empty", "truncated", "almost whole", "text", "noise", "a tensor", "bare weights",
        "TorchScript",
    ],
)  # fmt: skip
def test_a_file_that_is_no_checkpoint_is_named(kind, reader, teacher, tmp_path):
    path = tmp_path / "broken.pt"
    broken(kind, teacher, path)
    with pytest.raises(compat.UnreadableCheckpointError) as error:
        READERS[reader](path)
    assert str(path) in str(error.value)
    expected = {
        "empty": "empty (0 bytes)",
        "truncated": "cut short",
        "almost whole": "cut short",
        "a tensor": "found a Tensor",
        "bare weights": "encoder.weight",
    }
    assert expected.get(kind, "cannot be read") in str(error.value)


def test_a_missing_file_is_named(tmp_path):
    for read in READERS.values():
        with pytest.raises(OSError, match=r"none\.pt"):
            read(tmp_path / "none.pt")
