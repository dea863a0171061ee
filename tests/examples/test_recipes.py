"""The examples as they are: what they share, and how a person starts them."""

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml
from fairseq import options

import fairseq_ki  # noqa: F401  (registers tasks, criterions, architectures)
from fairseq_ki.cli.main import main
from fairseq_ki.experiments import recipe
from fairseq_ki.experiments.plan import plan

ROOT = Path(__file__).resolve().parents[2]
EXAMPLES = ROOT / "examples"
NAMES = sorted(p.parent.name for p in EXAMPLES.glob("*/recipe.yaml"))
SHARED = [name for name in NAMES if name not in ("quickstart", "gpt_sizes")]


def jobs(name: str, scale: str = "") -> dict:
    loaded = recipe.load(EXAMPLES / name / "recipe.yaml", scale)
    return {job.spec.name: job for job in plan(loaded, Path("runs/x"), [1])}


def test_the_common_runs_are_the_quickstarts():
    quickstart, base = jobs("quickstart"), jobs("schedules")
    for name in ("teacher", "self", "ki"):
        ours = {k: str(v) for k, v in base[name].spec.options.items()}
        assert ours.pop("required-batch-size-multiple") == "1"  # for equal validation samples
        assert ours == {k: str(v) for k, v in quickstart[name].spec.options.items()}


def test_examples_share_teachers_and_baselines():
    folders: dict[str, set] = {}
    for name in SHARED:
        for job in jobs(name).values():
            if job.spec.folder == "shared":
                folders.setdefault(job.spec.name, set()).add(job.folder)
    for name in ("teacher", "self", "ki", "large", "large_ki"):
        assert len(folders[name]) == 1, folders[name]


@pytest.mark.parametrize("name", NAMES)
def test_every_example_has_its_files(name):
    readme = (EXAMPLES / name / "README.md") if name != "quickstart" else ROOT / "README.md"
    assert f"bash examples/{name}/run.sh" in readme.read_text()
    script = EXAMPLES / name / "run.sh"
    subprocess.run(["bash", "-n", str(script)], check=True)
    assert os.access(script, os.X_OK)


@pytest.mark.parametrize("name", [name for name in NAMES if name != "quickstart"])
def test_findings_and_tables_are_there(name):
    loaded = recipe.load(EXAMPLES / name / "recipe.yaml")
    assert loaded.findings
    assert loaded.about


def test_fairseq_takes_every_option_of_every_example():
    commands = set()
    for name in NAMES:
        scales = yaml.safe_load((EXAMPLES / name / "recipe.yaml").read_text()).get("scales", {})
        for scale in ("", *scales):
            for job in jobs(name, scale).values():
                assert "{data}" not in f"{job.command} {job.data}"
                if job.spec.kind == "train":
                    words = job.command[job.command.index("fairseq_cli.train") + 2 :]
                    commands.add(tuple(w for w in words if w != "--fp16"))  # refused on a CPU
    assert len(commands) > 100
    for words in commands:
        parser = options.get_training_parser()
        parsed = options.parse_args_and_arch(parser, ["data", *words])
        assert parsed.criterion == "ki"


@pytest.mark.parametrize("scale", ["", "paper"])
def test_arms_of_topk_differ_in_their_teacher_alone(scale):
    found = jobs("topk", scale)
    alone = found["self"].spec.options
    arms = ("live", "top10", "top50", "top100", "top1000", "draws", "top10_tail")
    for arm in arms:
        options = found[arm].spec.options
        assert options["ki-steps"] == found["live"].spec.options["ki-steps"]
        assert bool(options.get("ki-tail")) == (arm == "top10_tail")
        assert {k: v for k, v in options.items() if not k.startswith("ki-")} == {
            k: v for k, v in alone.items() if not k.startswith("ki-")
        }
        assert found[arm].data == found["self"].data
    tokens = alone["tokens-per-sample"]
    kept = []
    for arm in arms[1:]:
        command = found[f"store_{arm}"].command
        assert f"--tokens-per-sample {tokens} " in command[2]
        assert command[3:] == [
            found[arm].data, str(found["teacher"].folder), str(found[f"store_{arm}"].folder)
        ]  # fmt: skip
        kept.append(command[2].split("--encoding ")[1].split(" --tokens")[0])
    assert kept == [
        "topk --k 10", "topk --k 50", "topk --k 100", "topk --k 1000", "sampled --draws 50",
        "topk --k 10 --tail",
    ]  # fmt: skip


