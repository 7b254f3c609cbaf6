"""The torch side of components, found by the name of the specification's class."""

from __future__ import annotations

import functools
import importlib
import pkgutil
from collections.abc import Callable
from typing import Any

import nnet.modules
from nnet.errors import NnetError
from nnet.modules.base import ComponentModule

_MODULES: dict[str, type[ComponentModule]] = {}


def implements(*specs: str) -> Callable[[type[ComponentModule]], type[ComponentModule]]:
    """Registers a module class for specification classes, by their type names.

    A class of specifications without a type name, by its own, stands for all that derive from it
    and have no module class of their own.
    """

    def register(cls: type[ComponentModule]) -> type[ComponentModule]:
        for spec in specs:
            _MODULES[spec] = cls
        return cls

    return register


@functools.cache
def _module_classes() -> dict[str, type[ComponentModule]]:
    """All module classes, from every file of `nnet/modules`."""
    for module in pkgutil.iter_modules(nnet.modules.__path__):
        importlib.import_module(f"nnet.modules.{module.name}")
    return _MODULES


def make_module(spec: Any) -> ComponentModule:
    """The module of a specification.

    Raises:
        NnetError: there is no torch implementation of this component type.
    """
    classes = _module_classes()
    names = [vars(cls).get("type_name", cls.__name__) for cls in type(spec).__mro__]
    for name in names:
        if name in classes:
            return classes[name](spec)
    raise NnetError(f"components of type {names[0]} can be read and written, but not yet run")
