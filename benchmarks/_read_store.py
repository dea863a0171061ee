"""Reads every sample of a store in random order, in a process with little memory.

    python _read_store.py STORE LIMIT

LIMIT, in bytes, is that of the address space. Prints the largest resident size. It loads the store
package alone: the plug-in's own import brings torch and fairseq.
"""

import json
import resource
import sys
import types
from pathlib import Path

import numpy as np

package = types.ModuleType("fairseq_ki")
package.__path__ = [str(Path(__file__).resolve().parent.parent / "fairseq_ki")]
sys.modules["fairseq_ki"] = package

from fairseq_ki.store import StoreReader  # noqa: E402


def main(directory: str, limit: int) -> None:
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    reader = StoreReader(directory)
    split = reader.plan.splits[0]
    rows = 0
    for block in np.random.default_rng(0).permutation(split.blocks).tolist():
        # the synthetic store's checksums are its block numbers
        rows += len(reader.read(0, 1, block, checksum=block))
    status = Path("/proc/self/status").read_text()
    peak = int(status.split("VmHWM:")[1].split()[0]) / 1024
    print(json.dumps({"peak_mib": peak, "rows": rows}))


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
