"""The parts of gated recurrent units that feed back."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import Tensor

from nnet.kernels.affine.terms import Observer
from nnet.kernels.cells import cell as cells
from nnet.kernels.cells.cell import FED, INNER
from nnet.kernels.cells.run import CellRun
from nnet.modules.cells import CellModule
from nnet.modules.registry import implements
from nnet.modules.statistics import REPAIR_PROBABILITY, chance


class AnyGruNonlinearity(CellModule):
    """h = tanh(U x + feedback), c = (1 - z) h + z c' (`nnet.kernels.cells.definitions.gru`).

    As in nnet3, statistics of the tanh are stored in a random half of the minibatches (in a loop,
    of the steps), and saturated units repaired where they are.
    """

    repairs_steps: ClassVar[bool] = True

    value_sum: Tensor
    deriv_sum: Tensor
    repaired_units: Tensor
    count: Tensor

    def __init__(self, spec: Any) -> None:
        super().__init__(spec)
        self.w_h = self.parameter("w_h")
        self.keep_sum("count", spec.count)
        self.keep_sum("repaired_units", spec.self_repair_total)
        for name, average in (("value_sum", spec.value_avg), ("deriv_sum", spec.deriv_avg)):
            self.keep_sum(name, torch.tensor(average, dtype=torch.float64) * spec.count)

    @property
    def trained(self) -> Tensor:
        return self.w_h

    def weights_gradient(self, rows: Tensor, inner: Tensor) -> Tensor:
        """The derivative with respect to w_h; both arguments are shown to observers.

        Args:
            rows: what w_h is multiplied with, (time, batch, columns).
            inner: the derivative with respect to what the tanh is taken of.
        """
        raise NotImplementedError

    def repair(self, y: Tensor) -> Tensor | None:
        strengths = self.repair_scales(y[..., : self.cell_dim])
        return None if strengths is None else strengths.unsqueeze(0)

    @torch.no_grad()
    def repair_scales(self, h: Tensor) -> Tensor | None:
        """Stores statistics of h in half of the cases, and gives then the strength of self-repair.

        That is (cell_dim,): what has to be added to the derivative before the tanh, by h.
        """
        if not self.storing or chance() > REPAIR_PROBABILITY:
            return None
        rows = h.flatten(0, 1)
        values, squares = rows.sum(0), (rows * rows).sum(0)
        self.add_to_sums(value_sum=values, deriv_sum=len(rows) - squares, count=len(rows))
        wrong = (self.deriv_sum < self.spec.self_repair_threshold * self.count).to(h.dtype)
        self.add_to_sums(repaired_units=wrong.sum())
        return wrong * (self.spec.self_repair_scale / REPAIR_PROBABILITY)

    def stored(self) -> dict[str, Any]:
        count = float(self.count)
        return {
            "count": count,
            "self_repair_total": float(self.repaired_units),
            "value_avg": self.average(self.value_sum, count),
            "deriv_avg": self.average(self.deriv_sum, count),
        }


@implements("GruNonlinearityComponent")
class GruNonlinearity(AnyGruNonlinearity):
    """The feedback is w_h (s' r); the observer sees s' r and the derivative before the tanh."""

    observer: Observer | None = None

    def __init__(self, spec: Any) -> None:
        super().__init__(spec)
        self.cell = cells.gru_cell(self.cell_dim, int(spec.recurrent_dim))

    def _matrices(self) -> dict[int, Tensor]:
        return {0: self.w_h.detach()}

    def gradient_of_weights(self, run: CellRun) -> Tensor:
        buffers = run.memory.buffers
        fed = buffers.get(FED)
        if fed is None:
            fed = buffers["reset"] * buffers["state"]
        return self.weights_gradient(fed, buffers[INNER])

    def weights_gradient(self, rows: Tensor, inner: Tensor) -> Tensor:
        if self.observer is not None:
            self.observer([(rows, 1.0)], inner)
        return torch.matmul(inner.flatten(0, 1).t(), rows.flatten(0, 1))


@implements("OutputGruNonlinearityComponent")
class OutputGruNonlinearity(AnyGruNonlinearity):
    """The feedback is w_h c', unit by unit."""

    def __init__(self, spec: Any) -> None:
        super().__init__(spec)
        self.cell = cells.output_gru_cell(self.cell_dim)

    def gradient_of_weights(self, run: CellRun) -> Tensor:
        if self.row_observers:
            buffers = run.memory.buffers
            return self.weights_gradient(buffers["previous"], buffers[INNER])
        return run.sum_of("weights", 0).to(self.w_h.dtype)

    def weights_gradient(self, rows: Tensor, inner: Tensor) -> Tensor:
        products = (inner * rows).flatten(0, 1)
        if "w_h" in self.row_observers:
            self.row_observers["w_h"](products)
        return products.sum(dim=0)
