"""The peers of projected GRU layers: stepping frame by frame in plain torch."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from nnet.graph.network import Network


class _PlainGru(nn.Module):
    """A projected layer as one would write it by hand: one frame a step.

    Two gates = sigmoid(W [x; s(t - delay)] + b); y = [s, p] is a projection. Subclasses say which
    gates there are, and what is done with them.
    """

    gates: tuple[str, str]
    projection: str

    def __init__(self, network: Network, delay: int, name: str = "layer") -> None:
        super().__init__()
        parts = network.components
        self.delay = delay
        self.recurrent = parts[f"{name}.s_r"].input_dim
        gates = [parts[f"{name}.W_{gate}.xs"] for gate in self.gates]
        candidate, projection = parts[f"{name}.W_hpart.x"], parts[f"{name}.{self.projection}"]
        self.sizes = [gate.output_dim for gate in gates]
        self.gates_weight = nn.Parameter(torch.cat([torch.tensor(g.linear) for g in gates]))
        self.gates_bias = nn.Parameter(torch.cat([torch.tensor(g.bias) for g in gates]))
        self.weight = nn.Parameter(torch.tensor(candidate.linear))
        self.bias = nn.Parameter(torch.tensor(candidate.bias))
        self.projection_weight = nn.Parameter(torch.tensor(projection.linear))
        self.projection_bias = nn.Parameter(torch.tensor(projection.bias))
        self.feedback = nn.Parameter(torch.tensor(parts[f"{name}.gru_nonlin"].w_h))

    def forward(self, x: Tensor) -> Tensor:
        """(batch, time, dim) to (batch, time, recurrent + other projection)."""
        cells = [x.new_zeros(x.shape[0], len(self.weight))] * self.delay
        states = [x.new_zeros(x.shape[0], self.recurrent)] * self.delay
        outputs = []
        for frame in x.unbind(1):
            previous, state = cells[-self.delay], states[-self.delay]
            seen = torch.cat((frame, state), dim=1)
            gates = torch.sigmoid(functional.linear(seen, self.gates_weight, self.gates_bias))
            update, gate = gates.split(self.sizes, dim=1)
            fed = self.fed_back(gate, state, previous)
            candidate = torch.tanh(functional.linear(frame, self.weight, self.bias) + fed)
            cell = (1 - update) * candidate + update * previous
            read = self.read(cell, gate)
            y = functional.linear(read, self.projection_weight, self.projection_bias)
            cells.append(cell)
            states.append(y[:, : self.recurrent])
            outputs.append(y)
        return torch.stack(outputs, dim=1)

    def fed_back(self, gate: Tensor, state: Tensor, previous: Tensor) -> Tensor:
        """What is added before the tanh."""
        raise NotImplementedError

    def read(self, cell: Tensor, gate: Tensor) -> Tensor:
        """What the projection reads."""
        raise NotImplementedError


class PlainPgru(_PlainGru):
    """nnet3's fast-pgru-layer: a reset gate."""

    gates, projection = ("z", "r"), "W_y.c"

    def fed_back(self, gate: Tensor, state: Tensor, previous: Tensor) -> Tensor:
        return functional.linear(gate * state, self.feedback)

    def read(self, cell: Tensor, gate: Tensor) -> Tensor:
        return cell


class PlainOpgru(_PlainGru):
    """nnet3's fast-opgru-layer: an output gate."""

    gates, projection = ("z", "o"), "W_y.cdoto"

    def fed_back(self, gate: Tensor, state: Tensor, previous: Tensor) -> Tensor:
        return previous * self.feedback

    def read(self, cell: Tensor, gate: Tensor) -> Tensor:
        return cell * gate
