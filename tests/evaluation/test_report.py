"""The page stands alone, holds the numbers, and its pictures follow the page's colours."""

import builtins
import dataclasses
import re

import pytest

from fairseq_ki.cli import report as report_cli
from fairseq_ki.evaluation import results_file
from fairseq_ki.evaluation.comparisons import compare
from fairseq_ki.evaluation.figures import pictures
from fairseq_ki.evaluation.report import evenly, from_logs, gather, write_html, write_markdown
from fairseq_ki.evaluation.results import Comparison
from fairseq_ki.evaluation.specs import Finding, TableRow, TableSpec
from fairseq_ki.evaluation.summary import uneven_load

pytest.importorskip("matplotlib")


@pytest.fixture
def page(results, tmp_path):
    write_html([results], tmp_path / "report.html")
    return (tmp_path / "report.html").read_text(encoding="utf-8")


def test_page_loads_nothing(page):
    assert not re.search(r"<(link|script|iframe|img|object|embed)\b", page)
    assert not re.search(r"(src|href)=\"(?!#)", page)
    assert "@import" not in page
    assert not re.search(r"url\((?!#)", page)


def test_page_holds_the_numbers(page):
    for expected in (
        "Made &lt;up&gt;",
        "310<small>[300..320]</small>",
        "35.4 %<small>[33.3..37.5]</small>",
        "27.3 % (BASE to LARGE)",
        "LARGE: 4.60 at 40,000",
        "c0ffee" * 10,
        "2.13.0",
        "&#x27;data bin&#x27;",  # commands are quoted for a shell
        "fairseq-ki experiment x.yaml",
    ):
        assert expected in page, expected


def test_page_is_light_and_dark(page):
    assert "prefers-color-scheme: dark" in page
    assert page.count("<svg") == 5
    used = set(re.findall(r"var\((--[\w-]+)\)", page))
    defined = set(re.findall(r"(--[\w-]+):", page))
    assert used <= defined
    assert {"--ink", "--grid", "--series-0", "--series-1"} <= used
    # no colour that would not follow the page is left in the pictures
    for svg in re.findall(r"<svg.*?</svg>", page, re.DOTALL):
        assert set(re.findall(r"#[0-9a-f]{6}\b", svg)) <= {"#ffffff", "#000000"}


def test_curves_are_seen_before_tables(page):
    assert page.index("Validation PPL against updates") < page.index("<table>")


def test_ids_of_pictures_do_not_clash(page):
    ids = re.findall(r'\bid="([^"]+)"', page)
    assert len(ids) == len(set(ids))
    for reference in set(re.findall(r'(?:href="#|url\(#)([^")]+)', page)):
        assert reference in ids


def test_markdown_with_pictures(results, tmp_path):
    write_markdown([results], tmp_path / "r.md")
    text = (tmp_path / "r.md").read_text(encoding="utf-8")
    links = re.findall(r"!\[.*?\]\((.*?)\)", text)
    assert len(links) == 5
    for link in links:
        assert (tmp_path / link).read_bytes().startswith(b"\x89PNG")
    assert "35.4 [33.3..37.5] %" in text


def test_pictures_follow_the_data(results, diverged):
    names = [p.name for p in pictures(results, compare(results))]
    assert names == ["updates", "flops", "wall", "rate", "savings"]
    for run in results.runs:
        run.flops, run.train = None, {}
        del run.valid["wall"]
    results.comparisons = []
    assert [p.name for p in pictures(results, compare(results))] == ["updates"]
    for picture in pictures(diverged, compare(diverged)):
        assert "<svg" in picture.svg()


def write_log(path, losses, rate=None):
    path.parent.mkdir(parents=True, exist_ok=True)
    more = f', "ki_rate": "{rate}"' if rate is not None else ""
    lines = []
    for i, loss in enumerate(losses, 1):
        lines.append(f'{{"loss": "{loss}", "wall": "{i}", "num_updates": "{100 * i}"{more}}}')
        valid = f'"valid_loss": "{loss}", "valid_ppl": "{2**loss}"'
        lines.append(f'{{{valid}, "valid_num_updates": "{100 * i}"}}')
    path.write_text("\n".join(lines))


def test_a_label_is_not_taken_for_a_formula(results, tmp_path):
    for run in results.runs:
        run.label = r"lr $\frac$ and $x"
    write_html([results], tmp_path / "report.html")
    assert r"lr $\frac$ and $x" in (tmp_path / "report.html").read_text(encoding="utf-8")


