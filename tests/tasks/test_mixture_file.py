"""The file of --ki-mixture: what it means, and refusals that name the line."""

import re
import shutil
from pathlib import Path

import pytest

from fairseq_ki.checked_yaml import YamlFileError
from fairseq_ki.tasks._mixture_file import read_mixture

GOOD = """\
domains:
  bio: {data: BIN, weight: 1.0, teachers: [{checkpoint: bio.pt, weight: 1}]}
  cs:
    data: BIN
    weight: 2
    teachers:
      - {store: stores/cs}
      - {checkpoint: "hf:models/cs-small", weight: 0.5, dict: other.txt}
      - {checkpoint: off.pt, weight: 0}
  wb: {data: BIN}
  held_out: {data: BIN, weight: 0}
"""


def read(tmp_path, data_bin, text):
    file = tmp_path / "mixture.yaml"
    file.write_text(text.replace("BIN", str(data_bin)))
    return read_mixture(str(file), str(data_bin / "dict.txt"))


def test_what_it_means(tmp_path, data_bin):
    bio, cs, wb, held_out = read(tmp_path, data_bin, GOOD)
    assert [d.name for d in (bio, cs, wb, held_out)] == ["bio", "cs", "wb", "held_out"]
    assert [d.weight for d in (bio, cs, wb, held_out)] == [1, 2, 1, 0]
    assert {d.data for d in (bio, cs, wb, held_out)} == {str(data_bin)}
    assert wb.teachers == held_out.teachers == ()
    (teacher,) = bio.teachers
    assert (teacher.checkpoint, teacher.store, teacher.weight) == ("bio.pt", None, 1)
    assert teacher.where == f"{tmp_path}/mixture.yaml, line 2: domains.bio.teachers.0"
    stored, live = cs.teachers  # a teacher of weight 0 is left out
    assert (stored.checkpoint, stored.store, stored.weight) == (None, "stores/cs", 1)
    assert (live.checkpoint, live.dictionary, live.weight) == (
        "hf:models/cs-small",
        "other.txt",
        0.5,
    )


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("domains:", "domain:", r"line 1: domain: expected one of domains, found 'domain'"),
        ("  wb:", "  wb: {data: BIN}\n  bio:", r"line 11: expected each key once, found 'bio'"),
        ("  wb:", "  w-b:", r"line 10: domains\.w-b: expected a name of letters"),
        ("  wb:", "  1:", r"line 10: domains\.1: expected a name of letters, .*found 1"),
        ("  wb:", "  no:", r"line 10: domains\.False: expected a name of letters"),
        ("  wb:", "  no: {}\n  false:", r"line 11: expected each key once, found 'false' again"),
        ("  wb:", "  !!seq wb:", r"line 10: expected keys of text, found a collection"),
        ("  wb:", "  _wb:", r"a name of letters"),
        ("  wb:", "  ki:", r"line 10: .*taken in logs, found ki"),
        ("  wb:", "  ki_teacher:", r"taken in logs"),
        ("  wb:", "  bio_teacher:", r"taken in logs"),
        ("  wb:", "  valid:", r"taken in logs"),
        ("weight: 1.0", "wieght: 1.0", r"line 2: domains\.bio\.wieght: expected one of data, w"),
        ("weight: 1.0", "weight: -1", r"line 2: domains\.bio\.weight: expected 0 or .*found -1"),
        ("weight: 1.0", "weight: .nan", r"line 2: domains\.bio\.weight: .*found nan"),
        ("weight: 1.0", "weight: .inf", r"line 2: domains\.bio\.weight: .*found inf"),
        ("weight: 1.0", f"weight: 1{'0' * 400}", r"bio\.weight: .* from 1e-06 to 1e\+06, found 10"),
        ("weight: 1.0", f"weight: 0x{'f' * 5000}", r"bio\.weight: .*found a number of thousands"),
        ("weight: 1.0", "weight: 1.0e+308", r"bio\.weight: .*found 1e\+308"),
        ("weight: 1.0", "weight: 5.0e-324", r"bio\.weight: .*found 5e-324"),
        ("data: BIN, weight: 1.0", f"data: 0x{'f' * 5000}", r"bio\.data: expected text, found a n"),
        ("store: stores/cs", r'store: "a\0b"', r"line 7: expected text that can be .*'a\\x00b'"),
        ("store: stores/cs", r'store: "a\ud800"', r"line 7: expected text that can be .*ud800'"),
        ("weight: 1.0", "weight: yes", r"domains\.bio\.weight: expected a number, found True"),
        ("weight: 1.0", "weight: 0", r"line 2: .*above 0 where there are teachers"),
        ("    weight: 2", '    weight: "2"', r"line 5: domains\.cs\.weight: expected a number"),
        ("weight: 0.5", "weight: -0.5", r"line 8: domains\.cs\.teachers\.1\.weight: expected"),
        ("store: stores/cs", "stroe: stores/cs", r"line 7: .*teachers\.0\.stroe: expected one of"),
        ("store: stores/cs", "weight: 1", r"line 7: .*a checkpoint or a store, found only weight"),
        ("store: stores/cs", "store: a, checkpoint: b", r"found checkpoint and store"),
        ("store: stores/cs", "store: 'a:b'", r"line 7: .*one directory, found 'a:b'"),
        ("store: stores/cs", "store: a, dict: b", r"line 7: .*a dict with a checkpoint alone"),
        ("weight: 1}", "weight: 0}", r"line 2: domains\.bio\.teachers: .*found weights all 0"),
        ("- {store: stores/cs}", "- stores/cs", r"line 7: .*teachers\.0: expected a mapping with"),
        ("  wb: {data: BIN}", "  wb: {}", r"line 10: domains\.wb: expected the key 'data'"),
        ("  wb: {data: BIN}", "  wb: BIN", r"line 10: domains\.wb: expected a mapping"),
        ("wb: {data: BIN}", "wb: {data: BIN/no}", r"line 10: domains\.wb\.data: .*no file at"),
        ("wb: {data: BIN}", "wb: {data: 'BIN:BIN'}", r"line 10: .*one data-bin .*separated by"),
        ("  wb: {data: BIN}", "  wb: {data: [", r"expected YAML"),
    ],
)
def test_mistakes_are_named_with_their_line(tmp_path, data_bin, old, new, message):
    assert old in GOOD
    with pytest.raises(YamlFileError, match=message):
        read(tmp_path, data_bin, GOOD.replace(old, new, 1))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", r"line 1: the file: expected a mapping with domains"),
        ("domains: {}", r"domains: expected at least one domain"),
        ("domains:\n  a: {data: BIN, weight: 0}", r"a domain with a weight above 0, found weights"),
        ("domains: !!python/object/apply:os.getcwd []", r"expected YAML"),
        ("? [a, b]\n: c", r"line 1: expected keys of text"),
        ("a: &a [*a]", r"expected at most|expected YAML"),
        ("a: 2026-13-45", r"expected YAML, found month must be in 1..12"),
        ("a: " + "[" * 5000, r"expected YAML"),
    ],
)
def test_files_that_are_no_mixture(tmp_path, data_bin, text, message):
    with pytest.raises(YamlFileError, match=message):
        read(tmp_path, data_bin, text)


