"""Layer types by name. A family's file registers its types; no other place lists them."""

from __future__ import annotations

import functools
import importlib
import pkgutil
from collections.abc import Callable
from typing import TypeVar

import nnet.xconfig
from nnet.xconfig.layer import Layer

L = TypeVar("L", bound=type[Layer])

_types: dict[str, type[Layer]] = {}


def register(*names: str) -> Callable[[L], L]:
    """Class decorator: makes a layer type known by its names, the first words of its lines."""

    def decorate(cls: L) -> L:
        for name in names:
            if name in _types:
                raise TypeError(f"{name} is registered twice")
            _types[name] = cls
        cls.types = names
        return cls

    return decorate


@functools.cache
def layer_types() -> dict[str, type[Layer]]:
    """All layer types by name, from every file of `nnet/xconfig`."""
    for module in pkgutil.iter_modules(nnet.xconfig.__path__):
        importlib.import_module(f"nnet.xconfig.{module.name}")
    return dict(sorted(_types.items()))
