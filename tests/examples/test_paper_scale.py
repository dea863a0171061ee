"""SCALE=paper, line by line against the paper's Tables 6 to 8 (paper_tables.yaml)."""

import ast
import functools
from argparse import Namespace
from pathlib import Path

import pytest
import yaml
from fairseq.models import ARCH_CONFIG_REGISTRY

import fairseq_ki.models  # noqa: F401  (registers the architectures)
from fairseq_ki.downstream.tasks import DOMAIN_GRID, GLUE_GRID, TASKS
from fairseq_ki.experiments import recipe
from fairseq_ki.experiments.plan import Job, plan

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
PAPER = yaml.safe_load(Path(__file__).with_name("paper_tables.yaml").read_text())
NAMES = sorted(p.parent.name for p in EXAMPLES.glob("*/recipe.yaml"))
AT_PAPER_SCALE = [name for name in NAMES if name != "quickstart"]
# Table 7 is about runs of the whole length; what these examples vary is no guidance of the paper's
OWN_GUIDANCE = {
    ("beyond", "long"),
    ("beyond", "young_long"),
    ("beyond", "young_stop"),
    ("beyond", "selftaught"),
}


@functools.cache
def jobs_of(name: str) -> list[Job]:
    loaded = recipe.load(EXAMPLES / name / "recipe.yaml", "paper", data="/data/wb")
    return plan(loaded, Path("out"), [1])


def trainings(name: str) -> list[Job]:
    return [job for job in jobs_of(name) if job.spec.kind == "train"]


def option(job: Job, name: str, default: str = "") -> str:
    """The value in the command line, which is what would run."""
    words = job.command
    places = [i for i, word in enumerate(words) if word == f"--{name}"]
    assert len(places) <= 1, f"{job.name}: --{name} twice"
    return words[places[0] + 1] if places else default


def batch(job: Job) -> int:
    assert job.command[:5] == ["torchrun", "--standalone", "--nproc-per-node", "8", "-m"]
    gpus = int(job.command[3])
    return gpus * int(option(job, "batch-size")) * int(option(job, "update-freq", "1"))


def adapted(job: Job) -> bool:
    return "--finetune-from-model" in job.command and job.updates in PAPER["adaptation_lengths"]


def student_and_teacher(job: Job) -> tuple[str, str]:
    teachers = [job.needs[name] for name in job.spec.teachers]
    if not teachers:  # of a store: the one that it was captured from
        (store,) = (need for need in job.needs.values() if need.spec.kind == "command")
        teachers = list(store.needs.values())
    (teacher,) = teachers
    own = option(teacher, "arch")
    if teacher.spec.teachers:
        (before,) = (teacher.needs[name] for name in teacher.spec.teachers)
        own = f"{option(before, 'arch')} -> {own}"
    return option(job, "arch"), own


@pytest.mark.parametrize("name", AT_PAPER_SCALE)
def test_setup_of_every_training(name):
    setup = PAPER["setup"]
    for job in trainings(name):
        assert int(option(job, "tokens-per-sample")) == setup["tokens-per-sample"]
        assert list(ast.literal_eval(option(job, "adam-betas"))) == setup["adam-betas"]
        for number in ("adam-eps", "weight-decay", "dropout", "attention-dropout"):
            assert float(option(job, number)) == setup[number], (job.name, number)
        assert "--fp16" in job.command
        assert option(job, "lr-scheduler") == "polynomial_decay"
        updates = int(option(job, "max-update"))
        assert int(option(job, "total-num-update")) == updates
        assert int(option(job, "warmup-updates")) == round(setup["warmup_share"] * updates)
        assert float(option(job, "clip-norm")) == 0.0
        if option(job, "ki-steps") and name not in ("topk", "beyond", "temperature"):
            assert float(option(job, "ki-temperature")) == 2.0


@pytest.mark.parametrize("name", AT_PAPER_SCALE)
def test_table_6(name):
    for job in trainings(name):
        arch = option(job, "arch")
        layers, width, heads, ffn, lr = PAPER["table6"][arch]
        if name != "batch_size":
            assert float(option(job, "lr")) == lr, job.name
            assert batch(job) == PAPER["batch"], job.name
        built = Namespace()
        ARCH_CONFIG_REGISTRY[arch](built)
        side = "decoder" if arch.startswith("gpt") else "encoder"
        sizes = ("layers", "embed_dim", "attention_heads", "ffn_embed_dim")
        assert [getattr(built, f"{side}_{s}") for s in sizes] == [layers, width, heads, ffn]
        # nothing in the command changes the architecture that it names
        assert not [word for word in job.command if word.startswith((f"--{side}-", "--max-pos"))]


