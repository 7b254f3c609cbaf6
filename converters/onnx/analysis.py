"""At which times the rows of each node can be computed, and at which they are needed.

A place is a node and an x index. Places that depend on each other form a group, which becomes a
loop over time. Both questions are answered once, for all lengths: see `spans`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from math import gcd
from typing import Any

from nnet.components.window import TimeWindow
from nnet.converters.onnx.spans import Span, meet
from nnet.errors import NnetError
from nnet.graph.network import ComponentNode, DimRangeNode, InputNode, Network
from nnet.text import syntax
from nnet.text.syntax import Descriptor
from nnet.text.traverse import parts

Place = tuple[str, int]
"""The name of a node, and x."""

MAIN_INPUT = "input"
"""The input that has frames; the others are given once for an utterance."""

POOLING = "StatisticsPoolingComponent"
EXTRACTION = "StatisticsExtractionComponent"


@dataclass(frozen=True)
class Read:
    """A place that a descriptor reads `offset` frames away; not all reads need be there."""

    place: Place
    offset: int
    optional: bool = False


@dataclass(frozen=True)
class Group:
    """Places in an order in which they can be computed; `recurrent` if they need each other."""

    places: tuple[Place, ...]
    recurrent: bool = False
    backward: bool = False


@dataclass
class Analysis:
    """Answers for one output of a network.

    Args:
        output: what the output node reads.
        groups: in the order of computation.
        computable: the ends of what can be computed, None for always.
        needed: the times that are computed; nothing for places that do not change over time.
    """

    network: Network
    output: Descriptor
    groups: list[Group] = field(default_factory=list)
    computable: dict[Place, Span | None] = field(default_factory=dict)
    needed: dict[Place, Span] = field(default_factory=dict)

    def component(self, place: Place) -> Any:
        """The component of a place that has one."""
        node = self.network.nodes[place[0]]
        return self.network.components[node.component] if isinstance(node, ComponentNode) else None


def analyse(network: Network, output: Descriptor, context: tuple[int, int], step: int) -> Analysis:
    """When which rows are computed.

    Args:
        output: what the output node reads.
        context: input frames before the first and after the last output.
        step: input frames from an output to the next.
    """
    analysis = Analysis(network, output)
    analysis.groups = _groups(network, output)
    left, right = context
    for group in analysis.groups:
        for place in group.places:
            analysis.computable[place] = _computable_place(analysis, place, Span(-left, right))
    _note_needs(analysis, output, 0, Span(0, 0, step))
    for group in reversed(analysis.groups):
        if group.recurrent:
            _need_group(analysis, group)
        for place in reversed(group.places):
            if place in analysis.needed and not group.recurrent:
                _need_inputs(analysis, place, analysis.needed[place])
    return analysis


# What descriptors read.


def reads(
    descriptor: Descriptor, x: int, offset: int = 0, optional: bool = False
) -> Iterator[Read]:
    """The places that a descriptor reads, seen from row x of time 0."""
    match descriptor:
        case syntax.NodeName(name):
            yield Read((name, x), offset, optional)
            return
        case syntax.Offset(source, t, dx):
            yield from reads(source, x + dx, offset + t, optional)
            return
        case syntax.ReplaceIndex(source, "x", value):
            yield from reads(source, value, offset, optional)
            return
        case syntax.IfDefined(source):
            yield from reads(source, x, offset, True)
            return
    for part in parts(descriptor):
        yield from reads(part, x, offset, optional)


def inputs_of(network: Network, place: Place) -> list[Read]:
    """The places that a place reads."""
    name, x = place
    node = network.nodes[name]
    if isinstance(node, DimRangeNode):
        return [Read((node.source, x), 0)]
    if not isinstance(node, ComponentNode):
        return []
    component = network.components[node.component]
    own, _ = component.input_place(x)
    direct = list(reads(node.input, own))
    offsets = component.window.offsets
    if len(offsets) == 1 or component.type_name in (POOLING, EXTRACTION):
        first = offsets[0] if len(offsets) == 1 else 0
        return [Read(r.place, r.offset + first, r.optional) for r in direct]
    return [Read(r.place, r.offset + offset, r.optional) for r in direct for offset in offsets]


def _groups(network: Network, output: Descriptor) -> list[Group]:
    """Strongly connected places, each after those that it needs (Tarjan's algorithm)."""
    index: dict[Place, int] = {}
    low: dict[Place, int] = {}
    stack: list[Place] = []
    on_stack: set[Place] = set()
    groups: list[Group] = []
    waiting: list[tuple[Place, Iterator[Read]]] = []

    def open_place(place: Place) -> None:
        if abs(place[1]) > 10_000:
            raise NnetError(f"node '{place[0]}' is read at x = {place[1]}")
        index[place] = low[place] = len(index)
        stack.append(place)
        on_stack.add(place)
        waiting.append((place, iter(inputs_of(network, place))))

    for root in reads(output, 0):
        if root.place in index:
            continue
        open_place(root.place)
        while waiting:
            place, rest = waiting[-1]
            following = next(rest, None)
            if following is None:
                waiting.pop()
                if waiting:
                    parent = waiting[-1][0]
                    low[parent] = min(low[parent], low[place])
                if low[place] == index[place]:
                    groups.append(_group(network, _popped(stack, on_stack, place)))
            elif following.place not in index:
                open_place(following.place)
            elif following.place in on_stack:
                low[place] = min(low[place], index[following.place])
    return groups


def _popped(stack: list[Place], on_stack: set[Place], last: Place) -> list[Place]:
    """The places on top of a stack, down to `last`."""
    places: list[Place] = []
    while not places or places[-1] != last:
        places.append(stack.pop())
        on_stack.discard(places[-1])
    return places


def _group(network: Network, places: list[Place]) -> Group:
    inside = set(places)
    inner = {p: [r for r in inputs_of(network, p) if r.place in inside] for p in places}
    delays = [r.offset for found in inner.values() for r in found if r.offset]
    if len(places) == 1 and not inner[places[0]]:
        return Group(tuple(places))
    if not delays or min(delays) < 0 < max(delays):
        names = ", ".join(name for name, _ in places)
        raise NnetError(
            f"the loop through {names} looks both back and ahead in time; such loops cannot be "
            "written to ONNX"
        )
    order: list[Place] = []
    while len(order) < len(places):
        ready = [
            place
            for place in reversed(places)
            if place not in order and all(r.offset or r.place in order for r in inner[place])
        ]
        if not ready:
            raise NnetError(f"node '{places[0][0]}' depends on itself at the same time")
        order += ready
    return Group(tuple(order), recurrent=True, backward=delays[0] > 0)


# What can be computed.


def _computable_place(analysis: Analysis, place: Place, given: Span) -> Span | None:
    name, x = place
    node = analysis.network.nodes[name]
    if isinstance(node, InputNode):
        if x != 0:
            raise NnetError(f"input '{name}' is read at x = {x}")
        return given if name == MAIN_INPUT else None
    if isinstance(node, DimRangeNode):
        return analysis.computable[node.source, x]
    assert isinstance(node, ComponentNode)
    component = analysis.network.components[node.component]
    own, _ = component.input_place(x)
    source = computable(analysis, node.input, own, 0)
    if source is None or not component.window.offsets:
        return None
    return _through_window(component, source)


def _through_window(component: Any, source: Span) -> Span:
    """The ends of the outputs of a component whose input has the ends `source`."""
    window: TimeWindow = component.window
    if component.type_name in (POOLING, EXTRACTION):
        return Span(source.first - window.last, source.beyond - window.first)
    required = window.required or window.offsets
    return Span(source.first - min(required), source.beyond - max(required))


def computable(analysis: Analysis, descriptor: Descriptor, x: int, offset: int) -> Span | None:
    """The ends of a descriptor seen `offset` frames away; None for always."""
    match descriptor:
        case syntax.NodeName(name):
            found = analysis.computable.get((name, x))
            return None if found is None else found.shifted(-offset)
        case syntax.Const() | syntax.IfDefined() | syntax.ReplaceIndex(_, "t"):
            return None
        case syntax.Offset(source, t, dx):
            return computable(analysis, source, x + dx, offset + t)
        case syntax.ReplaceIndex(source, "x", value):
            return computable(analysis, source, value, offset)
        case syntax.Round(source, modulus):
            found = computable(analysis, source, x, 0)
            if found is None:
                return None
            first = found.first + -found.first % modulus
            return Span(first - offset, found.beyond - offset)
        case syntax.Failover(first_part, second):
            one = computable(analysis, first_part, x, offset)
            two = computable(analysis, second, x, offset)
            if one is None or two is None:
                return None
            return Span(min(one.first, two.first), max(one.beyond, two.beyond))
    return meet([computable(analysis, part, x, offset) for part in parts(descriptor)])


# What is needed.


def _note(analysis: Analysis, place: Place, span: Span) -> None:
    node = analysis.network.nodes[place[0]]
    if isinstance(node, InputNode) and place[0] != MAIN_INPUT:
        return
    analysis.needed[place] = span.union(analysis.needed.get(place))


def _note_needs(analysis: Analysis, descriptor: Descriptor, x: int, span: Span) -> None:
    """Books the needs of a descriptor at the times of a span."""
    match descriptor:
        case syntax.NodeName(name):
            _note(analysis, (name, x), span)
        case syntax.Offset(source, t, dx):
            _note_needs(analysis, source, x + dx, span.shifted(t))
        case syntax.ReplaceIndex(source, "x", value):
            _note_needs(analysis, source, value, span)
        case syntax.ReplaceIndex(source, _, value):
            _note_needs(analysis, source, x, Span(value, value))
        case syntax.Round(source, modulus):
            limits = computable(analysis, source, x, 0)
            _note_needs(analysis, source, x, rounded_span(span, modulus).within(limits))
        case syntax.IfDefined(source):
            _note_needs(analysis, source, x, span.within(computable(analysis, source, x, 0)))
        case syntax.Failover(first, second):
            _note_needs(analysis, first, x, span.within(computable(analysis, first, x, 0)))
            _note_needs(analysis, second, x, span)
        case _:
            for part in parts(descriptor):
                _note_needs(analysis, part, x, span)


def rounded_span(span: Span, modulus: int) -> Span:
    """The times that the times of a span are, rounded down to multiples."""
    step = modulus if span.step % modulus else span.step
    return Span(span.first - span.first % modulus, span.beyond, step)


def _need_inputs(analysis: Analysis, place: Place, span: Span) -> None:
    """Books what a place that is computed at the times of a span needs."""
    name, x = place
    node = analysis.network.nodes[name]
    if isinstance(node, DimRangeNode):
        _note(analysis, (node.source, x), span)
    if not isinstance(node, ComponentNode):
        return
    component = analysis.network.components[node.component]
    own, _ = component.input_place(x)
    for inner in window_spans(analysis, component, node.input, own, span):
        _note_needs(analysis, node.input, own, inner)


def window_spans(
    analysis: Analysis, component: Any, descriptor: Descriptor, x: int, span: Span
) -> list[Span]:
    """The times at which a component's input is read, for each offset of its window."""
    window: TimeWindow = component.window
    limits = computable(analysis, descriptor, x, 0)
    if component.type_name == POOLING:
        return [pooled_span(component, span, limits)]
    if component.type_name == EXTRACTION and span.aligned(component.output_period) != span:
        span = extracted_span(component, span)
    return [
        span.shifted(o) if o in window.required else span.shifted(o).within(limits)
        for o in window.offsets
    ]


def pooled_span(component: Any, span: Span, limits: Span | None) -> Span:
    """The times at which statistics are pooled for outputs at the times of a span."""
    period = component.input_period
    wanted = Span(span.first - component.left_context, span.beyond + component.right_context)
    inside = wanted.within(limits)
    first = inside.first + -inside.first % period
    return Span(first, inside.beyond, period)


def extracted_span(component: Any, span: Span) -> Span:
    """The periods that the times of a span lie in, by their first times."""
    return span.aligned(component.output_period)


def _need_group(analysis: Analysis, group: Group) -> None:
    """One span for all places of a loop, from where it can begin, and what it reads."""
    wanted: Span | None = None
    for place in group.places:
        if place in analysis.needed:
            wanted = analysis.needed[place].union(wanted)
    assert wanted is not None
    inside = set(group.places)
    step = wanted.step
    for place in group.places:
        for read in inputs_of(analysis.network, place):
            if read.place in inside:
                step = gcd(step, read.offset)
    limits = meet([analysis.computable[place] for place in group.places])
    first, beyond = wanted.first, wanted.beyond
    if limits is not None:
        if group.backward:
            beyond = max(beyond, limits.beyond)
        else:
            first -= (first - limits.first) // step * step
    span = Span(first, beyond, step)
    for place in group.places:
        analysis.needed[place] = span
    for place in group.places:
        _need_outside(analysis, place, span, inside)


def _need_outside(analysis: Analysis, place: Place, span: Span, inside: set[Place]) -> None:
    before = {p: analysis.needed[p] for p in inside}
    _need_inputs(analysis, place, span)
    analysis.needed.update(before)
