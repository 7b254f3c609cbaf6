"""From a network to a plan: descriptors become operations on rows."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from nnet.components.tdnn import Tdnn
from nnet.errors import NnetError
from nnet.graph.dims import node_dim
from nnet.graph.network import ComponentNode, DimRangeNode, InputNode, Network, Node, OutputNode
from nnet.plan import ir
from nnet.plan.builder import Builder
from nnet.plan.ir import Source, Value
from nnet.plan.places import NodePlace, NodePlaces
from nnet.plan.times import At, RoundDown, Shift
from nnet.text import syntax
from nnet.text.source import TextError


def lower(network: Network, outputs: Iterable[str] | None = None) -> ir.Plan:
    """The plan that computes `outputs` (all output nodes by default) as the network says.

    Raises:
        NnetError: an output does not exist, or a node depends on itself.
    """
    lowering = _Lowering(network)
    names = [n.name for n in network.outputs()] if outputs is None else list(outputs)
    nodes = []
    for name in names:
        node = network.nodes.get(name)
        if not isinstance(node, OutputNode):
            known = ", ".join(n.name for n in network.outputs())
            raise NnetError(f"the network has no output '{name}'; its outputs are: {known}")
        nodes.append(node)
    return lowering.plan(nodes)


class _Lowering:
    def __init__(self, network: Network) -> None:
        self.network = network
        self.places = NodePlaces(network)
        self.builder = Builder(network.components, share=False)
        self._values: dict[NodePlace, Value] = {}
        self._carried: dict[NodePlace, int] = {}

    def plan(self, outputs: Iterable[OutputNode]) -> ir.Plan:
        outputs = list(outputs)
        roots = [r.place for node in outputs for r in self.places.described(node.input, 0)]
        for place in self.places.in_order(roots):
            self._values[place] = self._node(self.network.nodes[place.node], place.x)
        results = [(node.name, self._descriptor(node.input, 0, node.name)) for node in outputs]
        names = {value: value for value in range(len(self.builder.operations))}
        for place, number in self._carried.items():  # negative numbers stand for carried places
            names[-1 - number] = self._values[place]
        return self.builder.plan(results, names)

    def _place(self, place: NodePlace, origin: str) -> Value:
        """The value of a place; one that comes later in a recurrence is carried."""
        if place in self._values:
            return self._values[place]
        dim = node_dim(self.network, place.node)
        if not self.places.possible(place):
            return self.builder.emit(ir.Undefined(dim=dim, origin=place.node))
        number = self._carried.setdefault(place, len(self._carried))
        return self.builder.emit(ir.Carried(of=-1 - number, dim=dim, origin=origin))

    def _node(self, node: Node, x: int) -> Value:
        emit = self.builder.emit
        match node:
            case InputNode(name=name, dim=dim):
                return emit(ir.Input(name=name, dim=dim, origin=name))
            case DimRangeNode(name=name, source=whole, offset=offset, dim=dim):
                columns = Source(self._place(NodePlace(whole, x), name))
                return emit(ir.Columns(source=columns, offset=offset, dim=dim, origin=name))
            case ComponentNode():
                return self._component(node, x)
        raise NnetError(f"'{node.name}' is an output node; no other node can read it")

    def _component(self, node: ComponentNode, x: int) -> Value:
        component, name = node.component, node.name
        spec = self.network.components[component]
        dim, window = spec.output_dim, spec.window
        if not window.offsets:
            return self.builder.emit(ir.Generate(component=component, dim=dim, origin=name))
        x, column = spec.input_place(x)
        source = self._descriptor(node.input, x, name)
        if spec.type_name == "DistributeComponent":
            columns = ir.Columns(source=Source(source), offset=column, dim=dim, origin=name)
            return self.builder.emit(columns)
        if not isinstance(spec, Tdnn) and not window.is_point:
            read = ir.ApplyWindow(component=component, source=Source(source), dim=dim, origin=name)
            return self.builder.emit(read)
        looks = [self.builder.look(source, (Shift(offset),), name) for offset in window.offsets]
        source = self.builder.append(looks, name)
        return self.builder.emit(
            ir.Apply(component=component, source=Source(source), dim=dim, origin=name)
        )

    def _descriptor(self, descriptor: syntax.Descriptor, x: int, origin: str) -> Value:
        def lowered(part: syntax.Descriptor, at: int = x) -> Value:
            return self._descriptor(part, at, origin)

        match descriptor:
            case syntax.NodeName(name=name):
                return self._place(NodePlace(name, x), origin)
            case syntax.Append(parts=parts):
                return self.builder.append([lowered(p) for p in parts], origin)
            case syntax.Sum() | syntax.Scale():
                terms = [(lowered(part), factor) for part, factor in _terms(descriptor, 1.0)]
                return self.builder.sum(terms, origin)
            case syntax.Offset(source=source, t=t, x=dx):
                return self.builder.look(lowered(source, x + dx), (Shift(t),), origin)
            case syntax.Round(source=source, modulus=modulus):
                return self.builder.look(lowered(source), (RoundDown(modulus),), origin)
            case syntax.ReplaceIndex(source=source, variable="t", value=value):
                return self.builder.look(lowered(source), (At(value),), origin)
            case syntax.ReplaceIndex(source=source, value=value):
                return lowered(source, value)
            case syntax.Const(value=number, dim=dim):
                return self.builder.emit(ir.Constant(number=number, dim=dim, origin=origin))
        return self._partial(descriptor, lowered, origin)

    def _partial(
        self, descriptor: syntax.Descriptor, lowered: Callable[..., Value], origin: str
    ) -> Value:
        """Descriptors whose rows depend on what is defined, or on the time itself."""
        emit = self.builder.emit
        match descriptor:
            case syntax.IfDefined(source=source):
                value = Source(lowered(source))
                dim = self.builder.operations[value.value].dim
                return emit(ir.IfDefined(source=value, dim=dim, origin=origin))
            case syntax.Failover(first=first, second=second):
                one, two = Source(lowered(first)), Source(lowered(second))
                dim = self.builder.operations[one.value].dim
                return emit(ir.Failover(first=one, second=two, dim=dim, origin=origin))
            case syntax.Switch(sources=parts):
                parts_ = tuple(Source(lowered(p)) for p in parts)
                dim = self.builder.operations[parts_[0].value].dim
                return emit(ir.Switch(sources=parts_, dim=dim, origin=origin))
        raise TextError(descriptor.span, "this form is known in xconfig files only")


def _terms(
    descriptor: syntax.Descriptor, factor: float
) -> Iterable[tuple[syntax.Descriptor, float]]:
    """The addends of nested sums and scales, each with its factor."""
    match descriptor:
        case syntax.Sum(parts=parts):
            for part in parts:
                yield from _terms(part, factor)
        case syntax.Scale(factor=own, source=source):
            yield from _terms(source, factor * own)
        case _:
            yield descriptor, factor
