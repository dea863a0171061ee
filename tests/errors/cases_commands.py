"""fairseq-ki: logits, experiment, report, forecast."""

import json
import os

from cases_training import shard, without_sentences
from refusals import Case, files, flip, spoiled
from world import CAPTURE

from fairseq_ki.evaluation import results_file
from fairseq_ki.evaluation.downstream import Downstream, SeedScores, SettingScores, TaskScores
from fairseq_ki.evaluation.results import Results, Run
from fairseq_ki.store.strict_json import canonical_sha256, pretty

WRITE = f"fairseq-ki logits write {{data}} --teacher {{teacher}} --out o {CAPTURE}"
SAMPLED = WRITE.replace("topk --k 5", "sampled")
AUDIT = "fairseq-ki logits audit {data} --teacher {teacher} --tokens-per-sample 32"
EXPERIMENT = "fairseq-ki experiment r.yaml --out out"
REPORT = "fairseq-ki report"
JOIN = f"{REPORT} a.json b.json --join"
FORECAST = "fairseq-ki forecast --student roberta_base --teacher 2x128"

RUNS = "name: x\ndata: d\nruns:\n"
GOOD = f"{RUNS}  a: {{options: {{arch: roberta}}}}\n"
BOMB = "\n".join(
    f"{name}: &{name} [{', '.join([before] * 9)}]"
    for name, before in zip("abcdefgh", ("x", *(f"*{name}" for name in "abcdefg")))
)
LOG = "\n".join(
    f'{{"epoch": 1, "update": {u / 10}, "loss": "6.0", "ppl": "64", "num_updates": "{u}", '
    f'"lr": "0.1", "wall": "{u}"}}'
    for u in range(1, 5)
)


def two_results(**changes):
    """a.json and b.json: the second with other values of these arguments."""

    def prepare(_, folder):
        for name, change in (("a", {}), ("b", changes)):
            results_file.save(one_seed(**change), folder / f"{name}.json")

    return prepare


def one_seed(seed=1, lr=1, ppl=16.0, sha="a", asked=()):
    """An experiment of one seed, whose teacher serves all that were asked for."""

    def run(name, seed, ppl):
        command = ["fairseq-train", "d", "--lr", str(lr), "--seed", str(seed)]
        valid = {"updates": [10.0], "loss": [4.0], "ppl": [ppl]}
        return Run(name, name, "", seed, "train", command, f"{name}/seed{seed}", 1.0, valid)

    runs = [run("teacher", 1, ppl), run("self", seed, 16.0)]
    corpus = [{"path": "d", "sha256": sha}]
    seeds = list(asked or [seed])
    return Results("x", "", "", str(seed), [], "", 1, seeds, corpus, {}, {}, [10], runs=runs)


def a_run_twice(_, folder):
    results = one_seed()
    results.runs.append(results.runs[0])
    results_file.save(results, folder / "a.json")


def two_finetunings(_, folder):
    """Of one checkpoint, on other rows of train."""
    for name, rows in (("a", 50), ("b", 60)):
        run = SeedScores(1, {"dev": {"accuracy": 0.5}}, 1, 1.0, "r")
        task = TaskScores(
            "t", "t", "finetune", False, ["accuracy"], {"train": rows, "dev": 9}, 99, {}, {},
            ["x", "y"], {"train": "0"}, {"max_train": rows}, [], [SettingScores({}, [run])], 0,
        )  # fmt: skip
        checkpoint = {"path": "c.pt", "sha256": "0", "arch": "roberta", "updates": 1}
        found = Downstream("c", "", checkpoint, {}, {}, [task])
        (folder / name).mkdir()
        results_file.save(found, folder / name / "downstream.json")


def recipe(text: str | bytes, more: dict[str, str] | None = None):
    return files({"r.yaml": text} | (more or {}))


def rewrite(change):
    """Changes a store's manifest and gives it the right checksum again."""

    def spoil(store):
        path = store / "manifest.json"
        content = json.loads(path.read_text())
        change(content)
        del content["sha256"]
        content["sha256"] = canonical_sha256(content)
        path.write_bytes(pretty(content))

    return spoil


