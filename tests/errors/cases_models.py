"""Mixtures, conversion, growth, lineage and fine-tuning."""

import json

import safetensors.torch
import torch
from cases_training import PLAIN, TAUGHT
from refusals import Case, Prepare, files

MIXED = f"{PLAIN} --ki-mixture m.yaml --ki-steps 2"
TO_HF = "fairseq-ki convert to-hf {teacher} --spm {spm}/spm.model --out o"
FROM_HF = "fairseq-ki convert from-hf d --out o/c.pt"
GROW = "fairseq-ki grow --from {teacher} --arch 2x32x64x2 --out g.pt"
LINEAGE = "fairseq-ki lineage"
FINETUNE = "fairseq-ki finetune {teacher} --data d --out o --cpu"

ROBERTA = (
    '{"model_type": "roberta", "vocab_size": 65, "hidden_size": 16, "num_hidden_layers": 1, '
    '"num_attention_heads": 2, "intermediate_size": 32, "max_position_embeddings": 34, '
    '"pad_token_id": 1, "type_vocab_size": 1}'
)
REMOTE_CODE = {
    "d/config.json": '{"model_type": "roberta", "auto_map": {"AutoModel": "evil.Model"}}',
    "d/evil.py": "open('executed', 'w')",
}
MASKED = FINETUNE.replace("{teacher}", "{masked}")
SYMBOLS = {"<s>": 0, "<pad>": 1, "</s>": 2, "<unk>": 3, "<mask>": 4}
TOKENIZER = {
    "d/tokenizer.json": json.dumps({
        "version": "1.0", "truncation": None, "padding": None, "added_tokens": [],
        "normalizer": None, "pre_tokenizer": None, "post_processor": None, "decoder": None,
        "model": {"type": "WordLevel", "vocab": SYMBOLS, "unk_token": "<unk>"}}),
    "d/tokenizer_config.json": json.dumps({
        "tokenizer_class": "PreTrainedTokenizerFast", "pad_token": "<pad>"}),
    "d/model.safetensors": safetensors.torch.save({
        "lm_head.dense.weight": torch.zeros(16, 16),
        "roberta.embeddings.word_embeddings.weight": torch.zeros(65, 16)}),
}  # fmt: skip
TASK = files({"d/a/train.jsonl": "x\n"})


def labelled(*labels, more: dict[str, str] | None = None) -> Prepare:
    """A task ``a`` of rows with these labels, and more files."""
    rows = "".join(json.dumps({"text": "good", "label": label}) + "\n" for label in labels)
    return files({"d/a/train.jsonl": rows, "d/a/dev.jsonl": rows, **(more or {})})


def mixture(text: str) -> Prepare:
    """``m.yaml`` with one domain, ``a``, or with a text that begins with its own keys."""

    def prepare(world, folder):
        whole = text if "domains" in text or not text.startswith("{") else f"domains: {{a: {text}}}"
        (folder / "m.yaml").write_text(world.fill(whole))

    return prepare


def taught(teacher: str) -> Prepare:
    return mixture(f"{{data: '{{data}}', teachers: [{teacher}]}}")


def other_dictionary(world, folder):
    data = world.copy("data", folder / "d")
    (data / "dict.txt").write_text("a 1\n")
    second = "b: {data: '{data}', teachers: [{checkpoint: '{teacher}'}]}"
    mixture(f"domains: {{a: {{data: d}}, {second}}}")(world, folder)


def another_mixture(world, folder):
    def alter(state):
        recorded = {"domains": "a", "a.data": world.names["data"], "a.weight": 2.0}
        state["extra_state"]["KIMaskedLMTask"]["mixture"] = recorded

    world.altered("student", folder / "save" / "checkpoint_last.pt", alter)
    mixture("{data: '{data}'}")(world, folder)


def strange_lineage(world, folder):
    def alter(state):
        state["extra_state"]["KIMaskedLMTask"]["lineage"]["tree"] = {}

    world.altered("student", folder / "c.pt", alter)


def copied_alone(world, folder):
    """A checkpoint beside which, and where it was trained, there is no dict.txt."""

    def alter(state):
        state["cfg"]["task"]["data"] = "not/here"

    TASK(world, folder)
    world.altered("masked", folder / "c.pt", alter)
    (folder / "dict.txt").unlink()  # which comes with it


def fine_tuned(world, folder):
    def alter(state):
        model = state["model"]
        model["classification_heads.x.weight"] = next(iter(model.values())).clone()

    TASK(world, folder)
    world.altered("masked", folder / "c.pt", alter)


