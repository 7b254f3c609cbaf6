"""Preparing a network for use: nnet3's test modes and its collapse (CollapseModel in Kaldi).

A component-node whose input is one other component-node, perhaps at several times side by side,
takes that node's component into its own where there is a rule for the two, and reads what that
node reads.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from functools import partial

import numpy as np
import numpy.typing as npt

from nnet.components.affine import Affine, Linear
from nnet.components.base import Component
from nnet.components.composite import Composite
from nnet.components.dropout import Dropout, GeneralDropout, RandomComponent, SpecAugmentTimeMask
from nnet.components.fixed import FixedAffine, FixedScale
from nnet.components.normalize import BatchNorm
from nnet.components.tdnn import Tdnn
from nnet.components.time_height import TimeHeightConvolution
from nnet.errors import NnetError
from nnet.graph.canonical import canonical
from nnet.graph.network import ComponentNode, Network, Node
from nnet.graph.rewire import without_orphans
from nnet.text import syntax
from nnet.text.syntax import Descriptor
from nnet.text.traverse import map_leaves, parts

Vector = npt.NDArray[np.float64]

Merged = tuple[str, Component]
"""A component that does the work of two, and its name."""

Rule = Callable[[Merged, Merged], Merged | None]
"""Gets a component and the one that reads its output, each with its name; None if it does not
apply."""


def prepare_for_test(network: Network, kinds: tuple[str, ...] | None = None) -> Network:
    """The network in test mode, collapsed, as `nnet3-copy --prepare-for-test` makes it.

    Args:
        network: its components are changed in place to test mode.
        kinds: which of `RULES` to use; nnet3's choice by default.

    Raises:
        NnetError: a batch-norm component has no statistics.
    """
    set_test_mode(network)
    return collapse(network, NNET3_RULES if kinds is None else kinds)


def set_test_mode(network: Network) -> None:
    """Makes batch-norm use its stored statistics, and random components deterministic.

    Raises:
        NnetError: a batch-norm component has no statistics.
    """
    for name, component in _with_parts(network.components.items()):
        if isinstance(component, BatchNorm):
            if component.count <= 0:
                raise NnetError(
                    f"batch-norm component '{name}' has no statistics (its count is 0), so it "
                    "cannot be used in test mode; train the network first, or remove what reads it "
                    "with edits such as 'remove-output-nodes name=output-xent; remove-orphans'"
                )
            component.test_mode = True
        elif isinstance(component, RandomComponent):
            component.test_mode = True


def _with_parts(components: Iterable[tuple[str, Component]]) -> Iterator[tuple[str, Component]]:
    """All components by name, those inside of composite ones as `name.component1` and so on.

    nnet3 leaves out the latter, and so normalizes them by the minibatch even in use.
    """
    for name, component in components:
        yield name, component
        if isinstance(component, Composite):
            numbered = enumerate(component.components, start=1)
            yield from _with_parts((f"{name}.component{n}", part) for n, part in numbered)


def collapse(network: Network, kinds: tuple[str, ...]) -> Network:
    """The network with components merged by the rules `kinds`, without what nothing needs then.

    Its result is the same. Expects test mode (see `set_test_mode`).
    """
    collapser = _Collapser(dict(network.nodes), dict(network.components), kinds)
    merged = 1
    while merged:
        merged = sum(collapser.merge(name) for name in network.nodes)
    return without_orphans(Network(collapser.nodes, collapser.components))


@dataclass
class _Collapser:
    nodes: dict[str, Node]
    components: dict[str, Component]
    kinds: tuple[str, ...]
    names: dict[tuple[str, str], str] = field(default_factory=dict)
    absorbed: set[tuple[str, str]] = field(default_factory=set)

    def merge(self, name: str) -> bool:
        """Merges the component of node `name` with that of its only source, if there is a rule.

        In a loop a node can come to read a node again that it has absorbed; that is left.
        """
        node = self.nodes[name]
        if not isinstance(node, ComponentNode):
            return False
        descriptor = canonical(node.input)
        source = _only_source(descriptor)
        before = self.nodes.get(source) if source else None
        if not isinstance(before, ComponentNode) or before.name == name:
            return False
        if (name, before.name) in self.absorbed:
            return False
        component = self._merged(before.component, node.component)
        if component is None:
            return False
        self.absorbed.add((name, before.name))
        read = canonical(map_leaves(descriptor, lambda leaf: before.input))
        self.nodes[name] = replace(node, component=component, input=read)
        return True

    def _merged(self, first: str, second: str) -> str | None:
        """The name of the component that does the work of two, made when it is first asked for."""
        if (first, second) in self.names:
            return self.names[first, second]
        for kind in self.kinds:
            merged = RULES[kind]((first, self.components[first]), (second, self.components[second]))
            if merged is not None:
                name, component = merged
                while self.components.get(name, component) is not component:
                    name += "_"
                self.components[name] = component
                self.names[first, second] = name
                return name
        return None


def _only_source(descriptor: Descriptor) -> str | None:
    """The node that a descriptor appends at one or more times, or None if it is anything else."""
    terms = parts(descriptor) if isinstance(descriptor, syntax.Append) else (descriptor,)
    inner = [term.source if isinstance(term, syntax.Offset) else term for term in terms]
    names = {part.name if isinstance(part, syntax.NodeName) else None for part in inner}
    return names.pop() if len(names) == 1 else None


def _dropout(before: Merged, after: Merged) -> Merged | None:
    """Dropout in test mode is a scale or nothing: goes into the matrix after it."""
    (_, dropout), (name, component) = before, after
    if isinstance(dropout, GeneralDropout | SpecAugmentTimeMask):
        return after
    if not isinstance(dropout, Dropout):
        return None
    scale = 1.0 - dropout.dropout_proportion  # nnet3 has the inverse, but never uses this rule
    if scale == 1.0:
        return after
    if not isinstance(component, Affine | Linear | Tdnn | TimeHeightConvolution):
        return None
    linear = _single(component.linear * np.float64(scale))
    return f"{name}.scale{scale:.3g}", replace(component, linear=linear)


def _batchnorm(before: Merged, after: Merged) -> Merged | None:
    """Batch-norm in test mode is a scale and an offset: goes into matrix and bias after it."""
    (first_name, batchnorm), (second_name, component) = before, after
    if not isinstance(batchnorm, BatchNorm) or not isinstance(component, Affine | Linear | Tdnn):
        return None
    scales, offsets = _scales_and_offsets(batchnorm)
    if (scales == 1).all() and (offsets == 0).all():
        return after
    repeats = component.linear.shape[1] // scales.size
    scales, offsets = np.tile(scales, repeats), np.tile(offsets, repeats)
    linear = component.linear.astype(np.float64)
    bias = np.zeros(len(linear)) if component.bias is None else component.bias
    bias = _single(bias + linear @ offsets)
    linear = _single(linear * scales)
    name = f"{first_name}.{second_name}"
    if isinstance(component, Linear):
        return name, Affine(linear=linear, bias=bias, learning_rate=component.learning_rate)
    return name, replace(component, linear=linear, bias=bias)


def _affine(before: Merged, after: Merged) -> Merged | None:
    """Two affine components are one, made only if the first does not lower the dimension."""
    (first_name, first), (second_name, second) = before, after
    if not isinstance(first, Affine | FixedAffine) or not isinstance(second, Affine):
        return None
    if first.input_dim > first.output_dim:
        return None
    repeats = second.input_dim // first.output_dim
    linear = second.linear.astype(np.float64)
    blocks = np.split(linear, repeats, axis=1)
    merged = Affine(
        linear=_single(np.hstack([block @ first.linear.astype(np.float64) for block in blocks])),
        bias=_single(second.bias + linear @ np.tile(first.bias.astype(np.float64), repeats)),
    )
    return f"{first_name}.{second_name}", merged


def _scale(before: Merged, after: Merged) -> Merged | None:
    """Fixed scales go into the affine component before them."""
    (first_name, affine), (second_name, fixed) = before, after
    if not isinstance(affine, Affine) or not isinstance(fixed, FixedScale):
        return None
    if affine.output_dim != fixed.input_dim:
        return None
    scales = fixed.scales
    merged = replace(affine, linear=affine.linear * scales[:, None], bias=affine.bias * scales)
    return f"{first_name}.{second_name}", merged


def _scales_and_offsets(batchnorm: BatchNorm) -> tuple[Vector, Vector]:
    """What test mode multiplies with and adds, (block_dim,) each."""
    variance = np.maximum(batchnorm.stats_var.astype(np.float64), 0)
    scales = batchnorm.target_rms / np.sqrt(variance + batchnorm.epsilon)
    return scales, -scales * batchnorm.stats_mean


_single = partial(np.asarray, dtype=np.float32)

RULES: dict[str, Rule] = {
    "dropout": _dropout,
    "batchnorm": _batchnorm,
    "affine": _affine,
    "scale": _scale,
}
"""By the kind of component that goes away, in the order in which they are tried."""

NNET3_RULES = ("affine", "scale")
"""Those that nnet3 uses unless told otherwise (CollapseModelConfig)."""
