"""From a network to a plan: descriptors become operations on rows."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from nnet.errors import NnetError
from nnet.graph.network import ComponentNode, DimRangeNode, InputNode, Network, Node, OutputNode
from nnet.plan import ir
from nnet.plan.ir import Source, Value
from nnet.plan.times import At, RoundDown, Shift
from nnet.text import syntax
from nnet.text.source import TextError

Place = tuple[str, int]
"""A node name and the x index at which its rows are wanted; times stay symbolic."""


def lower(network: Network, outputs: Iterable[str] | None = None) -> ir.Plan:
    """The plan that computes `outputs` (all output nodes by default) as the network says.

    Raises:
        NnetError: an output does not exist, or a node depends on itself.
    """
    lowering = _Lowering(network)
    names = [n.name for n in network.outputs()] if outputs is None else list(outputs)
    results = []
    for name in names:
        node = network.nodes.get(name)
        if not isinstance(node, OutputNode):
            known = ", ".join(n.name for n in network.outputs())
            raise NnetError(f"the network has no output '{name}'; its outputs are: {known}")
        results.append((name, lowering.output(node)))
    return lowering.builder.plan(tuple(results))


class _Lowering:
    def __init__(self, network: Network) -> None:
        self.network = network
        self.builder = ir.Builder(network.components, share=False)
        self._values: dict[Place, Value] = {}

    def output(self, node: OutputNode) -> Value:
        for name, x in self._places_before(node):
            self._values[name, x] = self._node(self.network.nodes[name], x)
        return self._descriptor(node.input, 0, node.name)

    def _places_before(self, output: OutputNode) -> list[Place]:
        """All places that the output needs, each after those that it needs itself."""
        order: list[Place] = []
        state: dict[Place, str] = dict.fromkeys(self._values, "done")
        stack: list[tuple[Place, bool]] = [(p, False) for p in _references(output.input, 0)]
        path: list[Place] = []
        while stack:
            place, finished = stack.pop()
            if finished:
                state[place] = "done"
                path.pop()
                order.append(place)
            elif state.get(place) == "open":
                raise _recurrence(self.network, path, place)
            elif place not in state:
                state[place] = "open"
                path.append(place)
                stack.append((place, True))
                stack.extend((p, False) for p in self._needed_by(place))
        return order

    def _needed_by(self, place: Place) -> list[Place]:
        name, x = place
        match self.network.nodes.get(name):
            case ComponentNode(input=descriptor):
                return list(_references(descriptor, x))
            case DimRangeNode(source=source):
                return [(source, x)]
        return []

    def _node(self, node: Node, x: int) -> Value:
        emit = self.builder.emit
        match node:
            case InputNode(name=name, dim=dim):
                if x != 0:
                    return emit(ir.Undefined(dim=dim, origin=name))
                return emit(ir.Input(name=name, dim=dim, origin=name))
            case DimRangeNode(name=name, source=whole, offset=offset, dim=dim):
                columns = Source(self._values[whole, x])
                return emit(ir.Columns(source=columns, offset=offset, dim=dim, origin=name))
            case ComponentNode(name=name, component=component, input=descriptor):
                source = self._descriptor(descriptor, x, name)
                spec = self.network.components[component]
                source = self._spliced(source, spec.window.offsets, name)
                return emit(
                    ir.Apply(
                        component=component,
                        source=Source(source),
                        dim=spec.output_dim,
                        origin=name,
                    )
                )
        raise NnetError(f"'{node.name}' is an output node; no other node can read it")

    def _spliced(self, source: Value, offsets: Sequence[int], origin: str) -> Value:
        """What a component reads that looks at the times t + offset of its input."""
        looks = [self.builder.look(source, (Shift(offset),), origin) for offset in offsets]
        return self.builder.append(looks, origin)

    def _descriptor(self, descriptor: syntax.Descriptor, x: int, origin: str) -> Value:
        def lowered(part: syntax.Descriptor, at: int = x) -> Value:
            return self._descriptor(part, at, origin)

        match descriptor:
            case syntax.NodeName(name=name):
                return self._values[name, x]
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


def _references(descriptor: syntax.Descriptor, x: int) -> Iterable[Place]:
    match descriptor:
        case syntax.NodeName(name=name):
            yield name, x
        case syntax.Offset(source=source, x=dx):
            yield from _references(source, x + dx)
        case syntax.ReplaceIndex(source=source, variable="x", value=value):
            yield from _references(source, value)
        case syntax.Append(parts=parts) | syntax.Sum(parts=parts) | syntax.Switch(sources=parts):
            for part in parts:
                yield from _references(part, x)
        case syntax.Failover(first=first, second=second):
            yield from _references(first, x)
            yield from _references(second, x)
        case (
            syntax.IfDefined(source=source)
            | syntax.Scale(source=source)
            | syntax.Round(source=source)
            | syntax.ReplaceIndex(source=source)
        ):
            yield from _references(source, x)


def _recurrence(network: Network, path: list[Place], place: Place) -> NnetError:
    names = [name for name, _ in path[path.index(place) :]] + [place[0]]
    node = network.nodes[place[0]]
    message = f"recurrent network: {' <- '.join(names)}"
    hint = "this version plans feed-forward networks only"
    return TextError(node.span, message, hint=hint)
