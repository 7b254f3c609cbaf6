"""Edits of a network (`--edits`): nnet3's edits-config, a directive a line.

A directive is a frozen dataclass whose fields are its keys, registered by its word.
Patterns are names in which `*` stands for any characters.
"""

from __future__ import annotations

import dataclasses
import re
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, ClassVar, TypeVar

from nnet.components.affine import Affine
from nnet.components.base import Component, Updatable
from nnet.components.field import FieldError
from nnet.components.fixed import FixedAffine
from nnet.errors import NnetError
from nnet.graph.build import NAME
from nnet.graph.check import check_network, needed_nodes
from nnet.graph.network import ComponentNode, DimRangeNode, InputNode, Network, OutputNode
from nnet.text import syntax
from nnet.text.parse import parse_config
from nnet.text.source import TextError
from nnet.text.traverse import Leaf, map_leaves
from nnet.text.values import BadValue, boolean, convert, real

D = TypeVar("D", bound=type["Directive"])

_directives: dict[str, type[Directive]] = {}


def _directive(word: str) -> Callable[[D], D]:
    """Class decorator: makes a directive known by its word."""

    def decorate(cls: D) -> D:
        cls.word = word
        _directives[word] = cls
        return cls

    return decorate


def edit(network: Network, text: str, name: str = "<edits>") -> Network:
    """The network after the edits of `text`, whose lines may also be separated by `;`.

    The given network's components may be changed in place.

    Raises:
        TextError: an unknown directive or key, a wrong value, or a network that is not valid.
    """
    for line in parse_config(text.replace(";", "\n"), name).lines:
        try:
            network = _parse(line).apply(network)
            check_network(network)
        except TextError:
            raise
        except (NnetError, FieldError) as error:
            raise TextError(line.span, str(error)) from None
    return network


def _parse(line: syntax.Line) -> Directive:
    if line.word not in _directives:
        raise TextError(
            line.word_span,
            f"unknown edit '{line.word}'",
            expected=f"one of {', '.join(_directives)}",
            name=line.word,
            names=_directives,
        )
    cls = _directives[line.word]
    fields = {field.name.replace("_", "-"): field for field in dataclasses.fields(cls)}
    values: dict[str, Any] = {}
    for setting in line.settings:
        if setting.key not in fields:
            raise TextError(
                setting.key_span,
                f"'{line.word}' has no key '{setting.key}'",
                expected=f"one of {', '.join(fields)}" if fields else "no keys",
                name=setting.key,
                names=fields,
            )
        conversion = _CONVERSIONS[str(fields[setting.key].type)]
        values.setdefault(fields[setting.key].name, convert(setting, conversion))
    for key, field in fields.items():
        if field.default is dataclasses.MISSING and field.name not in values:
            raise TextError(line.word_span, f"'{line.word}' needs '{key}'", expected=f"{key}=...")
    return cls(**values)


def _rate(text: str) -> float:
    if real(text) < 0:
        raise BadValue("a number that is zero or more")
    return real(text)


_CONVERSIONS: dict[str, Callable[[str], Any]] = {"str": str, "float": _rate, "bool": boolean}


def _matches(pattern: str, name: str) -> bool:
    return bool(re.fullmatch(".*".join(map(re.escape, pattern.split("*"))), name))


@dataclass(frozen=True)
class Directive(ABC):
    """One edit."""

    word: ClassVar[str]

    @abstractmethod
    def apply(self, network: Network) -> Network:
        """The edited network."""


def _updatable(network: Network, pattern: str) -> list[Updatable]:
    components = network.components.items()
    return [c for n, c in components if isinstance(c, Updatable) and _matches(pattern, n)]


@_directive("set-learning-rate")
@dataclass(frozen=True)
class SetLearningRate(Directive):
    """Sets learning rates; each component multiplies the given one by its factor."""

    learning_rate: float
    name: str = "*"

    def apply(self, network: Network) -> Network:
        for component in _updatable(network, self.name):
            component.set_learning_rate(self.learning_rate)
        return network


@_directive("set-learning-rate-factor")
@dataclass(frozen=True)
class SetLearningRateFactor(Directive):
    """Sets the factors; they act when a learning rate is next set."""

    learning_rate_factor: float
    name: str = "*"

    def apply(self, network: Network) -> Network:
        for component in _updatable(network, self.name):
            component.learning_rate_factor = self.learning_rate_factor
        return network