def deep(levels: int) -> list:
    value: list = []
    for _ in range(levels):
        value = [value]
    return value


LOGITS = [
    Case("logits-parameter-of-another", f"{WRITE} --draws 5"),
    Case("logits-k", f"{WRITE} --k 500"),
    Case("logits-p", WRITE.replace("topk --k 5", "topp --k 5 --p 2")),
    Case("logits-draws", f"{SAMPLED} --draws 0"),
    Case("logits-tau", f"{SAMPLED} --tau 0"),
    Case("logits-tau", f"{SAMPLED} --tau 1e-300"),
    Case("logits-mask-epochs", f"{WRITE} --mask-epochs 0"),
    Case("logits-mask-epochs-causal", f"{WRITE} --task ki_lm --mask-epochs 2"),
    Case("logits-samples-per-shard", f"{WRITE} --samples-per-shard 0"),
    Case("logits-workers", f"{WRITE} --workers 0"),
    Case("logits-workers", f"{WRITE} --workers 1000000000"),
    Case("logits-batch-size", f"{WRITE} --batch-size 0"),
    Case("logits-tokens-per-sample", f"{WRITE} --tokens-per-sample 1"),
    Case("logits-device", f"{WRITE} --device cuda"),
    Case("logits-split", f"{WRITE} --split nosuch"),
    Case("logits-out-file", WRITE, files({"o": ""})),
    Case("logits-out-foreign", f"{WRITE} --out ''"),
    Case("logits-out-foreign", f"{WRITE} --out d", files({"d/dict.txt": "a 1\n"})),
    Case("logits-finished", f"{WRITE} --out {{store}}"),
    Case("logits-other-settings", f"{WRITE} --out {{store}} --k 7"),
    Case("data-missing", WRITE.replace("{data}", "nowhere")),
    Case("data-split-empty", WRITE.replace("{data}", "d"),
         spoiled("data", "d", without_sentences)),
    Case("data-ids", WRITE.replace("{data}", "d"),
         spoiled("data", "d", lambda d: (d / "dict.txt").write_text("w0 2\nw1 1\n"))),
    Case("mask-prob", f"{WRITE} --mask-prob 1"),
    Case("teacher-missing", f"{WRITE} --teacher none.pt"),
    Case("teacher-unsafe", f"{WRITE} --teacher {{bomb}}"),
    Case("logits-verify", "fairseq-ki logits verify s",
         spoiled("store", "s", lambda s: flip(shard(s), -20)), status=1),
    Case("store-shard-missing", "fairseq-ki logits verify s",
         spoiled("store", "s", lambda s: os.remove(shard(s))), status=1),
    Case("store-manifest-text", "fairseq-ki logits info s", spoiled("store", "s", rewrite(
        lambda content: content["plan"]["splits"][0].update(name="a\x1b]0;x\x07\nwhole")))),
    Case("store-manifest-deep", "fairseq-ki logits info s", spoiled("store", "s", rewrite(
        lambda content: content["plan"].update(data=deep(40))))),
    Case("logits-info-missing", "fairseq-ki logits info none"),
    Case("audit-encoding", f"{AUDIT} --encodings nosuch"),
    Case("audit-value", f"{AUDIT} --encodings topk:k=x"),
    Case("audit-parameter", f"{AUDIT} --encodings topk:z=3"),
    Case("audit-parameter-twice", f"{AUDIT} --encodings topk:k=5,k=6"),
    Case("audit-plot", f"{AUDIT} --plot p"),
    Case("audit-rows", f"{AUDIT} --rows 0"),
]  # fmt: skip

