"""The page of results that the project keeps is what its results say, and nothing else."""

from pathlib import Path

from fairseq_ki.cli.main import main

ROOT = Path(__file__).resolve().parents[2]


def test_results_md_comes_out_of_the_kept_results(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(ROOT)
    kept = sorted(map(str, Path("results").glob("*.json")))
    assert main(["report", *kept, "--join", "--results", str(tmp_path / "page.md")]) == 0
    assert (tmp_path / "page.md").read_text() == (ROOT / "RESULTS.md").read_text()


def test_examples_that_are_not_there_are_refused(tmp_path, capsys):
    kept = str(ROOT / "results" / "beyond.json")
    page = tmp_path / "page.md"
    command = ["report", kept, "--results", str(page), "--examples", str(tmp_path)]
    assert main(command) == 2
    assert f"--examples {tmp_path}: expected a folder with examples" in capsys.readouterr().err
    assert not page.exists()


def test_a_foreign_folder_of_examples_is_looked_at_for_results_only(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "examples" / "x").mkdir(parents=True)
    (tmp_path / "examples" / "x" / "recipe.yaml").write_text("steps: 3\n")
    (tmp_path / "examples" / "x" / "run.sh").touch()
    command = ["report", str(ROOT / "results" / "beyond.json")]
    assert main(command) == 0
    assert main([*command, "--results", "page.md"]) == 2
    assert "x/recipe.yaml: expected a recipe with a name" in capsys.readouterr().err
