"""The network: ordered nodes, and the components that they use."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from nnet.components.base import Component
from nnet.text.source import Span
from nnet.text.syntax import Descriptor


@dataclass(frozen=True)
class InputNode:
    """Where the user's features come in. `dim` columns."""

    name: str
    dim: int
    span: Span | None = field(default=None, compare=False, repr=False)


@dataclass(frozen=True)
class ComponentNode:
    """The output of component `component` on the rows that `input` describes."""

    name: str
    component: str
    input: Descriptor
    span: Span | None = field(default=None, compare=False, repr=False)


@dataclass(frozen=True)
class DimRangeNode:
    """Columns `offset` up to `offset + dim` of node `source`."""

    name: str
    source: str
    offset: int
    dim: int
    span: Span | None = field(default=None, compare=False, repr=False)


@dataclass(frozen=True)
class OutputNode:
    """A named result. `objective` is 'linear' (log-likelihood) or 'quadratic'."""

    name: str
    input: Descriptor
    objective: str = "linear"
    span: Span | None = field(default=None, compare=False, repr=False)


Node = InputNode | ComponentNode | DimRangeNode | OutputNode


@dataclass
class Network:
    """A graph of components. Node and component names are separate namespaces, both ordered."""

    nodes: dict[str, Node] = field(default_factory=dict)
    components: dict[str, Component] = field(default_factory=dict)

    def inputs(self) -> Iterator[InputNode]:
        return (n for n in self.nodes.values() if isinstance(n, InputNode))

    def outputs(self) -> Iterator[OutputNode]:
        return (n for n in self.nodes.values() if isinstance(n, OutputNode))
