import json
import shutil
from pathlib import Path

import binarize
import encode
import numpy as np
import pytest
from _fast_binarize import write_split
from _files import Refusal
from _vocabulary import fairseq_ids, load_dictionary, load_model
from fairseq.binarizer import FileBinarizer, VocabularyDatasetBinarizer
from fairseq.data import Dictionary, data_utils
from fairseq.data.indexed_dataset import MMapIndexedDataset
from fairseq.tasks.masked_lm import MaskedLMConfig, MaskedLMTask
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

DATA = ("train.bin", "train.idx", "valid.bin", "valid.idx", "dict.txt")


def run(train: Path, valid: Path, spm: Path, out_dir: Path, *options: str) -> None:
    paths = f"--train {train} --valid {valid} --model {spm}/spm.model --out-dir {out_dir}"
    binarize.main([*paths.split(), *options])


def run_fast(corpus: Path, spm: Path, out_dir: Path, *options: str) -> None:
    run(corpus / "train.txt", corpus / "valid.txt", spm, out_dir, "--fast", *options)


@pytest.fixture(scope="module")
def encoded(corpus: Path, spm: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("encoded")
    for split in ("train", "valid"):
        source, target = corpus / f"{split}.txt", folder / f"{split}.pieces"
        encode.main([str(source), "--out", str(target), "--model", f"{spm}/spm.model"])
    return folder


@pytest.fixture(scope="module")
def data_bin_by_fairseq(
    corpus: Path, encoded: Path, spm: Path, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    out_dir = tmp_path_factory.mktemp("slow") / "data-bin"
    pieces = [encoded / f"{split}.pieces" for split in ("train", "valid")]
    run(*pieces, spm, out_dir, "--corpus", str(corpus / "corpus.json"), "--workers", "2")
    return out_dir


@pytest.mark.parametrize("workers", [1, 2])
def test_fast_writes_the_bytes_of_fairseq_preprocess(
    corpus: Path, spm: Path, data_bin_by_fairseq: Path, tmp_path: Path, workers: int
) -> None:
    out_dir = tmp_path / "data-bin"
    run_fast(corpus, spm, out_dir, "--workers", str(workers))
    for name in (*DATA, "corpus.json", "spm.model"):
        assert (out_dir / name).read_bytes() == (data_bin_by_fairseq / name).read_bytes(), name
    assert (out_dir / "corpus.json").read_bytes() == (corpus / "corpus.json").read_bytes()
    assert (out_dir / "spm.model").read_bytes() == (spm / "spm.model").read_bytes()


def write_fairseqs_way(path: Path, model: Path, dictionary: Dictionary, prefix: Path) -> None:
    encode.main([str(path), "--out", f"{prefix}.pieces", "--model", str(model), "--overwrite"])
    FileBinarizer.multiprocess_dataset(
        f"{prefix}.pieces",
        "mmap",
        VocabularyDatasetBinarizer(dictionary),
        str(prefix),
        vocab_size=len(dictionary),
    )


@settings(
    suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=25
)
@given(text=st.text(min_size=1, max_size=200))
def test_fast_equals_fairseq_on_any_text(spm: Path, tmp_path: Path, text: str) -> None:
    path = tmp_path / "text"
    path.write_bytes(("<s> the\n\n" + text).encode())
    dictionary = load_dictionary(spm / "dict.txt")
    write_fairseqs_way(path, spm / "spm.model", dictionary, tmp_path / "slow")
    from _fast_binarize import _encode_block, _start_worker
    from _vocabulary import text_blocks

    _start_worker(spm / "spm.model")
    table = fairseq_ids(load_model(spm / "spm.model"), dictionary)
    write_split(map(_encode_block, text_blocks(path)), table, dictionary, tmp_path / "fast")
    for kind in ("bin", "idx"):
        fast, slow = tmp_path / f"fast.{kind}", tmp_path / f"slow.{kind}"
        assert fast.read_bytes() == slow.read_bytes()


@pytest.mark.parametrize(("extra", "dtype"), [(0, np.uint16), (65_400, np.uint32)])
def test_dtype_is_the_one_fairseq_chooses(
    spm: Path, tmp_path: Path, extra: int, dtype: type
) -> None:
    dictionary = load_dictionary(spm / "dict.txt")
    for number in range(extra):
        dictionary.add_symbol(f"extra{number}")
    table = fairseq_ids(load_model(spm / "spm.model"), dictionary)
    block = (np.array([4, 150, 150], np.int32), np.array([2, 1], np.int32))
    write_split([block], table, dictionary, tmp_path / "x")
    data = MMapIndexedDataset(str(tmp_path / "x"))
    assert data._index.dtype == dtype
    assert [line.tolist() for line in data] == [[4, 2], [2]]


def test_index_of_more_than_two_billion_bytes_does_not_overflow(
    spm: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dictionary = load_dictionary(spm / "dict.txt")
    table = fairseq_ids(load_model(spm / "spm.model"), dictionary)
    nothing = np.array([4], np.int32)
    write_split([(nothing, np.full(3, 2**30, np.int32))], table, dictionary, tmp_path / "x")
    index = MMapIndexedDataset.Index(str(tmp_path / "x.idx"))
    assert index._pointers.tolist() == [0, 2**31, 2**32]


def test_data_bin_is_one_that_fairseq_trains_on(
    corpus: Path, spm: Path, data_bin_by_fairseq: Path
) -> None:
    task = MaskedLMTask.setup_task(MaskedLMConfig(data=str(data_bin_by_fairseq)))
    dictionary = task.source_dictionary
    assert task.mask_idx == len(dictionary) - 1 == 150
    data = data_utils.load_indexed_dataset(str(data_bin_by_fairseq / "valid"), dictionary)
    lines = (corpus / "valid.txt").read_text(encoding="utf-8").removesuffix("\n").split("\n")
    model = load_model(spm / "spm.model")
    assert len(data) == len(lines)
    for ids, line in zip(data, lines):
        expected = [dictionary.index(model.id_to_piece(i)) for i in model.encode(line)]
        assert ids.tolist() == [*expected, dictionary.eos()]


def test_record_must_be_of_these_texts(
    corpus: Path, encoded: Path, spm: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "changed"
    shutil.copytree(corpus, folder)
    text = (folder / "train.txt").read_text(encoding="utf-8")
    (folder / "train.txt").write_text(text.replace("the", "one", 1), encoding="utf-8")
    with pytest.raises(Refusal, match=r"train split of corpus\.json: SHA-256"):
        run_fast(folder, spm, tmp_path / "out")
    pieces = folder / "train.pieces"
    pieces.write_text((encoded / "train.pieces").read_text(encoding="utf-8") + "\n")
    with pytest.raises(Refusal, match=r"train split of corpus\.json: lines"):
        run(pieces, encoded / "valid.pieces", spm, tmp_path / "out")
    (folder / "corpus.json").write_text(json.dumps({"splits": {}}))
    with pytest.raises(Refusal, match="the record of a corpus"):
        run_fast(folder, spm, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_without_a_record_it_says_so(
    corpus: Path, spm: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("train.txt", "valid.txt"):
        shutil.copy(corpus / name, tmp_path)
    run_fast(tmp_path, spm, tmp_path / "out")
    assert "will not say what it was made of" in capsys.readouterr().out
    assert not (tmp_path / "out" / "corpus.json").exists()


def test_text_and_pieces_are_not_taken_for_each_other(
    corpus: Path, encoded: Path, spm: Path, tmp_path: Path
) -> None:
    with pytest.raises(Refusal, match=r"encode the text with encode\.py"):
        run(corpus / "train.txt", corpus / "valid.txt", spm, tmp_path / "out")
    with pytest.raises(Refusal, match="leave --fast out"):
        run(encoded / "train.pieces", encoded / "valid.pieces", spm, tmp_path / "out", "--fast")


@pytest.mark.parametrize("fast", [True, False])
def test_a_dictionary_that_lacks_symbols_is_refused(
    corpus: Path, encoded: Path, spm: Path, tmp_path: Path, fast: bool
) -> None:
    path = tmp_path / "dict.txt"
    lines = (spm / "dict.txt").read_text(encoding="utf-8").splitlines(keepends=True)
    path.write_text("".join(lines[3:]), encoding="utf-8")
    inputs = [encoded / f"{split}.pieces" for split in ("train", "valid")]
    options = ["--dict", str(path), "--corpus", str(corpus / "corpus.json")]
    if fast:
        inputs = [corpus / f"{split}.txt" for split in ("train", "valid")]
        options.append("--fast")
    with pytest.raises(Refusal, match="found 3 missing"):
        run(*inputs, spm, tmp_path / "out", *options)
    assert [p.name for p in tmp_path.iterdir()] == ["dict.txt"]


def test_empty_splits_are_refused(corpus: Path, spm: Path, tmp_path: Path) -> None:
    (tmp_path / "valid.txt").write_text("")
    with pytest.raises(Refusal, match="an empty file"):
        run(corpus / "train.txt", tmp_path / "valid.txt", spm, tmp_path / "out", "--fast")


def test_an_interrupted_run_keeps_the_earlier_data_bin(
    corpus: Path, spm: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out_dir = tmp_path / "data-bin"
    run_fast(corpus, spm, out_dir)
    before = {path.name: path.read_bytes() for path in out_dir.iterdir()}
    with pytest.raises(Refusal, match="--overwrite"):
        run_fast(corpus, spm, out_dir)

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("_fast_binarize.write_split", interrupt)
    with pytest.raises(KeyboardInterrupt):
        run_fast(corpus, spm, out_dir, "--overwrite")
    assert {path.name: path.read_bytes() for path in out_dir.iterdir()} == before
    assert list(tmp_path.iterdir()) == [out_dir]


def test_a_failure_of_fairseq_preprocess_is_shown(
    encoded: Path, corpus: Path, spm: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.executable", shutil.which("false"))
    pieces = [encoded / f"{split}.pieces" for split in ("train", "valid")]
    with pytest.raises(RuntimeError, match="failed with status 1"):
        run(*pieces, spm, tmp_path / "out")
    assert list(tmp_path.iterdir()) == []