@pytest.mark.parametrize("name", AT_PAPER_SCALE)
def test_updates(name):
    for job in trainings(name):
        young = job.spec.label == "teacher, 62500 updates"  # of RQ3
        if name in ("batch_size", "teacher_steps") or adapted(job) or young:
            assert not young or int(option(job, "max-update")) == 62_500
            continue
        teaches = name == "gpt_sizes" and job.spec.role == "teacher"
        expected = PAPER["gpt_teacher_updates"] if teaches else PAPER["updates"]
        assert int(option(job, "max-update")) == expected, job.name


@pytest.mark.parametrize("name", AT_PAPER_SCALE)
def test_table_7(name):
    guided = {(student, teacher): steps for student, teacher, steps in PAPER["table7"]}
    seen = set()
    for job in trainings(name):
        if not option(job, "ki-steps") or (name, job.spec.name) in OWN_GUIDANCE or adapted(job):
            continue
        pair = student_and_teacher(job)
        share = int(option(job, "max-update")) / PAPER["updates"] if name == "batch_size" else 1
        assert int(option(job, "ki-steps")) == share * guided[pair], job.name
        seen.add(pair)
    expected = {
        "base_to_large": 1, "generations": 4, "gpt_sizes": 5, "model_size": 3,
        "teacher_architecture": 8,
    }  # fmt: skip
    if name in expected:
        assert len(seen) == expected[name]


def test_all_of_table_7_is_somewhere():
    seen = {
        student_and_teacher(job)
        for name in ("schedules", "teacher_architecture", "generations", "model_size", "gpt_sizes")
        for job in trainings(name)
        if option(job, "ki-steps")
    }
    assert seen >= {(student, teacher) for student, teacher, _ in PAPER["table7"]}


def test_table_8():
    glue, domain = PAPER["table8"]["glue"], PAPER["table8"]["chemprot"]
    assert [list(GLUE_GRID.lrs), list(GLUE_GRID.batch_sizes)] == glue
    assert [list(DOMAIN_GRID.lrs), list(DOMAIN_GRID.batch_sizes)] == domain
    for task in ("citation_intent", "chemprot"):
        assert TASKS[task].grid == DOMAIN_GRID
    found = 0
    for name in AT_PAPER_SCALE:
        for job in jobs_of(name):
            words = " ".join(job.command)
            if "fairseq-ki finetune" in words:
                assert "--grid paper" in words, job.name
                assert "--probe" not in words
                assert "--max-train" not in words
                found += 1
    # 25 points of two arms; MNLI of nine students; F1 on each of two domains: two models before
    # adaptation, ten adapted to it, eight to both
    assert found == 50 + 9 + 2 * (2 + 10 + 8)


def test_batch_sizes():
    found = {}
    for job in trainings("batch_size"):
        if job.spec.role != "teacher":
            found.setdefault(batch(job), set()).add(
                (float(option(job, "lr")), int(option(job, "max-update")))
            )
    expected = {size: {tuple(pair)} for size, pair in PAPER["batch_sizes"].items()}
    assert found == expected


def test_teacher_steps():
    teachers = [job for job in trainings("teacher_steps") if job.spec.role == "teacher"]
    assert sorted(job.updates for job in teachers) == PAPER["teacher_steps"]


def test_adaptation():
    arms = [job for job in trainings("domain_adaptation") if adapted(job)]
    # Table 2: five sizes of two domains; Table 3: four; three remedies; each but those twice
    main = [job for job in arms if job.updates == PAPER["adaptation_updates"]]
    assert len(main) == 2 * (5 * 2 + 4) + 3 * 2
    # Fig. 5: the other lengths, of two arms and two domains
    others = sorted(job.updates for job in arms if job not in main)
    assert others == sorted(4 * [1000, 2000, 3000, 5000])
    for job in arms:
        if option(job, "ki-steps"):
            assert int(option(job, "ki-steps")) == job.updates
    assert all("self" in job.needs for job in arms)


@pytest.mark.parametrize("name", NAMES)
def test_one_evaluator_with_one_mask_seed(name):
    """Every PPL is of the run's own criterion on masks that no recipe changes."""
    path = EXAMPLES / name / "recipe.yaml"
    scales = ["", *recipe.RecipeFile(path).data.get("scales", {})]
    for scale in scales:
        for job in plan(recipe.load(path, scale), Path("out"), [1]):
            assert "--ki-valid-mask-seed" not in job.command
            assert "--valid-subset" not in job.command
            if job.spec.kind == "train":
                assert option(job, "criterion") == "ki"
                assert option(job, "task") in ("ki_mlm", "ki_lm")