EXPERIMENTS = [
    Case("recipe-missing", EXPERIMENT.replace("r.yaml", "none.yaml")),
    Case("recipe-bytes", EXPERIMENT, recipe(b"\xff\xfe")),
    Case("recipe-syntax", EXPERIMENT, recipe("a: [")),
    Case("recipe-tag", EXPERIMENT, recipe("!!python/object/apply:os.system ['touch executed']")),
    Case("recipe-tag", EXPERIMENT, recipe("name: !!python/name:os.system x\n")),
    Case("recipe-tag", EXPERIMENT, recipe("!!python/object/new:subprocess.Popen [[touch, x]]")),
    Case("recipe-bomb", EXPERIMENT, recipe(BOMB)),
    Case("recipe-deep", EXPERIMENT, recipe("a: " + "[" * 2000 + "]" * 2000)),
    Case("recipe-deep", EXPERIMENT, recipe("a: &a [*a]\n")),
    Case("recipe-no-mapping", EXPERIMENT, recipe("")),
    Case("recipe-no-mapping", EXPERIMENT, recipe("- a")),
    Case("recipe-key-twice", EXPERIMENT, recipe("name: x\nname: y\n")),
    Case("recipe-key-unknown", EXPERIMENT, recipe(f"{GOOD}colour: red\n")),
    Case("recipe-type", EXPERIMENT, recipe("name: 3\ndata: d\nruns: {}\n")),
    Case("recipe-date", EXPERIMENT, recipe("name: 2001-13-45\n")),
    Case("recipe-no-run", EXPERIMENT, recipe(f"{RUNS}  {{}}\n")),
    Case("recipe-no-seed", EXPERIMENT, recipe(f"{GOOD}seeds: []\n")),
    Case("recipe-run-name", EXPERIMENT, recipe(f"{RUNS}  'a b': {{options: {{}}}}\n")),
    Case("recipe-kind", EXPERIMENT, recipe(f"{RUNS}  a: {{kind: dance}}\n")),
    Case("recipe-role", EXPERIMENT, recipe(f"{RUNS}  a: {{role: king, options: {{}}}}\n")),
    Case("recipe-option", EXPERIMENT, recipe(f"{RUNS}  a: {{options: {{save-dir: x}}}}\n")),
    Case("recipe-placeholder", EXPERIMENT,
         recipe(f"{RUNS}  a: {{options: {{arch: '{{nope}}'}}}}\n")),
    Case("recipe-circle", EXPERIMENT,
         recipe(f"{RUNS}  a: {{needs: [b], options: {{}}}}\n  b: {{needs: [a], options: {{}}}}\n")),
    Case("recipe-extends", EXPERIMENT, recipe(f"{RUNS}  a: {{extends: b, options: {{}}}}\n")),
    Case("recipe-teacher-uncounted", EXPERIMENT,
         recipe(f"{RUNS}  a: {{options: {{ki-teacher: '{{runs.b}}/x'}}}}\n"
                f"  b: {{options: {{}}}}\n")),
    Case("recipe-compare", EXPERIMENT,
         recipe(f"{GOOD}compare: [{{inherited: a, alone: c}}]\n")),
    Case("experiment-scale", f"{EXPERIMENT} --scale big", recipe(GOOD)),
    Case("experiment-shorten", f"{EXPERIMENT} --shorten 0", recipe(GOOD)),
    Case("experiment-shorten", f"{EXPERIMENT} --shorten nan", recipe(GOOD)),
    Case("experiment-shorten", f"{EXPERIMENT} --shorten inf", recipe(GOOD)),
    Case("experiment-shorten", f"{EXPERIMENT} --shorten short", recipe(GOOD)),
    Case("experiment-seeds", f"{EXPERIMENT} --seeds 1,2", recipe(GOOD)),
    Case("experiment-seeds", f"{EXPERIMENT} --seeds -1", recipe(GOOD)),
    Case("experiment-data", EXPERIMENT, recipe(GOOD)),
    Case("experiment-out-file", f"{EXPERIMENT} --data {{data}}", recipe(GOOD, {"out": ""})),
    Case("experiment-foreign-folder", f"{EXPERIMENT} --data {{data}}",
         recipe(GOOD, {"out/a/seed1/x": ""})),
    Case("experiment-changed", f"{EXPERIMENT} --data {{data}}",
         recipe(GOOD, {"out/a/seed1/started.json": '{"signature": "x", "words": ["y"]}'})),
    Case("experiment-note-damaged", f"{EXPERIMENT} --data {{data}}",
         recipe(GOOD, {"out/a/seed1/started.json": '{"signature'})),
    Case("experiment-note-damaged", f"{EXPERIMENT} --data {{data}}",
         recipe(GOOD, {"out/a/seed1/started.json": "[1]"})),
    Case("experiment-note-damaged", f"{EXPERIMENT} --data {{data}}",
         recipe(GOOD, {"out/a/seed1/started.json": '{"signature": "x", "words": 5}'})),
    Case("experiment-note-damaged", f"{EXPERIMENT} --data {{data}}",
         recipe(GOOD, {"out/a/seed1/started.json": '{"signature": "x", "words": [5]}'})),
]  # fmt: skip