def test_pictures_of_many_comparisons(results):
    """Every bar has room for its name, and the same schedule is drawn once."""
    for n in range(8):
        for run in results.arm("ki"):
            results.runs.append(dataclasses.replace(run, name=f"ki{n}", label=f"student {n}"))
        results.comparisons.append(Comparison(f"ki{n}", "self"))
    drawn = {p.name: p for p in pictures(results, compare(results))}
    savings = drawn["savings"].svg()
    assert all(f"student {n}" in savings for n in range(8))
    assert drawn["savings"].height > 1.3 * drawn["updates"].height
    assert "the ki and 8 more" in drawn["rate"].svg()


def test_uneven_load_is_said_of_the_wall_times(results, tmp_path):
    assert uneven_load(results) == ""
    results.arm("ki")[0].wall_seconds *= 3
    write_html([results], tmp_path / "report.html")
    assert "Wall times compare badly" in (tmp_path / "report.html").read_text(encoding="utf-8")


def test_report_on_bare_logs(tmp_path, capsys):
    write_log(tmp_path / "alone.log", [10, 9, 8])
    write_log(tmp_path / "taught.log", [9, 8, 7.5], rate=0.5)
    parser = report_cli.argparse.ArgumentParser()
    report_cli.add_arguments(parser)
    out = tmp_path / "page" / "r.html"
    words = [str(tmp_path / "alone.log"), str(tmp_path / "taught.log"), "--out", str(out)]
    args = parser.parse_args([*words, "--compare", "taught", "alone"])
    assert report_cli.run(args) == 0
    printed = capsys.readouterr().out
    assert "taught, end" in printed
    assert (
        out.read_text().count("<svg") == 3
    )  # no FLOPs without sizes, and no saving that was reached


def test_logs_of_one_name_go_by_their_folders(tmp_path):
    for name in ("a", "b"):
        write_log(tmp_path / name / "train.log", [5, 4])
    found = from_logs([tmp_path / "a" / "train.log", tmp_path / "b" / "train.log"])
    assert found.arms == ["a", "b"]


def test_gather_takes_folders_and_files_together(results, tmp_path):
    results_file.save(results, tmp_path / "results.json")
    write_log(tmp_path / "x.log", [5, 4])
    assert [r.name for r in gather([tmp_path, tmp_path / "x.log"])] == ["made", "training logs"]
    assert gather([tmp_path / "results.json"])[0].name == "made"


def test_gather_knows_a_file_by_what_is_in_it(results, tmp_path):
    results_file.save(results, tmp_path / "renamed")
    assert gather([tmp_path / "renamed"])[0].name == "made"
    (tmp_path / "binary.json").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ValueError, match=r"binary\.json: expected JSON lines of training"):
        gather([tmp_path / "binary.json"])


@pytest.mark.parametrize("part", ["tables", "findings"])
def test_gather_refuses_a_claim_that_is_not_understood(part, results, tmp_path):
    table = TableSpec("T", "", ["run", "a"], [TableRow("x", ["ki@"], [])])
    setattr(results, part, [table] if part == "tables" else [Finding("It helps.", "ki <> self")])
    results_file.save(results, tmp_path / "results.json")
    with pytest.raises(ValueError, match=r"results\.json: (table 'T'|finding 'It helps\.'): exp"):
        gather([tmp_path])


def test_a_name_with_an_underscore_is_in_the_legend(results):
    for run in results.arm("ki"):
        run.label = "_mine"
    drawn = {p.name: p.svg() for p in pictures(results, compare(results))}
    assert "_mine" in drawn["updates"]
    assert "_mine" in drawn["rate"]


def test_gather_refuses_what_is_no_run(results, tmp_path):
    with pytest.raises(ValueError, match="expected a folder with results"):
        gather([tmp_path])
    with pytest.raises(ValueError, match="nothing: expected a folder"):
        gather([tmp_path / "nothing"])
    results_file.save(results, tmp_path / "results.json")
    known = r"two runs of one experiment among \['ki', 'self', 'teacher'\]"
    with pytest.raises(ValueError, match=known):
        gather([tmp_path], [("ki", "other")])


def test_without_matplotlib_the_extra_is_named(results, tmp_path, monkeypatch):
    real = builtins.__import__

    def without(name, *args, **kwargs):
        if name.split(".")[0] == "matplotlib":
            raise ImportError(name)
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(ImportError, match=r"fairseq_ki\[report\]"):
        write_html([results], tmp_path / "r.html")
    assert not (tmp_path / "r.html").exists()


def test_evenly():
    assert evenly([float(u) for u in range(50, 601, 50)]) == [100, 200, 300, 400, 500, 600]
    assert evenly([10.0, 20.0]) == [10, 20]
    assert evenly([]) == []
