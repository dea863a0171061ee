"""The scripts in preprocess/."""

from pathlib import Path

from refusals import Case, files, spoiled

TEXT = "{preprocess}/text_corpus.py a.txt --out-dir o"
SPM = "{preprocess}/train_sentencepiece.py a.txt --out-dir o"
ENCODE = "{preprocess}/encode.py a.txt --out o.txt --model"
BINARIZE = (
    "{preprocess}/binarize.py --train {encoded}/train.txt --valid {encoded}/valid.txt "
    "--model {spm}/spm.model --out-dir o"
)
PROXIMITY = "{preprocess}/proximity.py"
THREE = files({"a.txt": "one two\n\nthree four\n\nfive six\n"})


def shorter(encoded: Path) -> None:
    path = encoded / "train.txt"
    path.write_text("".join(path.read_text().splitlines(True)[:3]))


CASES = [
    Case("text-missing", TEXT),
    Case("text-empty", TEXT, files({"a.txt": ""})),
    Case("text-blank", TEXT, files({"a.txt": "\n \n"})),
    Case("text-one-document", TEXT, files({"a.txt": "one two"})),
    Case("text-no-valid", TEXT, THREE),
    Case("text-output-there", TEXT, files({"a.txt": "x", "o/corpus.json": "x"})),
    Case("text-output-is-input", "{preprocess}/text_corpus.py train.txt --out-dir . --overwrite",
         files({"train.txt": "x"})),
    Case("text-output-under-file", TEXT.replace("--out-dir o", "--out-dir a.txt/o"), THREE),
    Case("text-utf16", TEXT, files({"a.txt": b"\xff\xfea\x00"})),
    Case("text-bad-bytes", f"{TEXT} --bad-bytes refuse", files({"a.txt": b"a\n\nb \xff c\n\nd"})),
    Case("text-archive", TEXT.replace("a.txt", "a.xz"), files({"a.xz": "hello"})),
    Case("text-valid-every", f"{TEXT} --valid-every 0", THREE),
    Case("spm-vocabulary", f"{SPM} --vocab-size 500000", THREE),
    Case("spm-vocabulary-absurd", f"{SPM} --vocab-size 9999999999999", THREE),
    Case("spm-vocabulary-small", f"{SPM} --vocab-size 4", THREE),
    Case("spm-coverage", f"{SPM} --character-coverage 2", THREE),
    Case("spm-bytes", SPM, files({"a.txt": b"\xff\xff"})),
    Case("encode-model", f"{ENCODE} m", files({"a.txt": "x", "m": "x"})),
    Case("spm-bytes", f"{ENCODE} {{spm}}/spm.model", files({"a.txt": b"\xff"})),
    Case("preprocess-workers", f"{ENCODE} {{spm}}/spm.model --workers 1000000000"),
    Case("preprocess-workers", f"{BINARIZE} --workers 1000000000"),
    Case("binarize-not-encoded", BINARIZE.replace("{encoded}", "{corpus}")),
    Case("binarize-encoded", f"{BINARIZE} --fast"),
    Case("binarize-dictionary", f"{BINARIZE} --dict {{data}}/dict.txt"),
    Case("binarize-record", f"{BINARIZE} --corpus c.json", files({"c.json": "{}"})),
    Case("binarize-record-deep", f"{BINARIZE} --corpus c.json", files({"c.json": "[" * 100000})),
    Case("binarize-other-text",
         f"{BINARIZE.replace('{encoded}/train', 'e/train')} --corpus {{corpus}}/corpus.json",
         spoiled("encoded", "e", shorter)),
    Case("binarize-foreign-files", f"{BINARIZE} --overwrite", files({"o/x": "y"})),
    Case("proximity-one", f"{PROXIMITY} a.txt", THREE),
    Case("proximity-words", f"{PROXIMITY} a.txt b.txt", files({"a.txt": "one", "b.txt": "two"})),
    Case("compare-model", "{preprocess}/compare_speed.py {corpus} --model m"),
    Case("docs-package", "{preprocess}/docs_corpus.py --out-dir o --packages nosuchpackage"),
]  # fmt: skip
