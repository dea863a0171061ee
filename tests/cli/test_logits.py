"""``fairseq-ki logits`` as a person and as a program use it."""

import json
import os
import shutil
import subprocess
import sys

import pytest
import torch

from fairseq_ki.cli.main import main
from fairseq_ki.store import Manifest

BLOCKS = "--tokens-per-sample 32"


@pytest.fixture
def run(capsys):
    """Runs a verb: (exit status, what it printed, what it complained of)."""

    def run_verb(command: str) -> tuple[int, str, str]:
        capsys.readouterr()
        status = main(["logits", *command.split()])
        printed = capsys.readouterr()
        return status, printed.out, printed.err

    return run_verb


@pytest.fixture(scope="module")
def store(data_bin, teacher, tmp_path_factory):
    out = tmp_path_factory.mktemp("store") / "store"
    command = f"write {data_bin} --teacher {teacher} --out {out} {BLOCKS} --encoding topk --k 4"
    assert main(["logits", *command.split(), "--mask-epochs", "2"]) == 0
    return out


def test_write_foretells_and_reports(run, data_bin, teacher, tmp_path):
    status, out, err = run(
        f"write {data_bin} --teacher {teacher} --out {tmp_path / 's'} {BLOCKS} --encoding sampled"
    )
    assert status == 0
    first, last = out.splitlines()[0], out.splitlines()[-1]
    assert first.startswith("forecast: ")
    assert last.startswith(f"wrote {tmp_path / 's'}: ")
    assert "/s" in err  # the progress is no result
    encoding = Manifest.load(tmp_path / "s").plan.encoding
    assert (encoding.name, encoding.draws, encoding.tau) == ("sampled", 50, 1.0)


def test_every_verb_speaks_json(run, data_bin, teacher, store, tmp_path):
    data = f"{data_bin} --teacher {teacher} {BLOCKS} --json"
    status, out, _ = run(f"forecast {data} --encoding topk --mask-epochs 3")
    foretold = json.loads(out)
    status2, out, _ = run(f"write {data} --encoding topk --mask-epochs 3 --out {tmp_path / 's'}")
    written = json.loads(out)
    assert status == status2 == 0
    assert foretold["samples"] == written["samples"] == written["forecast"]["samples"]
    assert foretold["bytes"] == pytest.approx(written["bytes"], rel=0.1)

    status, out, _ = run(f"info {store} --json")
    info = json.loads(out)
    assert status == 0
    assert info["manifest"] == Manifest.load(store).to_dict()
    assert info["bytes"] == sum(path.stat().st_size for path in store.glob("*.rows"))

    status, out, _ = run(f"verify {store} --json")
    assert status == 0
    assert json.loads(out)["whole"] is True

    status, out, _ = run(f"audit {data} --rows 200 --encodings topk:k=3 sampled:draws=9")
    audit = json.loads(out)
    assert [each["name"] for each in audit["encodings"]] == ["dense", "topk:k=3", "sampled:draws=9"]


def test_info_says_how_to_train(run, store):
    status, out, _ = run(f"info {store}")
    assert status == 0
    assert f"--task ki_mlm --ki-store {store}" in out
    assert "topk k 4, tail False" in out
    assert "any temperature, re-normalised" in out
    for line in ("--tokens-per-sample", "--mask-prob", "--seed"):
        assert line in out


def test_verify_names_the_damage(run, store, tmp_path):
    copy = shutil.copytree(store, tmp_path / "copy")
    shard = min(copy.glob("*.rows"))
    content = bytearray(shard.read_bytes())
    content[len(content) // 2] ^= 1
    shard.write_bytes(content)
    (copy / "notes.txt").write_text("mine")
    status, out, _ = run(f"verify {copy}")
    assert status == 1
    assert f"damaged: {shard}: expected SHA-256" in out
    assert "no part of the store: notes.txt" in out
    status, out, _ = run(f"verify {copy} --json")
    assert status == 1
    assert json.loads(out)["problems"]


def test_a_missing_store_is_one_line(run, tmp_path):
    status, _, err = run(f"info {tmp_path}")
    assert status == 2
    assert err.count("\n") == 1
    assert "found no manifest.json" in err
    status, out, _ = run(f"verify {tmp_path}")
    assert status == 1
    assert "found no manifest.json" in out


def test_a_finished_store_is_not_overwritten(run, data_bin, teacher, store):
    before = {path: path.read_bytes() for path in store.iterdir()}
    data = f"write {data_bin} --teacher {teacher} {BLOCKS} --out {store} --encoding topk --k 4"
    status, out, err = run(f"{data} --mask-epochs 2")
    assert (status, out) == (2, "")  # before anything is measured
    assert "nothing is left to do" in err
    status, _, err = run(data)
    assert status == 2
    assert "mask_epochs: expected 2, found 1" in err
    assert before == {path: path.read_bytes() for path in store.iterdir()}


def test_a_full_disk_is_foreseen(run, data_bin, teacher, tmp_path, monkeypatch):
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=1000))
    out = tmp_path / "new" / "store"
    status, _, err = run(
        f"write {data_bin} --teacher {teacher} --out {out} {BLOCKS} --encoding topk"
    )
    assert status == 2
    assert "of free disk space, found 1.0 kB" in err
    assert not out.exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("--encoding sampled --k 5", "--k: expected --encoding topk or topp, found sampled"),
        ("--encoding topk --tau 2", "--tau: expected --encoding sampled, found topk"),
        ("--encoding dense --tail", "--tail: expected --encoding topk or topp, found dense"),
        ("--encoding topk --k 66", "k: expected an integer from 1 to 65, found 66"),
        ("--encoding topk --workers 0", "--workers: expected 1 to 1024"),
        ("--encoding topk --batch-size 0", "--batch-size: expected at least 1 sample"),
        pytest.param(
            "--encoding topk --device cuda",
            "--device cuda: expected a GPU that torch can use, found none",
            marks=pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU"),
        ),
        ("--encoding topk --mask-epochs 0", "mask_epochs: expected an integer from 1"),
        ("--encoding topk --tokens-per-sample 33", "expected at least 33 positions"),
        ("--encoding topk --split nosuch", "nosuch"),
        ("--encoding topk --task ki_lm", "expected a causal language model"),
    ],
)
def test_what_a_user_can_get_wrong_is_one_line(run, data_bin, teacher, tmp_path, options, message):
    command = f"write {data_bin} --teacher {teacher} --out {tmp_path / 's'} {BLOCKS} {options}"
    status, _, err = run(command)
    assert status == 2
    assert message in err
    assert "Traceback" not in err
    assert not list(tmp_path.glob("s/*.rows"))


