"""Files that are the old one or the new one; notes that are whole or refused."""

import pytest

from fairseq_ki.evaluation.whole_files import read_note, write_bytes


def test_a_full_disk_leaves_the_old_file_alone(tmp_path, files_up_to):
    file = tmp_path / "results.json"
    write_bytes(file, b"old")
    with files_up_to(10), pytest.raises(OSError, match=r"File too large: .*results\.json'"):
        write_bytes(file, bytes(100))
    assert file.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [file]


@pytest.mark.parametrize(
    "damage", ["", "[]", "{}", '{"seconds": "1"}', '{"seconds": true}', "[" * 99999]
)
def test_a_damaged_note_is_named(tmp_path, damage):
    note = tmp_path / "done.json"
    assert read_note(note, {"seconds": float}) is None
    note.write_text(damage)
    with pytest.raises(ValueError, match=r"done\.json: expected .* with seconds, found .*; move"):
        read_note(note, {"seconds": float})