MIXTURES = [
    Case("mixture-missing", MIXED),
    Case("mixture-no-mapping", MIXED, mixture("")),
    Case("mixture-no-domain", MIXED, mixture("domains: {}")),
    Case("mixture-tag", MIXED, mixture("!!python/object/apply:os.system ['touch executed']")),
    Case("mixture-key", MIXED, mixture("domains: {a: {data: '{data}'}}\ncolour: 3\n")),
    Case("mixture-weight", MIXED, mixture("{data: '{data}', weight: -1}")),
    Case("mixture-weight", MIXED, mixture("{data: '{data}', weight: .nan}")),
    Case("mixture-weight", MIXED, mixture(f"{{data: '{{data}}', weight: 1{'0' * 400}}}")),
    Case("mixture-weight", MIXED, mixture("{data: '{data}', weight: 1.0e+308}")),
    Case("mixture-text", MIXED, taught('{checkpoint: "x\\0y"}')),
    Case("mixture-weights-all-0", MIXED, mixture("{data: '{data}', weight: 0}")),
    Case("mixture-data", MIXED, mixture("{data: nowhere}")),
    Case("mixture-dictionary", MIXED, other_dictionary),
    Case("mixture-name", MIXED, mixture("domains: {a b: {data: '{data}'}}")),
    Case(
        "mixture-name-of-yaml",
        MIXED,
        mixture("domains:\n  a: {data: '{data}'}\n  no: {data: '{data}'}\n"),
    ),
    Case("mixture-teacher-dictionary", MIXED, taught("{checkpoint: '{teacher}', dict: none.txt}")),
    Case("mixture-teacher-temperature", MIXED, taught("{store: '{drawn}'}")),
    Case("mixture-teacher-missing", MIXED, taught("{checkpoint: none.pt}")),
    Case("mixture-teacher-none", MIXED, taught("{}")),
    Case("mixture-teacher-two", MIXED, taught("{checkpoint: '{teacher}', store: '{store}'}")),
    Case("mixture-teacher-weights", MIXED, taught("{checkpoint: '{teacher}', weight: 0}")),
    Case("teacher-causal-for-masked", MIXED, taught("{checkpoint: '{causal}'}")),
    Case("teacher-unsafe", MIXED, taught("{checkpoint: '{bomb}'}")),
    Case("hf-directory", MIXED, taught("{checkpoint: 'hf:nowhere'}")),
    Case("store-missing", MIXED, taught("{store: nowhere}")),
    Case(
        "mixture-and-teacher", f"{TAUGHT} --ki-mixture m.yaml", taught("{checkpoint: '{teacher}'}")
    ),
    Case("mixture-changed", f"{PLAIN} --ki-mixture m.yaml --max-update 9", another_mixture),
    Case("teacher-forgotten", MIXED, mixture("{data: '{data}'}")),
]

CONVERSIONS = [
    Case("convert-checkpoint", TO_HF.replace("{teacher}", "none.pt")),
    Case("teacher-unsafe", TO_HF.replace("{teacher}", "{bomb}")),
    Case("convert-spm-missing", TO_HF.replace("{spm}/spm.model", "none")),
    Case("convert-spm-other", TO_HF.replace("spm.model", "dict.txt")),
    Case("convert-pieces", TO_HF),
    Case("convert-out", TO_HF, files({"o/x": ""})),
    Case("convert-dictionary", f"{TO_HF} --dict none"),
    Case("convert-head", f"{TO_HF} --head x"),
    Case("hf-directory", FROM_HF),
    Case("hf-directory", f"{PLAIN} --ki-teacher hf:nowhere --ki-steps 2", status=1),
    Case("hf-json", FROM_HF, files({"d/config.json": "{"})),
    Case("hf-json-object", FROM_HF, files({"d/config.json": "[]"})),
    Case("hf-json", FROM_HF, files({"d/config.json": "[" * 100_000})),
    Case("hf-model-type", FROM_HF, files({"d/config.json": '{"model_type": "t5"}'})),
    Case("hf-remote-code", FROM_HF, files(REMOTE_CODE)),
    Case("hf-remote-code", f"{PLAIN} --ki-teacher hf:d --ki-steps 2", files(REMOTE_CODE)),
    Case("hf-no-weights", FROM_HF, files({"d/config.json": ROBERTA})),
    Case("hf-bin", FROM_HF, files({"d/config.json": ROBERTA, "d/pytorch_model.bin": "x"})),
    Case("hf-bin-other", f"{FROM_HF} --allow-bin",
         files({"d/config.json": ROBERTA, "d/pytorch_model.bin": "x"})),
    Case("hf-safetensors", FROM_HF, files({"d/config.json": ROBERTA, "d/model.safetensors": "x"})),
    Case("hf-index", FROM_HF, files({
        "d/config.json": ROBERTA,
        "d/model.safetensors.index.json": '{"weight_map": {"a": "../../x"}}'})),
    Case("hf-index", FROM_HF, files({
        "d/config.json": ROBERTA,
        "d/model.safetensors.index.json": '{"weight_map": {"a": ["x"]}}'})),
    Case("hf-tokenizer-file", FROM_HF, files(TOKENIZER | {
        "d/config.json": ROBERTA, "other.json": TOKENIZER["d/tokenizer.json"],
        "d/tokenizer_config.json": '{"tokenizer_file": "../other.json"}'})),
    Case("hf-vocabulary", FROM_HF, files(TOKENIZER | {
        "d/config.json": ROBERTA.replace('"vocab_size": 65', f'"vocab_size": {2**24}')})),
    Case("convert-text", "fairseq-ki convert encode d none --out y",
         files({"d/config.json": "{}"})),
]  # fmt: skip

