"""A capture from a made-up teacher, for tests; as a script: one process of such a capture.

    python synthetic_capture.py STORE ENCODING RANK WORKERS

The teacher is a function of (split, mask epoch, block), so that every process gives the same rows.
As a script it loads the store package by itself: the plug-in's own import brings torch and fairseq.
"""

import sys
import types
from pathlib import Path

import numpy as np

if __name__ == "__main__":
    package = types.ModuleType("fairseq_ki")
    package.__path__ = [str(Path(__file__).resolve().parents[2] / "fairseq_ki")]
    sys.modules["fairseq_ki"] = package

from fairseq_ki import store

VOCABULARY = 300
ENCODINGS = {
    "topk": store.TopK(VOCABULARY, k=10, tail=True),
    "topp": store.TopP(VOCABULARY, p=0.9, k=20),
    "sampled": store.Sampled(VOCABULARY, draws=50, seed=7),
    "dense": store.Dense(VOCABULARY),
}


def make_plan(encoding, **settings):
    """A plan of two splits and two mask epochs: 12 shards."""
    return store.Plan(
        **{
            "encoding": encoding,
            "task": "mlm",
            "splits": (store.Split("train", "a" * 64, 70), store.Split("train1", "b" * 64, 41)),
            "dictionary_sha256": "c" * 64,
            "teacher_sha256": "d" * 64,
            "max_rows": 32,
            "data": {"tokens_per_sample": 32, "mask_prob": 0.15, "seed": 1, "shorten_method": None},
            "mask_epochs": 2,
            "samples_per_shard": 20,
            **settings,
        }
    )


def make_sample(split, mask_epoch, block):
    """Positions, targets, inputs of one sample; some have no row at all."""
    rng = np.random.default_rng([split, mask_epoch, block])
    inputs = rng.integers(0, VOCABULARY, 32)
    positions = np.flatnonzero(rng.random(32) < (0.0 if block % 13 == 4 else 0.15))
    return positions, rng.integers(0, VOCABULARY, len(positions)), inputs


def make_logprobs(split, mask_epoch, block, rows, vocabulary=VOCABULARY, sharpness=3.0):
    """(rows, vocabulary) float32."""
    rng = np.random.default_rng([split, mask_epoch, block, rows])
    logits = sharpness * rng.standard_normal((rows, vocabulary))
    return (logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))).astype(np.float32)


def make_rows(plan, split, mask_epoch, block):
    """The checksum of one sample and what its teacher's rows become."""
    positions, targets, inputs = make_sample(split, mask_epoch, block)
    logprobs = make_logprobs(
        split, mask_epoch, block, len(positions), vocabulary=plan.encoding.vocabulary
    )
    uniform = plan.uniforms(split, mask_epoch, block, len(positions))
    rows = plan.encoding.select(logprobs, targets, uniform)
    return store.sample_checksum(positions, targets, inputs), rows


def capture(directory, plan, rank=0, workers=1):
    """Write all of one process's pending shards."""
    writer = store.StoreWriter(directory, plan, rank, workers)
    for shard in writer.pending():
        write_shard(writer, shard)
    return writer


def write_shard(writer, shard):
    """Write one shard and publish it."""
    with writer.shard(shard) as out:
        add_samples(out, writer.plan, shard)


def add_samples(out, plan, shard):
    """Add every sample of the shard."""
    for block in shard.blocks:
        out.add(*make_rows(plan, shard.split, shard.mask_epoch, block))


if __name__ == "__main__":
    print("begun", flush=True)
    try:
        capture(sys.argv[1], make_plan(ENCODINGS[sys.argv[2]]), *map(int, sys.argv[3:])).finalize()
    except store.UnfinishedError:
        pass  # other workers are still at it
    except store.FinishedError:
        print("finished before", flush=True)
