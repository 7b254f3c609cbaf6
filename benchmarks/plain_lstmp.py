"""The peers of a projected LSTM layer: stepping frame by frame in plain torch, and torch's own."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from nnet.graph.network import Network


class PlainLstmp(nn.Module):
    """nnet3's fast-lstmp-layer as one would write it by hand: one frame a step.

    y = [r, p]; gates = W [x; r(t - delay)] + b, peepholes from the cells, two projections in one
    matrix.
    """

    def __init__(self, network: Network, delay: int, name: str = "lstm") -> None:
        super().__init__()
        gates, projection = (network.components[f"{name}.{part}"] for part in ("W_all", "W_rp"))
        self.delay = delay
        self.recurrent = network.nodes[f"{name}.r"].dim
        self.gates_weight = nn.Parameter(torch.tensor(gates.linear))
        self.gates_bias = nn.Parameter(torch.tensor(gates.bias))
        self.projection_weight = nn.Parameter(torch.tensor(projection.linear))
        self.projection_bias = nn.Parameter(torch.tensor(projection.bias))
        peepholes = network.components[f"{name}.lstm_nonlin"].weights
        self.peepholes = nn.Parameter(torch.tensor(peepholes))

    def forward(self, x: Tensor) -> Tensor:
        """(batch, time, dim) to (batch, time, recurrent + other projection)."""
        cells = [x.new_zeros(x.shape[0], self.peepholes.shape[1])] * self.delay
        recurrent = [x.new_zeros(x.shape[0], self.recurrent)] * self.delay
        outputs = []
        w_ic, w_fc, w_oc = self.peepholes.unbind()
        for frame in x.unbind(1):
            joined = torch.cat((frame, recurrent[-self.delay]), dim=1)
            gates = functional.linear(joined, self.gates_weight, self.gates_bias)
            i, f, c, o = gates.chunk(4, dim=1)
            previous = cells[-self.delay]
            cell = torch.sigmoid(i + w_ic * previous) * torch.tanh(c)
            cell = cell + torch.sigmoid(f + w_fc * previous) * previous
            m = torch.sigmoid(o + w_oc * cell) * torch.tanh(cell)
            y = functional.linear(m, self.projection_weight, self.projection_bias)
            cells.append(cell)
            recurrent.append(y[:, : self.recurrent])
            outputs.append(y)
        return torch.stack(outputs, dim=1)


def torch_lstm(dim: int, cell_dim: int, projection: int) -> nn.LSTM:
    """torch's LSTM of equal size: no peepholes, all of the projection recurrent, delay 1."""
    return nn.LSTM(dim, cell_dim, proj_size=projection, batch_first=True)