def test_masks_of_a_causal_model_are_refused(run, data_bin, teacher, tmp_path):
    status, _, err = run(
        f"forecast {data_bin} --teacher {teacher} --task ki_lm --encoding topk --mask-epochs 2"
    )
    assert status == 2
    assert "--mask-epochs: a causal model has no masks" in err


def test_options_and_defaults_are_fairseqs(capsys):
    with pytest.raises(SystemExit):
        main(["logits", "write", "--help"])
    masked = capsys.readouterr().out
    with pytest.raises(SystemExit):
        main(["logits", "write", "--task", "ki_lm", "--help"])
    causal = capsys.readouterr().out
    for option in ("--tokens-per-sample", "--sample-break-mode", "--shorten-method", "--seed"):
        assert option in masked
        assert option in causal
    assert "--mask-prob" in masked
    assert "--mask-prob" not in causal
    assert "--add-bos-token" in causal
    with pytest.raises(SystemExit):
        main(["logits", "write", "--bpe", "sentencepiece", "--help"])
    assert "--sentencepiece-model" in capsys.readouterr().out


def test_the_settings_of_a_capture_are_fairseqs_defaults(run, data_bin, teacher, store):
    data = Manifest.load(store).plan.data
    assert data["tokens_per_sample"] == 32
    assert (data["mask_prob"], data["seed"], data["sample_break_mode"]) == (0.15, 1, "none")


def test_audit_recommends_and_draws(run, data_bin, teacher, store, tmp_path):
    picture = tmp_path / "audit.png"
    status, out, _ = run(
        f"audit {data_bin} --teacher {teacher} {BLOCKS} --rows 300 --store {store} "
        f"--plot {picture} --encodings topk:k=3 topk:k=60,tail sampled:draws=50"
    )
    assert status == 0
    table = {line.split()[0]: line for line in out.splitlines() if line}
    assert {"dense", "topk:k=3", "topk:k=60,tail", "sampled:draws=50", str(store)} <= set(table)
    assert "re-normalised over" in out
    assert "\nbuy " in out
    assert picture.read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("encodings", "message"),
    [
        ("topq:k=3", "--encodings: expected one of topk, topp, sampled, dense, found 'topq:k=3'"),
        ("topk:k=three", "--encodings topk:k=three: expected k=NUMBER"),
        ("topk:draws=3", "encoding topk"),
        ("sampled:draws=0", "draws: expected an integer"),
    ],
)
def test_encodings_that_cannot_be(run, data_bin, teacher, encodings, message):
    status, _, err = run(f"audit {data_bin} --teacher {teacher} {BLOCKS} --encodings {encodings}")
    assert status == 2
    assert message in err


def test_audit_refuses_a_store_of_other_data(run, data_bin, teacher, store):
    status, _, err = run(
        f"audit {data_bin} --teacher {teacher} {BLOCKS} --mask-prob 0.3 --store {store}"
    )
    assert status == 2
    assert "data.mask_prob: expected 0.3, found 0.15" in err


@pytest.mark.slow
def test_two_ranks_of_torchrun_write_one_store(data_bin, teacher, store, tmp_path):
    command = (
        f"-m torch.distributed.run --nproc-per-node 2 --standalone -m fairseq_ki.cli.main logits "
        f"write {data_bin} --teacher {teacher} --out {tmp_path / 's'} {BLOCKS} --encoding topk "
        "--k 4 --mask-epochs 2 --samples-per-shard 1024"
    )
    done = subprocess.run(
        [sys.executable, *command.split()],
        capture_output=True,
        text=True,
        timeout=240,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.count("forecast:") == 1
    assert done.stdout.count("wrote ") == 1
    assert {p.name: p.read_bytes() for p in (tmp_path / "s").iterdir()} == {
        p.name: p.read_bytes() for p in store.iterdir()
    }


def test_an_interrupt_ends_in_one_line(monkeypatch, capsys):
    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(Manifest, "load", interrupted)
    assert main(["logits", "info", "store"]) == 130
    assert capsys.readouterr().err == "fairseq-ki logits: interrupted\n"
