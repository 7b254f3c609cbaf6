"""How much input around a frame a network needs.

As in nnet3's ComputeSimpleNnetContext (nnet3/nnet-utils.cc): which outputs can be computed from a
window of input frames is worked out by definition, for every shift of the window that can matter.
Sets of frames are bits of integers, so that this takes milliseconds.
"""

from __future__ import annotations

from collections.abc import Iterator
from math import lcm

from nnet.components.frames import Frames, Window
from nnet.errors import NnetError
from nnet.graph.cycles import ANY, reads
from nnet.graph.network import ComponentNode, DimRangeNode, InputNode, Network, OutputNode
from nnet.text import syntax
from nnet.text.syntax import Descriptor
from nnet.text.traverse import parts

FIRST_WINDOW = 40
LARGEST_WINDOW = 800
LARGEST_MARGIN = 20_000
LARGEST_MODULUS = 5_000
LARGEST_X = 100


def is_simple(network: Network) -> bool:
    """Whether output 'output' and input 'input' are there, and 'ivector' if another input is."""
    nodes = network.nodes
    if not isinstance(nodes.get("output"), OutputNode):
        return False
    if not isinstance(nodes.get("input"), InputNode):
        return False
    return len(list(network.inputs())) == 1 or isinstance(nodes.get("ivector"), InputNode)


def modulus(network: Network) -> int:
    """A number of frames by which inputs and outputs can be shifted without other change.

    It is more than 1 in networks with Round or Switch.
    """
    inputs = [n.input for n in network.nodes.values() if isinstance(n, ComponentNode | OutputNode)]
    return lcm(*(_modulus(descriptor) for descriptor in inputs))


def _modulus(descriptor: Descriptor) -> int:
    inner = lcm(*(_modulus(part) for part in parts(descriptor)))
    match descriptor:
        case syntax.ReplaceIndex(_, "t"):
            return 1
        case syntax.Round(_, period):
            return lcm(inner, period)
        case syntax.Switch(sources):
            return lcm(inner, len(sources))
    return inner


def context(network: Network) -> tuple[int, int]:
    """Left and right context of output 'output' on input 'input', in frames.

    Raises:
        NnetError: the network is not simple (`is_simple`), or no window of up to 640 frames
            makes an output computable.
    """
    if not is_simple(network):
        raise NnetError(
            "the context is only defined for networks with an output-node 'output', an "
            "input-node 'input' and perhaps an input-node 'ivector'"
        )
    period = modulus(network)
    if period > LARGEST_MODULUS:
        raise NnetError(f"the network's modulus is {period}, more than {LARGEST_MODULUS}")
    margin = min(_total_offset(network) + period, LARGEST_MARGIN)
    length = FIRST_WINDOW
    while length < LARGEST_WINDOW:
        found = _context_in_windows(network, length, period, margin)
        if found is not None:
            return found
        length *= 2
    raise NnetError(f"no output can be computed from {length // 2} frames of input")


def _context_in_windows(
    network: Network, length: int, period: int, margin: int
) -> tuple[int, int] | None:
    """The largest context that windows of `length` frames show; None if one shows no output."""
    found = []
    for start in range(period + 1):
        pair = _context_in_window(network, start, length, period, margin)
        if pair is None:
            return None
        found.append(pair)
    if found[0] != found[-1]:
        raise NnetError("the network's context differs between equivalent windows")
    return max(left for left, _ in found), max(right for _, right in found)


def _context_in_window(
    network: Network, start: int, length: int, period: int, margin: int
) -> tuple[int, int] | None:
    """The context seen with input frames start .. start + length - 1 only; None if no output."""
    window = Window(start - margin, length + 2 * margin)
    given = {
        "input": window.between(start, start + length),
        "ivector": window.between(start - period, start + length),
    }
    outputs = _Computable(network, window, given).output("output")
    ok = [t in outputs for t in range(start, start + length)]
    if True not in ok:
        return None
    left = ok.index(True)
    end = ok.index(False, left) if False in ok[left:] else length
    return left, length - end