def test_the_files_in_the_documentation(tmp_path, data_bin):
    page = Path(__file__).resolve().parents[2] / "docs" / "mixtures.md"
    blocks = re.findall(r"```yaml\n(.*?)```", page.read_text(), re.DOTALL)
    assert len(blocks) == 3
    for block in blocks:
        domains = read(tmp_path, data_bin, re.sub(r"data: data-bin/\w+", "data: BIN", block))
        assert any(domain.teachers for domain in domains)


def test_aliases_of_aliases_end_soon(tmp_path, data_bin):
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]" for i in range(1, 10)]
    with pytest.raises(YamlFileError, match="expected at most 100000 entries"):
        read(tmp_path, data_bin, "\n".join(lines))


def test_a_file_that_cannot_be_read(tmp_path, data_bin):
    with pytest.raises(YamlFileError, match=r"no\.yaml: expected a file of text"):
        read_mixture(str(tmp_path / "no.yaml"), str(data_bin / "dict.txt"))
    (tmp_path / "bytes.yaml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(YamlFileError, match=r"bytes\.yaml: expected a file of text"):
        read_mixture(str(tmp_path / "bytes.yaml"), str(data_bin / "dict.txt"))


def test_dictionaries_that_differ(tmp_path, data_bin):
    other = tmp_path / "other"
    shutil.copytree(data_bin, other)
    first, second, *rest = (other / "dict.txt").read_text().splitlines()
    (other / "dict.txt").write_text("\n".join([second, first, *rest]) + "\n")
    text = f"domains:\n  a: {{data: BIN}}\n  b: {{data: {other}}}\n"
    with pytest.raises(YamlFileError, match=r"line 3: domains\.b\.data: .* 2 differ at the same"):
        read(tmp_path, data_bin, text)
    (other / "dict.txt").write_bytes(b"\xff\xfe")
    with pytest.raises(YamlFileError, match=r"line 3: domains\.b\.data: .*fairseq-preprocess"):
        read(tmp_path, data_bin, text)
