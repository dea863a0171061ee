"""A finished run that is started again trains nothing and changes nothing."""

PLAIN = "--task masked_lm --criterion masked_lm"


def test_it_makes_no_update_and_leaves_its_files(fairseq_train, data_bin, tmp_path):
    def files():
        return {path.name: path.stat().st_mtime_ns for path in tmp_path.iterdir()}

    fairseq_train(data_bin, tmp_path, f"{PLAIN} --max-update 4")
    before = files()
    for _ in range(2):
        assert fairseq_train(data_bin, tmp_path, f"{PLAIN} --max-update 4").train == []
    assert files() == before
    longer = fairseq_train(data_bin, tmp_path, f"{PLAIN} --max-update 6")
    assert [r["num_updates"] for r in longer.train] == ["5", "6"]


def test_the_end_by_epochs_is_as_before(fairseq_train, data_bin, tmp_path):
    run = fairseq_train(data_bin, tmp_path, f"{PLAIN} --max-epoch 1")
    assert len(run.train) > 10
    assert fairseq_train(data_bin, tmp_path, f"{PLAIN} --max-epoch 1").train == []
    anew = f"{PLAIN} --max-update 3 --reset-optimizer --reset-dataloader"
    assert len(fairseq_train(data_bin, tmp_path, anew).train) == 3
