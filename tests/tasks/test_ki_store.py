"""Training from a store: every encoding, and the same losses as with the live teacher."""

import pytest
from fairseq.data import MaskTokensDataset
from trained import CAUSAL, GPT, KI, capture, objectives, part_of, record_logs

from fairseq_ki.data.replay import ReplayedEpochs
from fairseq_ki.store import MismatchError
from fairseq_ki.tasks.ki_mlm import KIMaskedLMTask


def test_a_dense_store_trains_as_its_live_teacher(
    fairseq_train, data_bin, teacher, dense, tmp_path, monkeypatch
):
    """40 updates: two epochs, and a third that replays the masks of the first."""
    extra = f"{KI} --ki-steps 100 --max-update 40"
    logs = record_logs(monkeypatch)
    fairseq_train(data_bin, tmp_path / "stored", f"{extra} --ki-store {dense}")
    stored = objectives(logs)
    logs.clear()
    load = KIMaskedLMTask.load_dataset

    def replaying(self, split, **kwargs):
        load(self, split, **kwargs)
        self.datasets[split] = ReplayedEpochs(self.datasets[split], shards=1, mask_epochs=2)

    monkeypatch.setattr(KIMaskedLMTask, "load_dataset", replaying)
    fairseq_train(data_bin, tmp_path / "live", f"{extra} --ki-teacher {teacher}")
    assert len(stored) == len(logs) == 40
    assert stored == pytest.approx(objectives(logs), rel=1e-3)


def test_a_causal_dense_store_trains_as_its_live_teacher(
    fairseq_train, data_bin, gpt, tmp_path, monkeypatch
):
    blocks = "--add-bos-token --sample-break-mode complete --tokens-per-sample 30"
    store = capture(data_bin, gpt, tmp_path / "store", f"--task ki_lm --encoding dense {blocks}")
    extra = f"{CAUSAL} --ki-steps 100 --max-update 40 --max-target-positions 31 {blocks}"
    student = GPT.format(2, 32)
    logs = record_logs(monkeypatch)
    fairseq_train(data_bin, tmp_path / "stored", f"{extra} --ki-store {store}", student)
    stored = objectives(logs)
    logs.clear()
    run = fairseq_train(data_bin, tmp_path / "live", f"{extra} --ki-teacher {gpt}", student)
    assert len(stored) == len(logs) == 40
    assert stored == pytest.approx(objectives(logs), rel=1e-3)
    assert {r["epoch"] for r in run.train} >= {1, 2}


@pytest.mark.parametrize(
    "encoding", ["topk --k 5", "topk --k 5 --tail", "topp --p 0.8 --k 20", "sampled --draws 20"]
)
def test_every_encoding_trains(fairseq_train, data_bin, teacher, tmp_path, encoding):
    store = capture(data_bin, teacher, tmp_path / "store", f"--encoding {encoding}")
    tail = "--ki-tail" if "--tail" in encoding else ""
    run = fairseq_train(
        data_bin,
        tmp_path / "run",
        f"{KI} --ki-store {store} {tail} --ki-temperature 1 --ki-schedule constant --ki-rate 1 "
        "--max-update 25",
    )
    divergence = [float(r["ki_loss"]) for r in run.train]
    assert all(kl > 0 for kl in divergence)
    assert sum(divergence[-5:]) < sum(divergence[:5])
    # stored beside every encoding, so the log has them as with a live teacher
    assert float(run.train[0]["ki_teacher_ppl"]) > 1


@pytest.mark.parametrize("stores", [1, 2])
def test_shards_of_the_data(fairseq_train, data_bin, teacher, tmp_path, monkeypatch, stores):
    """Four epochs over two directories and two maskings: all as the live teacher has them."""
    parts = [
        part_of(data_bin, tmp_path / "a", range(160)),
        part_of(data_bin, tmp_path / "b", range(160, 300)),
    ]
    data = f"{parts[0]}:{parts[1]}"
    whole = "--encoding dense --mask-epochs 2"
    if stores == 1:
        named = capture(data, teacher, tmp_path / "both", whole)
    else:
        captured = [capture(p, teacher, tmp_path / f"store-{p.name}", whole) for p in parts]
        named = f"{captured[1]}:{captured[0]}"  # found by their data, not by their order
    extra = f"{KI} --ki-steps 100 --max-epoch 4 --num-workers 1 --lr 1e-3"
    logs = record_logs(monkeypatch)
    fairseq_train(data, tmp_path / "stored", f"{extra} --ki-store {named}")
    stored = objectives(logs)
    logs.clear()

    set_epoch = MaskTokensDataset.set_epoch  # the live run in the store's epochs

    def replaying(self, epoch, **unused):
        set_epoch(self, (epoch - 1) // 2 % 2 + 1)

    monkeypatch.setattr(MaskTokensDataset, "set_epoch", replaying)
    run = fairseq_train(data, tmp_path / "live", f"{extra} --ki-teacher {teacher}")
    assert run.train[-1]["epoch"] == 4
    assert stored == pytest.approx(objectives(logs), rel=1e-3)


def test_combined_splits(fairseq_train, data_bin, teacher, tmp_path, monkeypatch):
    data = part_of(data_bin, tmp_path / "data", range(200))
    part_of(data_bin, data, range(200, 300), "train1")
    store = capture(data, teacher, tmp_path / "store", "--encoding dense")
    extra = f"{KI} --ki-steps 100 --max-epoch 1"
    logs = record_logs(monkeypatch)
    fairseq_train(data, tmp_path / "stored", f"{extra} --ki-store {store}")
    stored = objectives(logs)
    logs.clear()
    fairseq_train(data, tmp_path / "live", f"{extra} --ki-teacher {teacher}")
    assert len(logs) > 10
    assert stored == pytest.approx(objectives(logs), rel=1e-3)
    with pytest.raises(MismatchError, match="data-bin split"):  # one of the two alone
        fairseq_train(data_bin, tmp_path / "other", f"{extra} --ki-store {store}")


def test_students_of_another_seed_share_a_store(fairseq_train, data_bin, topk, tmp_path):
    extra = f"{KI} --ki-store {topk} --ki-steps 9 --max-update 3 --seed 5"
    with pytest.raises(MismatchError, match=r"data.seed: expected 5, found 1"):
        fairseq_train(data_bin, tmp_path / "refused", extra)
    run = fairseq_train(data_bin, tmp_path / "shared", f"{extra} --ki-mask-seed 1")
    assert float(run.train[0]["ki_rate"]) == 1
