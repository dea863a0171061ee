"""Makes a plain copy of a checkpoint that the safe reader refuses.

    python -m fairseq_ki.compat.plain_copy OLD.pt NEW.pt

This is for files of authors you trust: reading OLD.pt does whatever its author wrote into it.
Configurations, enumerations, numpy's values and paths become plain ones; anything else that is
not a tensor or a number is dropped and named.
"""

import argparse
import enum
import pathlib
import sys
from typing import Any

import numpy as np
import torch
from omegaconf import OmegaConf

from fairseq_ki.compat.checkpoint_reading import load_checkpoint
from fairseq_ki.compat.checkpoint_writing import write_whole
from fairseq_ki.compat.plain_values import map_leaves

KEPT = (type(None), bool, int, float, str, bytes, torch.dtype, torch.device, torch.Size)


def plain(state: Any) -> tuple[Any, list[str]]:
    """``state`` with plain values alone, and the names of the types that were dropped."""
    dropped: set[str] = set()

    def one(value: Any) -> Any:
        if OmegaConf.is_config(value):
            return map_leaves(OmegaConf.to_container(value, enum_to_str=True), one)
        if isinstance(value, enum.Enum):
            return value.value if isinstance(value.value, str) else value.name
        if isinstance(value, np.generic):
            return value.item()
        if isinstance(value, np.ndarray):
            return torch.from_numpy(value)
        if isinstance(value, pathlib.PurePath):
            return str(value)
        if isinstance(value, dict):  # a kind of dictionary of its own
            return map_leaves(dict(value), one)
        if isinstance(value, torch.Tensor) or type(value) in KEPT:
            return value
        dropped.add(f"{type(value).__module__}.{type(value).__qualname__}")
        return None

    return map_leaves(state, one), sorted(dropped)


def main(argv: list[str] | None = None) -> int:
    """Copies one file; returns the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m fairseq_ki.compat.plain_copy", description=__doc__.splitlines()[0]
    )
    parser.add_argument("old", metavar="OLD.pt", help="a checkpoint whose author you trust")
    parser.add_argument("new", metavar="NEW.pt", help="where to write the plain copy")
    args = parser.parse_args(argv)
    print(f"reading {args.old}, and doing whatever its author wrote into it", file=sys.stderr)
    state, dropped = plain(torch.load(args.old, map_location="cpu", weights_only=False))
    write_whole(args.new, lambda file: torch.save(state, file))
    for name in dropped:
        print(f"dropped: values of type {name}", file=sys.stderr)
    load_checkpoint(args.new)  # or say at once why it cannot be used
    print(f"wrote {args.new}", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
