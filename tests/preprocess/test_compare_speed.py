from pathlib import Path

import compare_speed
import pytest


@pytest.mark.slow
def test_both_ways_agree_and_the_ratio_is_printed(
    corpus: Path, spm: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    compare_speed.main([str(corpus), "--model", str(spm / "spm.model"), "--workers", "1"])
    out = capsys.readouterr().out
    assert "equal files: train.bin, train.idx, valid.bin, valid.idx, dict.txt" in out
    assert "wall time" in out
