"""The unit-by-unit part of LSTMs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from nnet.kernels.cells import cell as cells
from nnet.kernels.cells.run import CellRun
from nnet.modules.cells import CellModule
from nnet.modules.registry import implements

SIGMOIDS = (0, 1, 3)
"""Of the five nonlinearities i, f, c, o and m, those that are no tanh."""


@implements("LstmNonlinearityComponent")
class LstmNonlinearity(CellModule):
    """Gates, cell and output of an LSTM with peepholes (`nnet.kernels.cells.definitions.lstm`)."""

    value_sum: Tensor
    deriv_sum: Tensor
    repaired_units: Tensor
    count: Tensor
    self_repair_config: Tensor

    def __init__(self, spec: Any) -> None:
        super().__init__(spec)
        self.cell = cells.lstm_cell(self.cell_dim, dropout=bool(spec.use_dropout))
        self.weights = self.parameter("weights")
        config = torch.tensor(spec.self_repair_config, dtype=torch.float64).view(2, 5, 1)
        self.register_buffer("self_repair_config", config, persistent=False)
        self.keep_sum("count", spec.count)
        for name, average in (("value_sum", spec.value_avg), ("deriv_sum", spec.deriv_avg)):
            self.keep_sum(name, torch.tensor(average, dtype=torch.float64) * spec.count)
        share = torch.tensor(spec.self_repair_prob, dtype=torch.float64)
        self.keep_sum("repaired_units", share * spec.count * self.cell_dim)

    @property
    def trained(self) -> Tensor:
        return self.weights

    def repair(self, y: Tensor) -> Tensor:
        return self.repair_scales()

    def repair_scales(self) -> Tensor:
        """How strongly each unit is self-repaired, (5, cell_dim)."""
        return self._wrong() * self.self_repair_config[1]

    def _wrong(self) -> Tensor:
        """1 for units whose average derivative is too small, (5, cell_dim)."""
        average = self.deriv_sum / (1.0 + self.count)
        return (average < self.self_repair_config[0]).to(average.dtype)

    def gradient_of_weights(self, run: CellRun) -> Tensor:
        rows = [run.sum_of("weights", number) for number in range(3)]
        return torch.stack(rows).to(self.weights.dtype)

    def store_sums_of(self, run: CellRun) -> None:
        if self.storing:
            values, squares = (
                torch.stack([run.sum_of(name, cells.REPAIRS + n) for n in range(5)])
                for name in ("values", "squares")
            )
            self.store_sums(values, squares, run.rows)

    def store_rows(self, results: Sequence[Tensor]) -> None:
        """Stores statistics of rows, from the results of the five nonlinearities, each (time,
        batch, cell_dim)."""
        rows = [result.flatten(0, 1).double() for result in results]
        values = torch.stack([result.sum(dim=0) for result in rows])
        squares = torch.stack([result.square().sum(dim=0) for result in rows])
        self.store_sums(values, squares, len(rows[0]))

    def store_sums(self, value_sum: Tensor, square_sum: Tensor, count: int) -> None:
        """Adds sums over `count` rows of the nonlinearities' results and their squares."""
        slope_sum = count - square_sum
        slope_sum[list(SIGMOIDS)] = (value_sum - square_sum)[list(SIGMOIDS)]
        self.add_to_sums(
            repaired_units=self._wrong().sum(dim=1) * count,
            value_sum=value_sum,
            deriv_sum=slope_sum,
            count=count,
        )

    def stored(self) -> dict[str, Any]:
        count = float(self.count)
        return {
            "count": count,
            "value_avg": self.average(self.value_sum, count),
            "deriv_avg": self.average(self.deriv_sum, count),
            "self_repair_prob": self.average(self.repaired_units, count * self.cell_dim),
        }
