"""Encode text and write it as fairseq's mmap dataset in parallel, in one step."""

import multiprocessing
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from _vocabulary import Block, encode_ids, fairseq_ids, load_dictionary, load_model, text_blocks
from sentencepiece import SentencePieceProcessor

if TYPE_CHECKING:
    from fairseq.data import Dictionary

_model: SentencePieceProcessor  # of a worker process


def _start_worker(path: Path) -> None:
    global _model
    _model = load_model(path)


def _encode_block(block: Block) -> tuple[np.ndarray, np.ndarray]:
    """The ids of a block with an end behind each line, and the lengths. The end is the number of
    the model's pieces, which is the id of none."""
    ids, sizes = encode_ids(_model, block)
    return np.insert(ids, sizes.cumsum(), _model.get_piece_size()), sizes + 1


def binarize(
    texts: Mapping[str, Path], model_path: Path, dict_path: Path, out_dir: Path, workers: int
) -> None:
    """Write dict.txt and SPLIT.bin, SPLIT.idx for every split's text into `out_dir`.

    The files are those that encode.py and fairseq-preprocess would write.
    """
    with multiprocessing.Pool(workers, _start_worker, (model_path,)) as pool:
        encoded = {
            split: pool.imap(_encode_block, text_blocks(path)) for split, path in texts.items()
        }
        # Importing fairseq takes seconds, so it comes when the workers are already encoding.
        dictionary = load_dictionary(dict_path)
        table = fairseq_ids(load_model(model_path), dictionary)
        dictionary.save(str(out_dir / "dict.txt"))
        for split, blocks in encoded.items():
            write_split(blocks, table, dictionary, out_dir / split)


def write_split(
    blocks: Iterable[tuple[np.ndarray, np.ndarray]],
    table: np.ndarray,
    dictionary: "Dictionary",
    prefix: Path,
) -> None:
    """Write blocks of (ids, sizes) to PREFIX.bin and PREFIX.idx; `table` gives fairseq's ids."""
    from fairseq.data.indexed_dataset import MMapIndexedDataset, best_fitting_int_dtype

    dtype = best_fitting_int_dtype(len(dictionary))
    table = table.astype(dtype)
    all_sizes = [np.empty(0, np.int32)]
    unknown = 0
    with open(f"{prefix}.bin", "wb") as file:
        for ids, sizes in blocks:
            translated = table[ids]
            translated.tofile(file)
            unknown += int((translated == dictionary.unk()).sum())
            all_sizes.append(sizes)
    # Python's integers: fairseq adds the sizes up in the type they have, and int32 overflows.
    sizes_list = np.concatenate(all_sizes).tolist()
    with MMapIndexedDataset.Index.writer(f"{prefix}.idx", dtype) as index:
        index.write(sizes_list)
    tokens = sum(sizes_list)
    print(
        f"{prefix.name}: {len(sizes_list):,} lines, {tokens:,} tokens, "
        f"{100 * unknown / tokens:.3f}% unknown",
        flush=True,
    )
