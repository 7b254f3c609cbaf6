"""Directives that change components and leave the graph as it is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from nnet.components.affine import Affine
from nnet.components.base import Component, Updatable
from nnet.components.fixed import FixedAffine
from nnet.graph.edits.directive import (
    Directive,
    key,
    log,
    matching,
    not_negative,
    proportion,
    register,
)
from nnet.graph.network import Network
from nnet.text.values import string


def _updatable(network: Network, pattern: str) -> list[Updatable]:
    """The trained components whose names match."""
    components = network.components
    names = [name for name, c in components.items() if isinstance(c, Updatable)]
    found = matching(names, pattern, "component with parameters")
    return [c for name in found if isinstance(c := components[name], Updatable)]


@register("set-learning-rate")
@dataclass(frozen=True)
class SetLearningRate(Directive):
    """Sets learning rates; each component multiplies the given one by its factor."""

    learning_rate: float = key(not_negative)
    name: str = key(string, "*")

    def apply(self, network: Network) -> Network:
        found = _updatable(network, self.name)
        for component in found:
            component.set_learning_rate(self.learning_rate)
        log.info("set the learning rates of %d components", len(found))
        return network


@register("set-learning-rate-factor")
@dataclass(frozen=True)
class SetLearningRateFactor(Directive):
    """Sets the factors; they act when a learning rate is next set."""

    learning_rate_factor: float = key(not_negative)
    name: str = key(string, "*")

    def apply(self, network: Network) -> Network:
        found = _updatable(network, self.name)
        for component in found:
            component.learning_rate_factor = self.learning_rate_factor
        log.info("set the learning-rate factors of %d components", len(found))
        return network


@register("set-dropout-proportion")
@dataclass(frozen=True)
class SetDropoutProportion(Directive):
    """Sets the dropout proportion of every component that has one."""

    proportion: float = key(proportion)
    name: str = key(string, "*")

    def apply(self, network: Network) -> Network:
        components: dict[str, Any] = {
            name: component
            for name, component in network.components.items()
            if "dropout_proportion" in component.specs()
        }
        found = matching(components, self.name, "component with a dropout proportion")
        for name in found:
            components[name].dropout_proportion = self.proportion
        log.info("set the dropout proportions of %d components", len(found))
        return network


@register("convert-to-fixed-affine")
@dataclass(frozen=True)
class ConvertToFixedAffine(Directive):
    """Makes affine components untrained ones."""

    name: str = key(string, "*")

    def apply(self, network: Network) -> Network:
        affine = {n: c for n, c in network.components.items() if isinstance(c, Affine)}
        found = matching(affine, self.name, "affine component")
        fixed: dict[str, Component] = {
            name: FixedAffine(linear=affine[name].linear, bias=affine[name].bias) for name in found
        }
        log.info("made %d affine components fixed ones", len(found))
        return Network(network.nodes, network.components | fixed)
