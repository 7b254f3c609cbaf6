"""Which implementations run, for the rows that are there."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from nnet.kernels.implementation import DTYPES
from nnet.plan.implementations import Choice, Kernels, choose
from nnet.plan.ir import Plan, Value
from nnet.plan.layout import Layout
from nnet.plan.machine import Precision
from nnet.runtime.device import machine_here


class Chooser:
    """The cost model's choices for a layout, worked out once for each kind of minibatch.

    `auto` is plain torch for what our kernels do not compute with: tensors that are not on a CUDA
    device, and 64-bit numbers.
    """

    def __init__(self, plan: Plan, layout: Layout, asked: Kernels) -> None:
        self.plan = plan
        self.layout = layout
        self.asked = asked
        self._known: dict[tuple[int, Kernels, Precision], Mapping[Value, Choice]] = {}

    def __call__(self, rows: Tensor) -> Mapping[Value, Choice]:
        """The choices for a minibatch like `rows` (time, batch, dim)."""
        usable = rows.device.type == "cuda" and rows.dtype in DTYPES
        asked = "reference" if self.asked == "auto" and not usable else self.asked
        key = (rows.shape[1], asked, _precision(rows))
        if key not in self._known:
            batch, _, precision = key
            self._known[key] = choose(
                self.plan,
                self.layout,
                machine_here(),
                asked=asked,
                batch=batch,
                precision=precision,
            )
        return self._known[key]


def _precision(rows: Tensor) -> Precision:
    """What matrix products are computed with."""
    kind = rows.device.type
    if rows.dtype != torch.float32 or torch.is_autocast_enabled(kind):
        return "bf16"
    exact = kind != "cuda" or torch.get_float32_matmul_precision() == "highest"
    return "fp32" if exact else "tf32"
