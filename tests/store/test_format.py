"""A store read with nothing but what FORMAT.md says: struct, numpy, json and two checksums."""

import hashlib
import itertools
import json
import math
import struct
import zlib

import numpy as np
import pytest


def canonical_sha256(value):
    text = json.dumps(value, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode("ascii")).hexdigest()


class Store:
    def __init__(self, directory):
        self.directory = directory
        self.manifest = json.loads((directory / "manifest.json").read_text())
        content = {name: v for name, v in self.manifest.items() if name != "sha256"}
        assert canonical_sha256(content) == self.manifest["sha256"]
        assert self.manifest["format"] == "fairseq-ki store"
        assert self.manifest["version"] == 1
        self.plan = self.manifest["plan"]
        self.encoding = self.plan["encoding"]
        self.bits = max(1, math.ceil(math.log2(self.plan["vocabulary"])))
        self.fingerprint = bytes.fromhex(canonical_sha256(self.plan))

    def records(self):
        """(split, mask epoch, block) -> (checksum, rows, body), by a walk of all files."""
        number, per_shard = 0, self.plan["samples_per_shard"]
        for split, of_split in enumerate(self.plan["splits"]):
            for epoch in range(1, self.plan["mask_epochs"] + 1):
                checksums = b""
                for first in range(0, of_split["blocks"], per_shard):
                    samples = min(per_shard, of_split["blocks"] - first)
                    entry = self.manifest["shards"][number]
                    number += 1
                    for i, record in enumerate(self.shard(entry, split, epoch, first, samples)):
                        yield (split, epoch, first + i), record
                        checksums += struct.pack("<I", record[0])
                masks = hashlib.sha256(checksums[: 4 * 64]).hexdigest()
                assert masks == self.manifest["masks"][split][epoch - 1]
        assert number == len(self.manifest["shards"])

    def shard(self, entry, split, epoch, first, samples):
        name = f"split{split:04d}-epoch{epoch:05d}-block{first:012d}.rows"
        assert entry["file"] == name
        data = (self.directory / name).read_bytes()
        assert len(data) == entry["bytes"]
        assert hashlib.sha256(data).hexdigest() == entry["sha256"]
        assert struct.unpack_from("<8s4I3Q32sII", data) == (
            b"KISHARD\n",
            1,
            split,
            epoch,
            samples,
            first,
            entry["rows"],
            len(data),
            self.fingerprint,
            0,
            zlib.crc32(data[:84]),
        )
        offsets = struct.unpack_from(f"<{samples + 1}Q", data, 88)
        assert offsets[0] == 88 + 8 * (samples + 1)
        assert offsets[-1] == len(data)
        rows_found = 0
        for start, end in itertools.pairwise(offsets):
            crc, checksum, rows = struct.unpack_from("<3I", data, start)
            assert crc == zlib.crc32(data[start + 4 : end])
            rows_found += rows
            yield checksum, rows, data[start + 12 : end]
        assert rows_found == entry["rows"]

    def take_ids(self, body, at, count):
        size = (count * self.bits + 7) // 8
        number = int.from_bytes(body[at : at + size], "little")
        mask = (1 << self.bits) - 1
        return [number >> (i * self.bits) & mask for i in range(count)], at + size

    def decode(self, body, n):
        """Per row: (target log-probability, top-1 id, log tail or None, {id: value})."""
        name, at = self.encoding["name"], 2 * n
        targets = np.frombuffer(body, "<f2", n).tolist()
        tails, widths = [None] * n, None
        if self.encoding.get("tail"):
            tails, at = np.frombuffer(body, "<f2", n, at).tolist(), at + 2 * n
        if name in ("topp", "sampled"):
            most = {"topp": self.encoding.get("k"), "sampled": self.encoding.get("draws")}[name]
            if name == "sampled":
                most = min(most, self.plan["vocabulary"])
            dtype = np.dtype("u1" if most <= 255 else "<u2")
            widths = np.frombuffer(body, dtype, n, at).tolist()
            at += n * dtype.itemsize
        if name == "topk":
            widths = [self.encoding["k"]] * n
        if name == "dense":
            vocabulary = self.plan["vocabulary"]
            top1, at = self.take_ids(body, at, n)
            values = np.frombuffer(body, "<f2", n * vocabulary, at).reshape(n, vocabulary)
            assert at + values.nbytes == len(body)
            kept = [dict(enumerate(row)) for row in values.tolist()]
        elif name == "sampled":
            ids, at = self.take_ids(body, at, n + sum(widths))
            top1, ids = ids[:n], ids[n:]
            kept = self.counts(body[at:], widths, ids)
        else:
            ids, at = self.take_ids(body, at, sum(widths))
            values = np.frombuffer(body, "<f2", sum(widths), at).tolist()
            assert at + 2 * sum(widths) == len(body)
            ends = np.cumsum(widths).tolist()
            starts = [end - width for end, width in zip(ends, widths)]
            kept = [dict(zip(ids[s:e], values[s:e])) for s, e in zip(starts, ends)]
            top1 = [ids[start] for start in starts]
        return list(zip(targets, top1, tails, kept))

    def counts(self, packed, widths, ids):
        bits = (byte >> i & 1 for byte in packed for i in range(8))
        kept, at = [], 0
        for width in widths:
            count, row = 1, {}
            for i in ids[at : at + width - 1]:
                while next(bits) == 0:
                    count += 1
                row[i] = count
            row[ids[at + width - 1]] = self.encoding["draws"] - sum(row.values())
            kept.append(row)
            at += width
        assert sum(bits) == 0
        return kept


@pytest.mark.parametrize("name", ["topk", "topp", "sampled", "dense"])
def test_a_reader_written_from_the_page(synthetic, finished, name):
    store = Store(finished[name])
    plan = synthetic.make_plan(synthetic.ENCODINGS[name])
    keys = []
    for key, (checksum, n, body) in store.records():
        keys.append(key)
        positions, targets, inputs = (a.tolist() for a in synthetic.make_sample(*key))
        numbers = [len(positions), len(targets), len(inputs), *positions, *targets, *inputs]
        assert checksum == zlib.crc32(struct.pack(f"<{len(numbers)}q", *numbers))
        rows = synthetic.make_rows(plan, *key)[1]
        found = store.decode(body, n)
        assert len(found) == len(rows) == len(positions)
        for r, (target, top1, tail, kept) in enumerate(found):
            assert target == rows.target_logprob[r]
            assert top1 == rows.top1[r]
            assert tail == (None if rows.tail is None else rows.tail[r])
            ids = range(300) if rows.ids is None else rows.ids[r].tolist()
            unused = {"sampled": 0, "topp": -65504}.get(name)
            pairs = zip(ids, rows.values[r].tolist())
            assert kept == {i: value for i, value in pairs if value != unused}
    assert len(keys) == 222


def test_the_temperature_and_the_types_are_said(finished):
    assert Store(finished["topk"]).plan["serves_tau"] == "any"
    assert Store(finished["sampled"]).plan["serves_tau"] == 1.0
    for directory in finished.values():
        plan = Store(directory).plan
        assert plan["byte_order"] == "little"
        assert plan["dtypes"] == {"id_bits": 9, "log_probability": "float16"}