def test_a_dry_run_needs_nothing(capsys, tmp_path):
    command = ["experiment", str(EXAMPLES / "domain_adaptation" / "recipe.yaml")]
    assert main([*command, "--out", str(tmp_path / "out"), "--dry-run"]) == 0
    printed = capsys.readouterr().out
    assert "fairseq_cli.validate" in printed
    assert "cat >" in printed  # the mixtures
    assert not any(tmp_path.iterdir())


@pytest.fixture
def start(tmp_path):
    """Runs examples/NAME/run.sh with Python replaced by echo: the commands that it would run."""
    shutil.copytree(EXAMPLES, tmp_path / "examples")
    (tmp_path / "examples" / "venv.sh").write_text("PY=echo\n")

    def started(name, *arguments, **variables):
        done = subprocess.run(
            ["bash", f"examples/{name}/run.sh", *arguments],
            cwd=tmp_path,
            env={"PATH": os.environ["PATH"], **variables},
            capture_output=True,
            text=True,
        )
        return done.stdout.splitlines() + done.stderr.splitlines()

    return started


DOCS = "preprocess/docs_corpus.py"
DRIVER = "-m fairseq_ki.cli.main experiment examples/"


def text_in(folder, *domains):
    (folder / "pretrain").mkdir(parents=True)
    for name in domains:
        (folder / "pretrain" / f"{name}.train.txt.xz").touch()


def test_the_variables_of_run_sh(start, tmp_path):
    assert start("schedules", DRY_RUN="1", SEEDS="1 2", SHORTEN="40") == [
        f"{DRIVER}schedules/recipe.yaml --out runs/schedules_short40 --shared "
        "runs/shared --data runs/corpora/docs/wb --shorten 40 --seeds 1 2 --dry-run"
    ]
    assert start("teacher_data", DRY_RUN="1", SCALE="full") == [
        f"{DRIVER}teacher_data/recipe.yaml --out runs/teacher_data_full --shared runs/shared "
        "--data runs/corpora/packages/wb --shorten 1 --scale full --dry-run"
    ]
    assert start(
        "generations", DRY_RUN="1", SCALE="paper", DATA="bins/wb", OUT="o", SHARED="s"
    ) == [
        f"{DRIVER}generations/recipe.yaml --out o --shared s --data bins/wb --shorten 1 "
        "--scale paper --dry-run"
    ]
    text_in(tmp_path / "there", "wb")
    text_in(tmp_path / "elsewhere", "wb")
    (line,) = start("base_to_large", DRY_RUN="1", SCALE="gpu", DOMAINS="there")
    (other,) = start("base_to_large", DRY_RUN="1", SCALE="gpu", DOMAINS="elsewhere")
    assert re.search(r"--data runs/corpora/domains-\d+/all ", line)
    assert line != other  # nothing made of one source is taken for another
    (line,) = start("schedules", "--seeds", "9", DRY_RUN="1")
    assert line.endswith("--shorten 1 --dry-run --seeds 9")
    for how in ({"DRY_RUN": "1"}, {}):
        *_, line = start("quickstart", *([] if how else ["--dry-run"]), SHORTEN="40", **how)
        assert line.startswith(f"{DRIVER}quickstart/recipe.yaml --seeds 1 ")
        assert "--out runs/quickstart_short40 " in line
        assert line.endswith("--dry-run")
        (line,) = start("huggingface", *([] if how else ["--dry-run"]), **how)
        assert line.startswith("expected no arguments and no DRY_RUN, found")
    assert start("beyond", SCALE="paper") == ["SCALE=paper needs DATA, a data-bin of your own text"]


