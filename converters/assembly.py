"""Putting a network of nnet3 together, one component of the source after the other.

While the network grows, a descriptor says where the output of the source's components so far is
found. Every node is booked to the source component that it was made for; the report is made of
these bookings.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

import numpy as np

from nnet.components.affine import Affine, Linear
from nnet.components.base import Component, Updatable
from nnet.components.config import component_from_line
from nnet.components.elementwise import PerElementOffset, PerElementScale
from nnet.components.field import single
from nnet.components.fixed import FixedAffine, FixedBias, FixedScale
from nnet.components.initial import Initializer
from nnet.components.nonlinearity import RectifiedLinear, Sigmoid, Tanh
from nnet.components.reshape import ElementwiseProduct, NoOp, Permute
from nnet.graph.dims import descriptor_dim
from nnet.graph.network import ComponentNode, DimRangeNode, InputNode, Network, OutputNode
from nnet.text import syntax
from nnet.text.parse import parse_config
from nnet.text.syntax import Descriptor, NodeName

BASE_LEARNING_RATE = single(0.001)
"""nnet3's default, which nnet1's coefficients become factors of."""


@dataclass
class Part:
    """What one component of the source became.

    Args:
        source: its place and type.
        nodes: the nodes made for it.
        parameters: trained numbers that were moved.
        notes: what is not the same as in the source, and settings that were left behind.
        result: where its output is found, `dim` columns.
    """

    source: str
    nodes: list[str] = field(default_factory=list)
    parameters: int = 0
    notes: list[str] = field(default_factory=list)
    result: Descriptor | None = None


@dataclass(frozen=True)
class Rates:
    """Factors of the learning rates of a matrix and a bias; `rate` is what they multiply."""

    linear: float = 1.0
    bias: float = 1.0
    rate: float = BASE_LEARNING_RATE


class Assembly:
    """A network of nnet3 that grows.

    Args:
        input_dim: columns of the input node.
        clamp: whether splicing repeats the first and last frame of what it splices, as nnet1
            does, for networks that are computed on whole utterances; otherwise the input's edges
            are repeated as in nnet3.
    """

    def __init__(self, input_dim: int, *, clamp: bool = False) -> None:
        self.network = Network()
        self.network.nodes["input"] = InputNode("input", input_dim)
        self.clamp = clamp
        self.ivector_input = False
        self.frozen = False
        self.parts: list[Part] = []
        self.sequences: list[tuple[int, int]] = []
        self.edges_differ = False
        self.reach = (0, 0)
        self._prefix = ""
        self._counts: dict[str, int] = {}

    def dim(self, descriptor: Descriptor) -> int:
        """Number of columns of a descriptor."""
        return descriptor_dim(self.network, descriptor)

    @property
    def part(self) -> Part:
        """What the source component that is being converted becomes."""
        return self.parts[-1]

    @contextmanager
    def making(self, short: str, source: str) -> Iterator[Part]:
        """Names nodes by `short` and a number, and books them to a source component.

        What is made for components inside of another is booked to that one.
        """
        outer = self._prefix
        if not outer:
            self.parts.append(Part(source))
        kind = f"{outer}{short}"
        self._counts[kind] = self._counts.get(kind, 0) + 1
        self._prefix = f"{kind}{self._counts[kind]}."
        yield self.part
        self._prefix = outer

    @contextmanager
    def inside(self, name: str) -> Iterator[None]:
        """Names of nodes go on with the name of a part of a component."""
        outer = self._prefix
        self._prefix += f"{name}." if name else ""
        yield
        self._prefix = outer

    @contextmanager
    def fixed(self) -> Iterator[None]:
        """Parameters become fixed numbers."""
        outer = self.frozen
        self.frozen = True
        yield
        self.frozen = outer

    def note(self, text: str) -> None:
        """Notes something for the report, once for each source component."""
        if text not in self.part.notes:
            self.part.notes.append(text)

    def sees_all_frames(self) -> None:
        """Books that what is made now depends on all frames of an utterance."""
        self.sequences.append(self.reach)

    def factor(self, wanted: float) -> float:
        """The factor of a learning rate; 0 for parameters that are not trained."""
        return 0.0 if self.frozen else wanted

    def divide_input(self, name: str, dim: int) -> NodeName:
        """The last `dim` columns of the input become an input of their own, one for an utterance.

        Decoders that estimate i-vectors give them so.
        """
        whole = self.dim(NodeName("input"))
        self.network.nodes["input"] = InputNode("input", whole - dim)
        self.network.nodes[name] = InputNode(name, dim)
        self.note(
            f"the last {dim} columns of the features are an input of their own, '{name}', whose "
            f"row at time 0 is read: give {whole - dim} columns as features and the rest as "
            "i-vectors"
        )
        return NodeName(name)

    # Nodes.

    def name(self, suffix: str = "") -> str:
        """A node's name that is not taken."""
        stem = (self._prefix + suffix).rstrip(".")
        name, number = stem, 1
        while name in self.network.nodes or name in self.network.components:
            number += 1
            name = f"{stem}_{number}"
        return name

    def add(self, component: Component, source: Descriptor, suffix: str = "") -> NodeName:
        """A node for a component with this input."""
        component.check()
        name = self.name(suffix)
        self.network.components[name] = component
        self.network.nodes[name] = ComponentNode(name, name, source)
        self.part.nodes.append(name)
        self.part.parameters += component.num_parameters
        return NodeName(name)

    def loop(self, suffix: str) -> NodeName:
        """The name of a node that is made later (with `close`) and read before."""
        return NodeName(self.name(suffix))

    def close(self, node: NodeName, component: Component, source: Descriptor) -> NodeName:
        """Makes a node that was promised by `loop`."""
        suffix = node.name.removeprefix(self._prefix)
        made = self.add(component, source, suffix)
        assert made == node
        return made

    def configured(
        self, suffix: str, source: Descriptor, type_name: str, **keys: object
    ) -> NodeName:
        """A node for a component made from the keys of a config line (`_` stands for `-`)."""
        settings = " ".join(f"{k.replace('_', '-')}={v}" for k, v in keys.items())
        line = parse_config(f"component name=x type={type_name} {settings}", "<converter>").lines[0]
        return self.add(component_from_line(line, _NO_INITIAL_VALUES), source, suffix)

    def columns(self, source: Descriptor, offset: int, dim: int) -> Descriptor:
        """Some columns of a descriptor."""
        if dim == self.dim(source):
            return source
        node = self.settled(source)
        inner = self.network.nodes[node.name]
        if isinstance(inner, DimRangeNode):
            node, offset = NodeName(inner.source), offset + inner.offset
        name = self.name(f"columns{offset}")
        self.network.nodes[name] = DimRangeNode(name, node.name, offset, dim)
        self.part.nodes.append(name)
        return NodeName(name)

    def split(self, source: Descriptor, dims: Sequence[int]) -> list[Descriptor]:
        """Consecutive columns of a descriptor."""
        starts = np.cumsum((0, *dims[:-1])).tolist()
        return [self.columns(source, start, dim) for start, dim in zip(starts, dims, strict=True)]

    def settled(self, source: Descriptor, suffix: str = "sum") -> NodeName:
        """A node whose output is the descriptor's."""
        if isinstance(source, NodeName):
            return source
        return self.add(NoOp(dim=self.dim(source)), source, suffix)

    def finish(self, result: Descriptor) -> Network:
        """The network whose output is `result`."""
        self.network.nodes["output"] = OutputNode("output", result)
        return self.network

    # Components, trained or fixed.

    def affine(
        self,
        source: Descriptor,
        linear: np.ndarray,
        bias: np.ndarray,
        rates: Rates,
        suffix: str = "",
    ) -> NodeName:
        """`linear x + bias`; in two nodes where the bias learns at another rate."""
        if self.frozen:
            return self.add(FixedAffine(linear=linear, bias=bias), source, suffix)
        if rates.linear == rates.bias:
            component = with_rate(Affine(linear=linear, bias=bias), rates.linear, rates.rate)
            return self.add(component, source, suffix)
        product = self.linear(source, linear, rates.linear, f"{suffix}.linear".lstrip("."))
        return self.offset(product, bias, rates.bias, suffix)

    def linear(
        self, source: Descriptor, linear: np.ndarray, factor: float = 1.0, suffix: str = ""
    ) -> NodeName:
        """`linear x`, trained with plain gradients."""
        if self.frozen:
            bias = np.zeros(len(linear), np.float32)
            return self.add(FixedAffine(linear=linear, bias=bias), source, suffix)
        component = Linear(linear=linear, use_natural_gradient=False)
        return self.add(with_rate(component, factor), source, suffix)

    def transform(self, source: Descriptor, linear: np.ndarray, suffix: str = "") -> NodeName:
        """`linear x` with given numbers."""
        bias = np.zeros(len(linear), np.float32)
        matrix = linear.astype(np.float32)
        return self.add(FixedAffine(linear=matrix, bias=bias), source, suffix)

    def scale(
        self, source: Descriptor, scales: np.ndarray, factor: float = 1.0, suffix: str = ""
    ) -> NodeName:
        """Each column times a number."""
        if self.frozen:
            return self.add(FixedScale(scales=scales), source, suffix)
        return self.add(with_rate(PerElementScale(scales=scales), factor), source, suffix)

    def offset(
        self, source: Descriptor, offsets: np.ndarray, factor: float = 1.0, suffix: str = ""
    ) -> NodeName:
        """Each column plus a number."""
        if self.frozen:
            return self.add(FixedBias(bias=offsets), source, suffix)
        component = PerElementOffset(offsets=offsets, use_natural_gradient=False)
        return self.add(with_rate(component, factor), source, suffix)

    def select(self, source: Descriptor, columns: Sequence[int], suffix: str = "") -> Descriptor:
        """Columns of a descriptor in another order, some perhaps more than once or left out."""
        dim = self.dim(source)
        if list(columns) == list(range(dim)):
            return source
        if sorted(columns) == list(range(dim)):
            return self.add(Permute(column_map=tuple(columns)), source, suffix)
        matrix = np.zeros((len(columns), dim), np.float32)
        matrix[np.arange(len(columns)), columns] = 1.0
        return self.transform(source, matrix, suffix)

    # Small compositions.

    def sigmoid(self, source: Descriptor, suffix: str = "sigmoid") -> NodeName:
        return self.add(Sigmoid(dim=self.dim(source)), source, suffix)

    def tanh(self, source: Descriptor, suffix: str = "tanh") -> NodeName:
        return self.add(Tanh(dim=self.dim(source)), source, suffix)

    def relu(self, source: Descriptor, suffix: str = "relu") -> NodeName:
        return self.add(RectifiedLinear(dim=self.dim(source)), source, suffix)

    def product(self, first: Descriptor, second: Descriptor, suffix: str = "product") -> NodeName:
        """The product of two descriptors, element by element."""
        both = append(first, second)
        dim = self.dim(first)
        return self.add(ElementwiseProduct(input_dim=2 * dim, output_dim=dim), both, suffix)

    def splice(self, source: Descriptor, offsets: Sequence[int]) -> Descriptor:
        """Frames side by side."""
        self.reach = (self.reach[0] - min(*offsets, 0), self.reach[1] + max(*offsets, 0))
        seen = clamped_offset if self.clamp else offset
        return append(*(seen(source, by) for by in offsets))

    def own_components(self) -> list[str]:
        """Parts of the network that Kaldi cannot load, as `name (type)`."""
        return [
            f"{name} ({component.type_name})"
            for name, component in self.network.components.items()
            if not component.in_kaldi
        ]


