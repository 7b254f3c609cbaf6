"""Several components, one after the other."""

from __future__ import annotations

import dataclasses
from typing import Any

import torch
from torch import Tensor

from nnet.modules.base import ComponentModule
from nnet.modules.registry import implements, make_module
from nnet.plan.times import Times


@implements("CompositeComponent")
class Composite(ComponentModule):
    """Applies the modules `component1`, `component2` and so on; in training to no more rows at a
    time than `max_rows_process`, as nnet3 does."""

    def __init__(self, spec: Any) -> None:
        super().__init__(spec)
        self.inner = tuple(make_module(component) for component in spec.components)
        for number, module in enumerate(self.inner, start=1):
            module.in_parts = spec.max_rows_process > 0
            self.add_module(f"component{number}", module)

    def forward(self, x: Tensor, times: Times) -> Tensor:
        rows, most = x.shape[0] * x.shape[1], self.spec.max_rows_process
        if not (self.training and torch.is_grad_enabled()) or not 0 < most < rows:
            return self._whole(x, times)
        # The backward pass begins with what was made last, nnet3 with the first rows.
        parts = x.reshape(rows, 1, -1).split(most)
        results = [self._whole(part, times) for part in reversed(parts)]
        return torch.cat(results[::-1]).reshape(*x.shape[:2], -1)

    def _whole(self, x: Tensor, times: Times) -> Tensor:
        for module in self.inner:
            x = module(x, times)
        return x

    def derivative(self, x: Tensor, y: Tensor, gradient: Tensor, times: Times) -> Tensor:
        values = [x]
        with torch.no_grad():
            for module in self.inner[:-1]:
                values.append(module(values[-1], times))
        values.append(y)
        for number, module in reversed(list(enumerate(self.inner))):
            gradient = module.derivative(values[number], values[number + 1], gradient, times)
        return gradient

    def to_spec(self) -> Any:
        return dataclasses.replace(
            self.spec, components=tuple(module.to_spec() for module in self.inner)
        )
