import gzip
import lzma
import pickle
from pathlib import Path

import pytest
from _files import Refusal, atomic_directory, atomic_files, check_outputs, reading


def interrupt(written: int) -> None:
    assert written
    raise KeyboardInterrupt


def test_refusal_survives_the_way_back_from_a_worker() -> None:
    refusal = pickle.loads(pickle.dumps(Refusal("a", "b", "c")))
    assert str(refusal) == "expected a; found b. To mend: c."


@pytest.mark.parametrize(("suffix", "compress"), [(".xz", lzma.compress), (".gz", gzip.compress)])
def test_compressed_files_are_read_and_cut_ones_refused(
    tmp_path: Path, suffix: str, compress
) -> None:
    path = tmp_path / f"text{suffix}"
    path.write_bytes(compress(b"some text\n" * 1000))
    with reading(path) as file:
        assert file.read() == b"some text\n" * 1000
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(Refusal, match="compress the file again"), reading(path) as file:
        file.read()
    path.write_bytes(b"no archive at all")
    with pytest.raises(Refusal, match="a whole"), reading(path) as file:
        file.read()


def test_atomic_files_leave_nothing_after_an_error(tmp_path: Path) -> None:
    paths = [tmp_path / "data", tmp_path / "mark"]
    with pytest.raises(KeyboardInterrupt), atomic_files(paths) as files:
        interrupt(files[0].write(b"half"))
    assert list(tmp_path.iterdir()) == []


def test_atomic_files_remove_an_old_mark_before_the_first_rename(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = [tmp_path / "data", tmp_path / "mark"]
    with atomic_files(paths) as files:
        files[0].write(b"old")
    assert paths[1].exists()

    def fail(*_: object) -> None:
        raise OSError("the disk is gone")

    monkeypatch.setattr("os.replace", fail)
    with pytest.raises(OSError, match="gone"), atomic_files(paths) as files:
        files[0].write(b"new")
    assert [path.name for path in tmp_path.iterdir()] == ["data"]
    assert paths[0].read_bytes() == b"old"


def test_atomic_directory_replaces_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "bin"
    with atomic_directory(path, ["a"]) as staging:
        (staging / "a").write_text("old")
    with pytest.raises(KeyboardInterrupt), atomic_directory(path, ["a"]) as staging:
        interrupt((staging / "a").write_text("new"))
    assert (path / "a").read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_atomic_directory_never_removes_the_files_of_others(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(Refusal, match=r"thesis\.tex"), atomic_directory(tmp_path, ["a"]):
        pass
    assert (tmp_path / "thesis.tex").exists()


def test_outputs_are_neither_overwritten_unasked_nor_inputs(tmp_path: Path) -> None:
    path = tmp_path / "text"
    check_outputs([path, tmp_path], overwrite=False)
    path.write_text("")
    with pytest.raises(Refusal, match="--overwrite"):
        check_outputs([path], overwrite=False)
    check_outputs([path], overwrite=True)
    with pytest.raises(Refusal, match="other than the inputs"):
        check_outputs([path], overwrite=True, inputs=[tmp_path / "." / "text"])