_NO_INITIAL_VALUES = Initializer(np.random.default_rng(0))


def with_rate(component: Updatable, factor: float, rate: float = BASE_LEARNING_RATE) -> Updatable:
    """The component with a learning rate and a factor on it."""
    return replace(
        component, learning_rate=single(single(rate) * factor), learning_rate_factor=factor
    )


def append(*parts: Descriptor) -> Descriptor:
    """Descriptors side by side."""
    flat = [
        p for part in parts for p in (part.parts if isinstance(part, syntax.Append) else (part,))
    ]
    return flat[0] if len(flat) == 1 else syntax.Append(tuple(flat))


def total(*parts: Descriptor) -> Descriptor:
    """The sum of descriptors."""
    result = parts[0]
    for part in parts[1:]:
        result = syntax.Sum((result, part))
    return result


def negative(source: Descriptor) -> Descriptor:
    return syntax.Scale(-1.0, source)


def offset(source: Descriptor, by: int) -> Descriptor:
    """A descriptor at another frame; offsets move inside of appended parts."""
    if by == 0:
        return source
    match source:
        case syntax.Append(parts=parts):
            return syntax.Append(tuple(offset(part, by) for part in parts))
        case syntax.Offset(source=inner, t=t):
            return offset(inner, t + by)
    return syntax.Offset(source, by)


def clamped_offset(source: Descriptor, by: int) -> Descriptor:
    """A descriptor at another frame, or at the nearest frame towards it that there is."""
    step = 1 if by > 0 else -1
    result = source
    for distance in range(step, by + step, step) if by else ():
        result = syntax.Failover(offset(source, distance), result)
    return result


def before(source: Descriptor, delay: int) -> Descriptor:
    """A descriptor `delay` frames ago, zeros where there is none."""
    return syntax.IfDefined(syntax.Offset(source, -delay))
