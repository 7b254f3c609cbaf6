"""The components of a module that are trained, with the settings that hold for them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # options are checked before torch is loaded
    from torch import nn

PREFIX = "components."
"""Before the names of a compiled network's components."""


@dataclass(frozen=True, eq=False)
class Part:
    """A module inside another, and what nnet3 goes by when it changes its parameters.

    A CompositeComponent is updated as a whole: its own max-change and l2-regularize hold for all
    that is inside, whose own are not looked at. Each component inside has its own learning rate,
    and the factors of both are multiplied.

    Attributes:
        name: the component's, as in a model file; inside of c it is c.component1.
        module: computes it; has a `spec` if it is a component.
        whole: the name of the component that it belongs to, mostly its own.
        owner: the module of that.
    """

    name: str
    module: nn.Module
    whole: str
    owner: nn.Module

    @property
    def learning_rate(self) -> float:
        """That in the model file."""
        return _setting(self.module, "learning_rate", float("nan"))

    @property
    def learning_rate_factor(self) -> float:
        own = _setting(self.module, "learning_rate_factor", 1.0)
        inside = self.module is not self.owner
        return own * _setting(self.owner, "learning_rate_factor", 1.0) if inside else own

    @property
    def max_change(self) -> float:
        """For the whole component; 0 for no limit."""
        return _setting(self.owner, "max_change", 0.0)

    @property
    def l2_regularize(self) -> float:
        return _setting(self.owner, "l2_regularize", 0.0)


def parts(module: nn.Module) -> Iterator[Part]:
    """A module and all modules inside of it, in order."""
    path, whole, owner = "", "", module
    for place, submodule in module.named_modules():
        name = place.removeprefix(PREFIX).replace("/", ".")
        if not (path and place.startswith(path + ".")):
            path, whole, owner = (place if hasattr(submodule, "spec") else ""), name, submodule
        yield Part(name, submodule, whole, owner)


def _setting(module: nn.Module, name: str, default: float) -> float:
    spec: Any = getattr(module, "spec", None)
    return float(getattr(spec, name, default))
