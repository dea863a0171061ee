"""Values as a checkpoint shall hold them: what the safe reader accepts, and nothing else."""

import argparse
import collections
from collections.abc import Callable
from typing import Any

import numpy as np


def map_leaves(value: Any, change: Callable[[Any], Any]) -> Any:
    """``value`` with ``change`` applied to all that is not a container.

    A container in which nothing changed is returned itself, not a copy, so that tensors that
    share their storage go on sharing it and attributes of a state dict survive.
    """
    if isinstance(value, argparse.Namespace):
        attributes = {k: map_leaves(v, change) for k, v in vars(value).items()}
        same = all(attributes[k] is v for k, v in vars(value).items())
        return value if same else argparse.Namespace(**attributes)
    if type(value) in (dict, collections.OrderedDict):
        items = {change(k): map_leaves(v, change) for k, v in value.items()}
        same = all(k is k2 and items[k] is v for (k, v), k2 in zip(value.items(), items))
        return value if same else type(value)(items)
    if type(value) in (list, tuple):
        new = [map_leaves(v, change) for v in value]
        return value if all(a is b for a, b in zip(new, value)) else type(value)(new)
    return change(value)


def without_numpy_scalars(value: Any) -> Any:
    """``value`` with numpy's numbers as Python's.

    A numpy number that reaches a meter or a validation score (scikit-learn's F1, say) would be
    pickled as a call into numpy, and the checkpoint could not be read safely.
    """
    return map_leaves(value, lambda x: x.item() if isinstance(x, np.generic) else x)
