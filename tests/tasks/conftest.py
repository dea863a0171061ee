"""Domains, teachers and stores for whole trainings."""

import shutil
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))  # the module "trained" beside this file


@pytest.fixture(scope="session")
def gpt(fairseq_train, data_bin, tmp_path_factory) -> Path:
    """A causal teacher."""
    from trained import GPT

    save_dir = tmp_path_factory.mktemp("gpt")
    host = "--task language_modeling --criterion cross_entropy --max-update 30"
    fairseq_train(data_bin, save_dir, host, GPT.format(1, 16))
    shutil.copy(data_bin / "dict.txt", save_dir)
    return save_dir / "checkpoint_last.pt"


@pytest.fixture(scope="session")
def dense(data_bin, teacher, tmp_path_factory) -> Path:
    """Every sample in two maskings; not to be altered."""
    from trained import capture

    out = tmp_path_factory.mktemp("dense") / "store"
    return capture(data_bin, teacher, out, "--encoding dense --mask-epochs 2")


@pytest.fixture(scope="session")
def topk(data_bin, teacher, tmp_path_factory) -> Path:
    """A store with tails; not to be altered."""
    from trained import capture

    out = tmp_path_factory.mktemp("topk") / "store"
    return capture(data_bin, teacher, out, "--encoding topk --k 5 --tail --samples-per-shard 50")


@pytest.fixture(scope="session")
def second_bin(fairseq_train, tmp_path_factory):
    """Another domain: other text in the same dictionary."""
    write = fairseq_train.__globals__["write_data_bin"]
    folder = tmp_path_factory.mktemp("second") / "bin"
    return write(folder, seed=7, lines={"train": 160, "valid": 30})


@pytest.fixture(scope="session")
def second_teacher(fairseq_train, second_bin, tmp_path_factory):
    save_dir = tmp_path_factory.mktemp("second-teacher")
    small = fairseq_train.__globals__["TEACHER"]
    host = "--task masked_lm --criterion masked_lm --max-update 10 --seed 5"
    fairseq_train(second_bin, save_dir, host, small)
    shutil.copy(second_bin / "dict.txt", save_dir)
    return save_dir / "checkpoint_last.pt"


@pytest.fixture(scope="session")
def dense_stores(data_bin, second_bin, teacher, second_teacher, tmp_path_factory) -> dict:
    """What each of two teachers says about each of two domains, in full."""
    from trained import capture

    folder, found = tmp_path_factory.mktemp("stores"), {}
    for t, checkpoint in (("first", teacher), ("second", second_teacher)):
        for d, data in (("one", data_bin), ("two", second_bin)):
            found[t, d] = capture(data, checkpoint, folder / f"{t}-{d}", "--encoding dense")
    return found


@pytest.fixture
def mixture(tmp_path, data_bin, second_bin):
    """Writes the file of domains "one" and "two", with these teachers; gives the option."""

    def write(one: str = "", two: str = "", name: str = "mixture.yaml", weight: float = 1) -> str:
        file = tmp_path / name
        file.write_text(
            f"domains:\n"
            f"  one: {{data: {data_bin}, teachers: [{one}]}}\n"
            f"  two: {{data: {second_bin}, weight: {weight}, teachers: [{two}]}}\n"
        )
        return f"--ki-mixture {file}"

    return write
