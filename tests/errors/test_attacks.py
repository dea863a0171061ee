"""Files that mean harm, given to the commands: nothing runs, and the command ends with a line.

What the readers themselves refuse is in tests/compat/, tests/store/ and beside each reader; here
every command that takes a file from a stranger is given one.
"""

import ast
import builtins
import collections
import gzip
import os
import re
import zipfile
from pathlib import Path

import pytest
import torch
from cases_training import PLAIN, shard
from forking import REPO
from hostile_entries import ENTRIES

from fairseq_ki import compat


class Calls:
    """Pickles as a call."""

    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


TOUCH = "touch executed"
FORMS = {
    "os.system": lambda state: state.update(extra_state={"x": Calls(os.system, TOUCH)}),
    "builtins.eval": lambda state: state.update(
        best=Calls(builtins.eval, f"__import__('os').system({TOUCH!r})")
    ),
    "in the optimizer": lambda state: state["last_optimizer_state"]["state"].update(
        {0: {"exp_avg": Calls(os.system, TOUCH)}}
    ),
    "in the options": lambda state: vars(state["cfg"]["model"]).update(
        arch=Calls(os.system, TOUCH)
    ),
    "in the weights": lambda state: state["model"].update(w=Calls(os.system, TOUCH)),
    "a key": lambda state: state.update({(1, Calls(os.system, TOUCH)): 0}),
}


@pytest.mark.parametrize("entry", ENTRIES, ids=[entry.split(" --")[0][:60] for entry in ENTRIES])
def test_a_poisoned_checkpoint_runs_nothing_in_any_command(entry, world, zygote, tmp_path):
    """All forms at once here; each form alone is read by itself below."""

    def all_forms(state):
        for poison in FORMS.values():
            poison(state)

    world.altered("student", tmp_path / "save" / "checkpoint_last.pt", all_forms)
    world.altered("student", tmp_path / "t" / "c.pt", all_forms)
    (tmp_path / "d" / "a").mkdir(parents=True)  # data for the command that looks there first
    (tmp_path / "d" / "a" / "train.jsonl").write_text("x\n")
    done = zygote.run(world.fill(entry), tmp_path, tmp_path / "output")
    assert done.status != 0, done.output[-2000:]
    assert "a fairseq checkpoint needs nothing but tensors" in done.output, done.output[-3000:]
    assert not list(tmp_path.rglob("executed"))


