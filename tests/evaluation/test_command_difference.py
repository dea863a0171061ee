"""What two commands differ in."""

from fairseq_ki.evaluation.command_difference import difference


def test_differences_name_options_with_their_values():
    old = ["fairseq-train", "d", "--lr", "1e-3", "--fp16"]
    new = ["fairseq-train", "d", "--lr", "2e-3"]
    assert difference(old, new) == "was: --lr 1e-3 --fp16; now: --lr 2e-3"
    assert difference(new, new[:2]) == "was: --lr 2e-3; now: without"
    assert difference(old, list(old)) == ""
