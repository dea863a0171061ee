"""``--optimizer ki_adam``: fairseq's Adam, computed by torch's fused kernel.

Options, semantics and saved state are those of ``--optimizer adam``, so either can resume a run
of the other. One kernel updates all parameters in one pass over them, on CPU and CUDA, which is
what apex's FusedAdam (not on the package index) does for fairseq where it is installed.
"""

import ast
import math
from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, List  # noqa: UP035  fairseq's dataclasses read List

import torch
from fairseq.dataclass import FairseqDataclass
from fairseq.optim import register_optimizer
from fairseq.optim.adam import FairseqAdam
from omegaconf import II
from torch import Tensor
from torch.optim.adamw import adamw

_HALF = (torch.float16, torch.bfloat16)


@dataclass
class KIAdamConfig(FairseqDataclass):
    adam_betas: Any = field(
        default=(0.9, 0.999),
        metadata={"help": "betas for Adam optimizer (the paper: (0.9, 0.98))"},
    )
    adam_eps: float = field(
        default=1e-8, metadata={"help": "epsilon for Adam optimizer (the paper: 1e-6)"}
    )
    weight_decay: float = field(
        default=0.0, metadata={"help": "decoupled weight decay (the paper: 0.01)"}
    )
    lr: List[float] = II("optimization.lr")  # noqa: UP006


@register_optimizer("ki_adam", dataclass=KIAdamConfig)
class KIAdam(FairseqAdam):
    """fairseq's wrapper around :class:`FusedAdam`; everything but the kernel is `FairseqAdam`'s."""

    def __init__(self, cfg: KIAdamConfig, params: Iterable[Tensor]) -> None:
        # past FairseqAdam.__init__, which would build its own optimizer
        super(FairseqAdam, self).__init__(cfg)
        self._optimizer = FusedAdam(params, **self.optimizer_config)

    @property
    def optimizer_config(self) -> dict[str, Any]:
        """Options that take precedence over those in a checkpoint.

        Raises:
            ValueError: if --adam-betas is not two numbers in [0, 1).
        """
        lr = self.cfg.lr
        return {
            "lr": float(lr if isinstance(lr, (int, float)) else lr[0]),
            "betas": _betas(self.cfg.adam_betas),
            "eps": self.cfg.adam_eps,
            "weight_decay": self.cfg.weight_decay,
        }


# fairseq compares the name of the optimizer's class with the one in the checkpoint when it
# resumes. The state is the same, and so is the name.
KIAdam.__name__ = FairseqAdam.__name__


def _betas(given: Any) -> tuple[float, float]:
    try:
        beta1, beta2 = ast.literal_eval(given) if isinstance(given, str) else given
        if not (0.0 <= beta1 < 1.0 and 0.0 <= beta2 < 1.0):
            raise ValueError
    except (ValueError, TypeError, SyntaxError):
        raise ValueError(
            f"--adam-betas: expected two numbers in [0, 1) such as '(0.9, 0.98)', found {given!r}"
        ) from None
    return float(beta1), float(beta2)


class FusedAdam(torch.optim.Optimizer):
    """Adam with decoupled weight decay, with the epsilon of fairseq's Adam.

    fairseq adds epsilon to the root of the raw second moment, torch to that of the corrected one:
    with b = 1 - beta2**t they are one formula if torch is given epsilon / sqrt(b).

    The state per parameter is ``step`` (int), ``exp_avg`` and ``exp_avg_sq`` (float32 also under
    half-precision parameters), as in fairseq's.

    Args:
        params: parameters or parameter groups.
        lr, betas, eps, weight_decay: as fairseq's Adam.
    """

    supports_memory_efficient_fp16 = True
    supports_flat_params = True

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
    ) -> None:
        defaults = {"lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay}
        super().__init__(params, defaults)

    @torch.no_grad()
    def step(self, closure: Callable[[], Tensor] | None = None) -> Tensor | None:
        """One update of every parameter that has a gradient.

        Raises:
            ValueError: for a sparse gradient.
        """
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            # epsilon depends on the step, and a parameter without a gradient makes none
            together: dict[tuple[int, torch.device], list[Tensor]] = defaultdict(list)
            for p in group["params"]:
                if p.grad is not None:
                    together[self._begin(p), p.device].append(p)
            for (step, device), params in together.items():
                self._update(group, step, device, params)
        return loss

    def _begin(self, p: Tensor) -> int:
        """Make the state ready and count the step."""
        if p.grad.is_sparse:
            raise ValueError("ki_adam: expected dense gradients, found a sparse one")
        state = self.state[p]
        if not state:
            state["step"] = 0
            wide = torch.float32 if p.dtype in _HALF else p.dtype
            state["exp_avg"] = torch.zeros_like(p, dtype=wide)
            state["exp_avg_sq"] = torch.zeros_like(p, dtype=wide)
        elif p.dtype in _HALF:
            # torch rounds a loaded state to the type of its parameter unless it is undone
            for name in ("exp_avg", "exp_avg_sq"):
                state[name] = state[name].float()
        state["step"] += 1
        return state["step"]

    def _update(
        self, group: dict[str, Any], step: int, device: torch.device, params: list[Tensor]
    ) -> None:
        beta1, beta2 = group["betas"]
        wide = [p.float() if p.dtype in _HALF else p for p in params]
        before = torch.full((len(params),), step - 1, dtype=torch.float32, device=device)
        adamw(
            wide,
            [p.grad.to(w.dtype) for p, w in zip(params, wide, strict=True)],
            [self.state[p]["exp_avg"] for p in params],
            [self.state[p]["exp_avg_sq"] for p in params],
            [],
            list(before.unbind()),
            fused=True,
            amsgrad=False,
            beta1=beta1,
            beta2=beta2,
            lr=group["lr"],
            weight_decay=group["weight_decay"],
            eps=group["eps"] / math.sqrt(1.0 - beta2**step),
            maximize=False,
        )
        for p, w in zip(params, wide, strict=True):
            if w is not p:
                p.copy_(w)