@pytest.mark.parametrize("form", FORMS)
def test_each_form_is_refused_and_would_have_run(form, world, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = world.altered("student", tmp_path / "c.pt", FORMS[form])
    with pytest.raises(compat.UnsafeCheckpointError, match=r"c\.pt was not loaded"):
        compat.load_checkpoint(path)
    assert not (tmp_path / "executed").exists()
    try:
        torch.load(path, weights_only=False)
    except TypeError:
        assert form == "a key"  # what it returned is no part of a good key; it ran all the same
    assert (tmp_path / "executed").exists()


def allowed_with_bad_arguments() -> dict:
    rebuild = torch._utils._rebuild_tensor_v2
    storage = torch.ones(4).untyped_storage()
    typed = torch.storage.TypedStorage(wrap_storage=storage, dtype=torch.float32, _internal=True)
    none: collections.OrderedDict = collections.OrderedDict()
    return {
        "a size beyond the storage": Calls(rebuild, typed, 0, (10**12,), (1,), False, none),
        "a negative size": Calls(rebuild, typed, 0, (-5,), (1,), False, none),
        "an offset beyond the storage": Calls(rebuild, typed, 10**9, (4,), (1,), False, none),
        "no storage": Calls(rebuild, "x", 0, (4,), (1,), False, none),
        "text for a namespace": Calls(collections.OrderedDict, "text"),
        "a huge number": 10**5000,
    }


@pytest.mark.parametrize("form", list(allowed_with_bad_arguments()))
def test_what_is_allowed_cannot_be_called_to_harm(form, world, tmp_path):
    attack = allowed_with_bad_arguments()[form]
    path = world.altered("teacher", tmp_path / "c.pt", lambda state: state.update(x=attack))
    with pytest.raises(compat.CheckpointError, match=r"c\.pt"):
        compat.load_checkpoint(path)


def test_a_view_of_a_huge_size_costs_nothing(world, zygote, tmp_path):
    """One number, said to be a matrix of 4 TB: strides of 0 are honest, expand() makes them."""

    def expanded(state):
        name = next(key for key in state["model"] if key.endswith("embed_tokens.weight"))
        state["model"][name] = torch.ones(1).expand(65, 16 * 10**9)

    world.altered("teacher", tmp_path / "t" / "c.pt", expanded)
    command = f"{PLAIN} --ki-teacher t/c.pt --ki-steps 2"
    done = zygote.run(world.fill(command), tmp_path, tmp_path / "output")
    assert done.status == 1
    assert "expected weights that fit the architecture" in done.output
    assert "Traceback" not in done.output


@pytest.mark.parametrize("kind", ["compressed", "overlapping", "a name that leaves"])
def test_archives_that_torch_would_never_write(kind, world, tmp_path):
    path = tmp_path / "folder" / "c.pt"
    path.parent.mkdir()
    with zipfile.ZipFile(world.names["teacher"]) as good, zipfile.ZipFile(path, "w") as bad:
        for record in good.infolist():
            bad.writestr(record.filename, good.read(record))
        if kind == "compressed":  # 300 MB of zeros in 300 kB
            bad.writestr("archive/data/99", bytes(300 << 20), zipfile.ZIP_DEFLATED)
        elif kind == "a name that leaves":
            bad.writestr("../outside", b"x")
    if kind == "overlapping":  # the index says of its last record that it has 2 GB
        content = bytearray(path.read_bytes())
        at = content.rindex(b"PK\x01\x02")
        content[at + 20 : at + 28] = (2**31).to_bytes(4, "little") * 2
        path.write_bytes(content)
    with pytest.raises(compat.UnreadableCheckpointError, match=r"c\.pt cannot be read"):
        compat.load_checkpoint(path)
    assert [p.name for p in tmp_path.rglob("*")] == ["folder", "c.pt"]


@pytest.mark.parametrize("key", ["model", "cfg", "args"])
def test_deep_nesting_ends_in_a_line(key, world, zygote, tmp_path):
    """Lists in lists, 50,000 deep: pickle cannot write that, but read it."""
    depth, name = 50_000, key.encode()
    weights = b"" if key == "model" else b"X\x05\x00\x00\x00model}"
    nested = b"]" * depth + b"a" * (depth - 1)
    body = b"\x80\x02}(" + weights + b"X" + len(name).to_bytes(4, "little") + name + nested + b"u."
    path = tmp_path / "t" / "c.pt"
    path.parent.mkdir()
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", body)
        archive.writestr("archive/version", b"3\n")
    command = f"{PLAIN} --ki-teacher t/c.pt --ki-steps 2"
    done = zygote.run(world.fill(command), tmp_path, tmp_path / "output")
    assert done.status == 1
    assert "Traceback" not in done.output, done.output[-2000:]
    assert re.search(r"error: (teacher checkpoint )?t/c\.pt", done.output)


@pytest.mark.parametrize("kind", ["fifo", "device", "outside", "folder"])
@pytest.mark.parametrize("command", ["verify", "train"])
def test_a_shard_that_is_no_file_is_not_opened(kind, command, world, zygote, tmp_path):
    victim = shard(world.copy("store", tmp_path / "s"))
    moved = victim.rename(tmp_path / "elsewhere")
    if kind == "fifo":
        os.mkfifo(victim)
    elif kind == "folder":
        victim.mkdir()
    else:
        victim.symlink_to("/dev/zero" if kind == "device" else moved)
    line = (
        "fairseq-ki logits verify s"
        if command == "verify"
        else f"{PLAIN} --ki-store s --ki-steps 2"
    )
    done = zygote.run(world.fill(line), tmp_path, tmp_path / "output")
    assert done.status == 1
    assert "expected a regular file" in done.output
    assert "Traceback" not in done.output


def test_a_compressed_text_that_is_one_endless_line_is_refused(world, zygote, tmp_path):
    with gzip.open(tmp_path / "a.gz", "wb") as file:
        for _ in range(70):
            file.write(b"x" * (1 << 20))
    command = "{preprocess}/text_corpus.py a.gz --out-dir o"
    done = zygote.run(world.fill(command), tmp_path, tmp_path / "output")
    assert done.status == 2
    assert "expected lines of at most 64 MiB in a.gz" in done.output
    assert not (tmp_path / "o").exists()


def sources() -> list[Path]:
    return sorted([*REPO.glob("fairseq_ki/**/*.py"), *REPO.glob("preprocess/*.py")])


# what may run what a file says, and the files that may use it, with their reason
DANGEROUS = {
    # the reader of fairseq's checkpoints, the tool for files that are trusted, and the reader of
    # Hugging Face's weights, which reads no classes at all
    r"torch\.load$": {
        "compat/checkpoint_reading.py",
        "compat/plain_copy.py",
        "convert/hf_directory.py",
    },
    r"(pickle|marshal|shelve|dill|cloudpickle|joblib)\.": set(),
    r"yaml\.(load|load_all|full_load|unsafe_load|unsafe_load_all)$": set(),
    r"(eval|exec|compile|__import__)$": set(),
    r"os\.(system|popen)$": set(),
    r"(tarfile|shutil)\.(open|unpack_archive)$": set(),
    r".*\.extractall$": set(),
    r"(np|numpy)\.load$": set(),
    r"torch\.(hub|jit)\.load$": set(),
}


def calls(path: Path):
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            yield ast.unparse(node.func), node


def test_no_code_of_ours_can_run_what_a_file_says():
    for path in sources():
        for called, node in calls(path):
            where = f"{path}:{node.lineno}: {called}"
            for pattern, allowed in DANGEROUS.items():
                if re.match(pattern, called):
                    assert any(str(path).endswith(f"fairseq_ki/{each}") for each in allowed), where
            for keyword in node.keywords:
                if keyword.arg in ("trust_remote_code", "allow_pickle", "shell"):
                    assert isinstance(keyword.value, ast.Constant), where
                    assert keyword.value.value is False, where
                if keyword.arg == "weights_only":
                    plain_copy = path.name == "plain_copy.py"  # which says that it runs the file
                    assert plain_copy or keyword.value.value is True, where


def test_the_commands_above_are_all_that_read_checkpoints():
    """Each verb that reads one is among them."""
    named = " ".join(ENTRIES)
    for words in ("--ki-teacher t", "--restore-file", "--finetune-from-model", "fairseq-validate",
                  "fairseq-eval-lm", "logits write", "logits audit", "forecast"):  # fmt: skip
        assert words in named