GROWTHS = [
    Case("teacher-missing", GROW.replace("{teacher}", "none.pt")),
    Case("teacher-unsafe", GROW.replace("{teacher}", "{bomb}")),
    Case("teacher-other-file", GROW.replace("{teacher}", "{data}/dict.txt")),
    Case("forecast-model", GROW.replace("2x32x64x2", "nosuch")),
    Case("grow-smaller", GROW.replace("2x32x64x2", "2x8x8x2")),
    Case("grow-layers", f"{GROW} --encoder-layers 0"),
    Case("grow-out-empty", f"{GROW} --out ''"),
    Case("grow-seed", f"{GROW} --seed {10**30}"),
    Case("grow-option", f"{GROW} --nosuch 3"),
    Case("grow-out", GROW, files({"g.pt": ""})),
    Case("teacher-dictionary-no-file", f"{GROW} --dict none"),
    Case("lineage-missing", f"{LINEAGE} none.pt"),
    Case("teacher-unsafe", f"{LINEAGE} {{bomb}}"),
    Case("lineage-json", f"{LINEAGE} x.json", files({"x.json": "{"})),
    Case("lineage-of-a-checkpoint", f"{LINEAGE} c.pt", strange_lineage),
    Case("lineage-json-object", f"{LINEAGE} x.json", files({"x.json": "[]"})),
]

FINETUNINGS = [
    Case("finetune-data", FINETUNE),
    Case("finetune-checkpoint", FINETUNE.replace("{teacher}", "none.pt"), TASK),
    Case("teacher-unsafe", FINETUNE.replace("{teacher}", "{bomb}"), TASK),
    Case("finetune-spm", f"{FINETUNE} --data-bin {{data}}", TASK),
    Case(
        "finetune-dictionary",
        f"{FINETUNE.replace('{teacher}', 'c.pt')} --data-bin {{data}}",
        copied_alone,
    ),
    Case("finetune-task", f"{FINETUNE} --tasks nosuch", TASK),
    Case("finetune-lr", f"{FINETUNE} --lr 0", TASK),
    Case("finetune-seeds", f"{FINETUNE} --seeds 1 -1", TASK),
    Case("finetune-out", FINETUNE.replace("--out o", "--out a:b"), TASK),
    Case(
        "finetune-foreign-folder",
        f"{MASKED} --lr 0.1 --batch-size 2 --seeds 1",
        labelled("x", "y", more={"o/a/lr0.1-batch2-seed1/train.log": ""}),
    ),
    Case(
        "finetune-cola-columns",
        MASKED,
        files({f"d/cola/{split}.tsv": "a\t1\t\tx\ty\n" for split in ("train", "dev")}),
    ),
    Case(
        "finetune-glue-label",
        MASKED,
        files(
            {
                f"d/sst2/{split}.tsv": "sentence\tlabel\na\t1\nb\tc\t0\n"
                for split in ("train", "dev")
            }
        ),
    ),
    Case("finetune-epochs", f"{FINETUNE} --epochs 0", TASK),
    Case("finetune-max-train", f"{FINETUNE} --max-train 0", TASK),
    Case("finetune-probe-options", f"{FINETUNE} --probe mean --seeds 1 2", TASK),
    Case(
        "finetune-probe-tuned", f"{FINETUNE.replace('{teacher}', 'c.pt')} --probe mean", fine_tuned
    ),
    Case("finetune-tsv", f"{FINETUNE} --tasks a", files({"d/a/train.tsv": "x\ty\n"})),
    Case("finetune-tsv", FINETUNE, files({"d/a/train.tsv": "x\ty\n"})),
    Case("finetune-no-train", f"{FINETUNE} --tasks a", files({"d/a/dev.jsonl": "{}"})),
    Case(
        "finetune-forms",
        MASKED,
        files({"d/cola/train.tsv": "a\t1\t\tx\n", "d/cola/dev.tsv": "", "d/cola/test.jsonl": ""}),
    ),
    Case("finetune-one-number", MASKED, labelled(1.5, 1.5)),
    Case("finetune-labels-mixed", MASKED, labelled("x", "y", 1.0)),
    Case("finetune-number", MASKED, labelled(1e308, -1e308)),
    Case("finetune-number", MASKED, labelled(1.5, 10**400)),
    Case("finetune-one-class", f"{MASKED} --probe mean --max-train 1", labelled("x", "y")),
    Case("finetune-metric", f"{FINETUNE} --metric a=foo", TASK),
]

CASES = MIXTURES + CONVERSIONS + GROWTHS + FINETUNINGS