REPORTS = [
    Case("report-missing", f"{REPORT} nowhere"),
    Case("report-folder", f"{REPORT} ."),
    Case("report-log", f"{REPORT} x.log", files({"x.log": "hello"})),
    Case("report-log", f"{REPORT} x.log", files({"x.log": b"\x00\xff" * 100})),
    Case("report-json", f"{REPORT} results.json", files({"results.json": "{"})),
    Case("report-json", f"{REPORT} results.json", files({"results.json": b"\xff"})),
    Case("report-json-deep", f"{REPORT} results.json", files({"results.json": "[" * 100000})),
    Case("report-cut-off", f"{REPORT} cut.json", files({"cut.json": "{\n"})),
    Case("report-cut-off", f"{REPORT} cut.json", files({"cut.json": ""})),
    Case("report-run-twice", f"{REPORT} a.json --out o.html", a_run_twice),
    Case("report-format", f"{REPORT} results.json", files({"results.json": "[]"})),
    Case("report-fields", f"{REPORT} results.json",
         files({"results.json": '{"format": "fairseq_ki.results/1"}'})),
    Case("report-compare", f"{REPORT} x.log --compare a b", files({"x.log": LOG})),
    Case("report-examples", f"{REPORT} x.log --results r.md --examples e", files({"x.log": LOG})),
    Case("report-same-name", f"{REPORT} x.log x.log", files({"x.log": LOG})),
    Case("report-over-source", f"{REPORT} x.log --markdown x.log", files({"x.log": LOG})),
    Case("report-over-output", f"{REPORT} x.log --out o --markdown o", files({"x.log": LOG})),
    Case("report-under-file", f"{REPORT} x.log --out x.log/y.html", files({"x.log": LOG})),
    Case("report-under-output", f"{REPORT} x.log --out o --results o/x.md", files({"x.log": LOG})),
    Case("report-unwritable", f"{REPORT} x.log --out /proc/nowhere/y.html", files({"x.log": LOG})),
    Case(
        "report-pictures",
        f"{REPORT} x.log --markdown o.md",
        files({"x.log": LOG, "o_files": "not a folder"}),
    ),
    Case("report-further-seeds", f"{REPORT} a b --out o.html", two_finetunings),
    Case("report-join-seeds", JOIN, two_results()),
    Case("report-join-data", JOIN, two_results(seed=2, sha="b")),
    Case("report-join-command", JOIN, two_results(seed=2, lr=2)),
    Case("report-join-unfinished", JOIN, two_results(seed=2, asked=(2, 3))),
    Case("report-join-served", JOIN, two_results(seed=2, ppl=17.0)),
    Case("forecast-model", f"{FORECAST} --student nosuch"),
    Case("forecast-heads", f"{FORECAST} --student 2x127x9x4"),
    Case("forecast-kind", f"{FORECAST} --task ki_lm"),
    Case("forecast-number", f"{FORECAST} --updates 0"),
    Case("forecast-mask-prob", f"{FORECAST} --mask-prob nan"),
    Case("forecast-distinct", f"{FORECAST} --distinct 99"),
    Case("teacher-other-file", f"{FORECAST} --student {{data}}/dict.txt"),
    Case("teacher-unsafe", f"{FORECAST} --student {{bomb}}"),
    Case("link-to-itself", f"{WRITE} --out l", lambda _, folder: (folder / "l").symlink_to("l")),
    Case("verb-unknown", "fairseq-ki nosuch"),
]  # fmt: skip

CASES = LOGITS + EXPERIMENTS + REPORTS