@_directive("set-dropout-proportion")
@dataclass(frozen=True)
class SetDropoutProportion(Directive):
    """Sets the dropout proportion of every component that has one."""

    proportion: float
    name: str = "*"

    def apply(self, network: Network) -> Network:
        for name, component in network.components.items():
            if "dropout_proportion" in component.specs() and _matches(self.name, name):
                component.dropout_proportion = self.proportion  # type: ignore[attr-defined]
                component.check()
        return network


@_directive("rename-node")
@dataclass(frozen=True)
class RenameNode(Directive):
    """Renames a node, everywhere it is read."""

    old_name: str
    new_name: str

    def apply(self, network: Network) -> Network:
        if self.old_name not in network.nodes:
            raise NnetError(f"there is no node '{self.old_name}'")
        if self.new_name in network.nodes:
            raise NnetError(f"there is a node '{self.new_name}' already")
        if not NAME.fullmatch(self.new_name):
            raise NnetError(f"'{self.new_name}' can not be the name of a node")
        nodes = {}
        for node in network.nodes.values():
            node = replace(node, name=self._new(node.name))
            if isinstance(node, DimRangeNode):
                node = replace(node, source=self._new(node.source))
            elif isinstance(node, ComponentNode | OutputNode):
                node = replace(node, input=map_leaves(node.input, self._new_leaf))
            nodes[node.name] = node
        return Network(nodes, network.components)

    def _new(self, name: str) -> str:
        return self.new_name if name == self.old_name else name

    def _new_leaf(self, leaf: Leaf) -> syntax.Descriptor:
        if isinstance(leaf, syntax.NodeName):
            return replace(leaf, name=self._new(leaf.name))
        return leaf


@_directive("remove-output-nodes")
@dataclass(frozen=True)
class RemoveOutputNodes(Directive):
    """Removes the output nodes whose names match."""

    name: str

    def apply(self, network: Network) -> Network:
        kept = {
            name: node
            for name, node in network.nodes.items()
            if not (isinstance(node, OutputNode) and _matches(self.name, name))
        }
        return Network(kept, network.components)


def _without_orphan_nodes(network: Network, inputs_too: bool) -> Network:
    needed = needed_nodes(network)
    kept = {
        name: node
        for name, node in network.nodes.items()
        if name in needed or (isinstance(node, InputNode) and not inputs_too)
    }
    return Network(kept, network.components)


def _without_orphan_components(network: Network) -> Network:
    nodes = network.nodes.values()
    used = {node.component for node in nodes if isinstance(node, ComponentNode)}
    kept = {name: c for name, c in network.components.items() if name in used}
    return Network(network.nodes, kept)


@_directive("remove-orphan-nodes")
@dataclass(frozen=True)
class RemoveOrphanNodes(Directive):
    """Removes the nodes that no output needs."""

    remove_orphan_inputs: bool = False

    def apply(self, network: Network) -> Network:
        return _without_orphan_nodes(network, self.remove_orphan_inputs)


@_directive("remove-orphan-components")
@dataclass(frozen=True)
class RemoveOrphanComponents(Directive):
    """Removes the components that no node uses."""

    def apply(self, network: Network) -> Network:
        return _without_orphan_components(network)


@_directive("remove-orphans")
@dataclass(frozen=True)
class RemoveOrphans(Directive):
    """Removes the nodes that no output needs, then the components that no node uses."""

    remove_orphan_inputs: bool = False

    def apply(self, network: Network) -> Network:
        return _without_orphan_components(_without_orphan_nodes(network, self.remove_orphan_inputs))


@_directive("convert-to-fixed-affine")
@dataclass(frozen=True)
class ConvertToFixedAffine(Directive):
    """Makes affine components untrained ones."""

    name: str = "*"

    def apply(self, network: Network) -> Network:
        components: dict[str, Component] = dict(network.components)
        for name, component in components.items():
            if isinstance(component, Affine) and _matches(self.name, name):
                components[name] = FixedAffine(linear=component.linear, bias=component.bias)
        return Network(network.nodes, components)
