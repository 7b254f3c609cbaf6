"""The torch side of components, found by the name of the specification's class."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from nnet.errors import NnetError
from nnet.plan.times import Times


class ComponentModule(nn.Module):
    """What a component computes on rows.

    `forward` takes rows `(time, batch, input_dim)` and the times that they belong to, and gives
    `(time, batch, output_dim)`; a component that looks at several times gets them appended.
    Parameters have the names of the specification's fields.
    """

    def __init__(self, spec: Any) -> None:
        super().__init__()
        self.spec = spec

    def parameter(self, name: str) -> nn.Parameter:
        """A trainable copy of the specification's array `name`."""
        return nn.Parameter(torch.tensor(getattr(self.spec, name)))

    def forward(self, x: Tensor, times: Times) -> Tensor:
        raise NotImplementedError

    def to_spec(self) -> Any:
        """The specification with this module's parameters and statistics in it."""
        arrays = {
            name: tensor.detach().cpu().float().numpy().copy()
            for name, tensor in self.named_parameters(recurse=False)
        }
        return dataclasses.replace(self.spec, **arrays) if arrays else self.spec


def constant(array: np.ndarray | None) -> Tensor | None:
    """A tensor that is never changed; it shares the array's memory where that is possible."""
    if array is None:
        return None
    return torch.from_numpy(array) if array.flags.writeable else torch.tensor(array)


_MODULES: dict[str, type[ComponentModule]] = {}


def implements(*specs: str) -> Callable[[type[ComponentModule]], type[ComponentModule]]:
    """Registers a module class for specification classes (by their type name)."""

    def register(cls: type[ComponentModule]) -> type[ComponentModule]:
        for spec in specs:
            _MODULES[spec] = cls
        return cls

    return register


def make_module(spec: Any) -> ComponentModule:
    """The module of a specification.

    Raises:
        NnetError: there is no torch implementation of this component type.
    """
    name = getattr(spec, "type_name", type(spec).__name__)
    cls = _MODULES.get(name)
    if cls is None:
        raise NnetError(f"components of type {name} can be read and written, but not yet run")
    return cls(spec)