def _total_offset(network: Network) -> int:
    """No chain of nodes (each at most once) reaches further."""
    total = 0
    for node in network.nodes.values():
        offsets = [abs(o) for r in reads(network, node) for o in (r.first, r.last)]
        total += max((o for o in offsets if o < ANY // 2), default=0)
    return total


class _Computable:
    """The frames of each node that can be computed from the given input frames.

    It is the least solution: sets start empty and grow until nothing changes. Rows are told
    apart by their x, as descriptors can refer to other x.
    """

    def __init__(self, network: Network, window: Window, given: dict[str, Frames]) -> None:
        self.network = network
        self.window = window
        self.given = given
        self.frames: dict[tuple[str, int], Frames] = {}

    def output(self, name: str) -> Frames:
        """The computable frames of an output node, of row x = 0."""
        order = self._sources_first(name)
        changed = True
        while changed:
            changed = False
            for key in order:
                new = self._evaluate(*key)
                if new != self.frames.get(key):
                    self.frames[key] = new
                    changed = True
        return self.frames[name, 0]

    def _sources_first(self, name: str) -> list[tuple[str, int]]:
        """The rows of nodes that row 0 of a node depends on, each after most that it reads."""
        order: dict[tuple[str, int], None] = {}
        seen = {(name, 0)}
        waiting = [((name, 0), iter(self._needs(name, 0)))]
        while waiting:
            key, rest = waiting[-1]
            need = next((n for n in rest if n not in seen and abs(n[1]) <= LARGEST_X), None)
            if need is None:
                order[key] = None
                waiting.pop()
            else:
                seen.add(need)
                waiting.append((need, iter(self._needs(*need))))
        return list(order)

    def _needs(self, name: str, x: int) -> list[tuple[str, int]]:
        node = self.network.nodes[name]
        if isinstance(node, InputNode):
            return []
        if isinstance(node, DimRangeNode):
            return [(node.source, x)]
        return list(_rows(node.input, self._input_row(node, x)))

    def _input_row(self, node: ComponentNode | OutputNode, x: int) -> int:
        """The x of the rows of its input that row x of a node reads."""
        if isinstance(node, OutputNode):
            return x
        return self.network.components[node.component].input_place(x)[0]

    def _evaluate(self, name: str, x: int) -> Frames:
        node = self.network.nodes[name]
        if isinstance(node, InputNode):
            return self.given.get(name, self.window.none) if x == 0 else self.window.none
        if isinstance(node, DimRangeNode):
            return self._row(node.source, x)
        available = self._described(node.input, self._input_row(node, x))
        if isinstance(node, ComponentNode):
            return self.network.components[node.component].window.computable(available)
        return available

    def _row(self, name: str, x: int) -> Frames:
        return self.frames.get((name, x), self.window.none)

    def _described(self, descriptor: Descriptor, x: int) -> Frames:
        match descriptor:
            case syntax.NodeName(name):
                return self._row(name, x)
            case syntax.Const() | syntax.IfDefined():
                return self.window.all
            case syntax.Failover(first, second):
                return self._described(first, x) | self._described(second, x)
            case syntax.Offset(source, t, dx):
                return self._described(source, x + dx).shifted(t)
            case syntax.Round(source, period):
                return self._described(source, x).rounded(period)
            case syntax.ReplaceIndex(source, "x", value):
                return self._described(source, value)
            case syntax.ReplaceIndex(source, _, value):
                there = value in self._described(source, x)
                return self.window.all if there else self.window.none
            case syntax.Switch(sources):
                result = self.window.none
                for i, source in enumerate(sources):
                    result |= self._described(source, x) & self.window.every(len(sources), i)
                return result
        result = self.window.all
        for part in parts(descriptor):
            result &= self._described(part, x)
        return result


def _rows(descriptor: Descriptor, x: int) -> Iterator[tuple[str, int]]:
    """The nodes that row x of a descriptor can depend on, each with its x."""
    match descriptor:
        case syntax.NodeName(name):
            yield name, x
        case syntax.IfDefined():
            return
        case syntax.Offset(_, _, dx):
            x += dx
        case syntax.ReplaceIndex(_, "x", value):
            x = value
    for part in parts(descriptor):
        yield from _rows(part, x)