def test_the_full_scale_has_one_name(start):
    assert start("teacher_data", FULL="1") == ["expected SCALE=full, found FULL=1"]


def test_what_is_asked_for_is_checked_before_data_are_made(start, tmp_path):
    """Here by a Python that refuses a dry run, as the driver does one with an unknown scale."""
    refusing = tmp_path / "python"
    refusing.write_text('#!/bin/sh\ncase "$*" in *--dry-run*) exit 2 ;; esac\necho "$@"\n')
    refusing.chmod(0o755)
    (tmp_path / "examples" / "venv.sh").write_text(f"PY={refusing}\n")
    assert start("schedules", SCALE="huge") == []
    assert start("quickstart", SEEDS="x") == []
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(
    ("example", "variables", "said"),
    [
        ("topk", {"DOMAINS": "nowhere"}, "expected DOMAINS to be a folder with pretrain/"),
        ("topk", {"DOMAINS": "nowhere", "DRY_RUN": "1"}, "expected DOMAINS to be a folder with"),
        ("quickstart", {"SCALE": "paper"}, "expected no SCALE, DATA or DOMAINS, found SCALE=paper"),
        ("huggingface", {"SHORTEN": "0"}, "expected SHORTEN to be a whole number from 1 to 80"),
        ("huggingface", {"SHORTEN": "2.5"}, "expected SHORTEN to be a whole number from 1 to 80"),
        ("huggingface", {"SHORTEN": "81"}, "expected SHORTEN to be a whole number from 1 to 80"),
        ("huggingface", {"TRAIN": "examples/base.yaml"}, "expected files of text in TRAIN and"),
        ("huggingface", {"MODEL": "nowhere"}, "expected MODEL to be a directory with config.json"),
    ],
)
def test_variables_are_refused_before_anything_is_made(start, tmp_path, example, variables, said):
    (line,) = start(example, **variables)
    assert line.startswith(said)
    assert {p.name for p in tmp_path.iterdir()} == {"examples"}


def test_the_data_bins_that_run_sh_makes(start, tmp_path):
    text_in(tmp_path / "there", "wb", "cs")
    (tmp_path / "there" / "downstream" / "sst2").mkdir(parents=True)
    # nothing is made, so what two data-bins need is asked for twice
    lines = dict.fromkeys(start("topk", DOMAINS="there"))
    (folder,) = (path.relative_to(tmp_path) for path in tmp_path.glob("runs/corpora/domains-*"))
    assert [line for line in lines if line.startswith("preprocess/")] == [
        "preprocess/train_sentencepiece.py there/pretrain/cs.train.txt.xz "
        f"there/pretrain/wb.train.txt.xz --out-dir {folder}/spm --vocab-size 8000 "
        "--sample-lines 60000 --threads 2",
        "preprocess/part.py --train there/pretrain/wb.train.txt.xz --valid "
        f"there/pretrain/wb.valid.txt.xz --out-dir {folder}/text/wb",
        f"preprocess/binarize.py --fast --train {folder}/text/wb/train.txt --valid "
        f"{folder}/text/wb/valid.txt --model {folder}/spm/spm.model --out-dir {folder}/wb "
        "--workers 2",
        f"preprocess/part.py --train {folder}/text/wb/train.txt --valid {folder}/text/wb/valid.txt "
        f"--out-dir {folder}/text/wb-1of4 --piece-lines 40 --every 4 --start 1",
        f"preprocess/binarize.py --fast --train {folder}/text/wb-1of4/train.txt --valid "
        f"{folder}/text/wb-1of4/valid.txt --model {folder}/spm/spm.model --out-dir "
        f"{folder}/wb-1of4 --workers 2",
    ]
    assert (tmp_path / folder / "downstream" / "sst2").is_dir()
    made = [line.split() for line in dict.fromkeys(start("domain_adaptation"))]
    packages = [words[2] for words in made if words[:2] == [DOCS, "--packages"]]
    assert packages == ["python", "sympy", "torch"]
