"""Directives that lower the rank of affine components by singular value decomposition."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from nnet.components.affine import Affine, Linear, NaturalGradientAffine
from nnet.components.base import Component
from nnet.errors import NnetError
from nnet.graph.edits.directive import (
    Directive,
    EditError,
    key,
    log,
    matching,
    positive_integer,
    register,
    share,
)
from nnet.graph.network import ComponentNode, InputNode, Network, Node
from nnet.graph.rewire import with_sources, without_orphans
from nnet.text import syntax
from nnet.text.values import string

Matrix = npt.NDArray[np.float64]
Pair = tuple[Linear, NaturalGradientAffine]


@register("reduce-rank")
@dataclass(frozen=True)
class ReduceRank(Directive):
    """Keeps the `rank` largest singular values of affine components' matrices."""

    name: str = key(string)
    rank: int = key(positive_integer)

    def apply(self, network: Network) -> Network:
        reduced: dict[str, Component] = {}
        for name, component in _affine(network, self.name).items():
            if not _has_rank_above(name, component, self.rank):
                continue
            u, s, vt = _decomposed(name, component)
            r = self.rank
            linear = (u[:, :r] * s[:r]) @ vt[:r]
            reduced[name] = replace(component, linear=linear.astype(np.float32))
            log.info("'%s': sum of singular values from %g to %g", name, s.sum(), s[:r].sum())
        log.info("reduced the rank of %d components", len(reduced))
        return Network(network.nodes, network.components | reduced)


@register("apply-svd")
@dataclass(frozen=True)
class ApplySvd(Directive):
    """Replaces affine components by two: a linear one to fewer columns, and an affine one.

    The number of columns in between is the smallest with which the squared singular values keep
    `energy_threshold` of their sum; without it, it is `bottleneck_dim`. A component whose
    parameters would shrink to more than `shrinkage_threshold` of their number stays whole.
    """

    name: str = key(string)
    bottleneck_dim: int | None = key(positive_integer, None)
    energy_threshold: float | None = key(share, None)
    shrinkage_threshold: float = key(share, 1.0)

    def apply(self, network: Network) -> Network:
        if self.bottleneck_dim is None and self.energy_threshold is None:
            raise EditError("name", f"'{self.word}' needs 'bottleneck-dim' or 'energy-threshold'")
        pairs: dict[str, Pair] = {}
        for name, component in _affine(network, self.name).items():
            pair = self._split(name, component)
            if pair is not None:
                pairs[name] = pair
        log.info("split %d components in two", len(pairs))
        return _with_pairs(network, pairs) if pairs else network

    def _split(self, name: str, component: Affine) -> Pair | None:
        if self.bottleneck_dim and not _has_rank_above(name, component, self.bottleneck_dim):
            return None
        u, s, vt = _decomposed(name, component)
        r = self._rank(s)
        rows, columns = component.linear.shape
        shrinkage = r * (rows + columns) / (rows * columns)
        if shrinkage > self.shrinkage_threshold:
            log.info("'%s' stays: with rank %d it has %.3g of its size", name, r, shrinkage)
            return None
        log.info("'%s': %d x %d with rank %d, %.3g of its size", name, rows, columns, r, shrinkage)
        root = np.sqrt(s[:r])
        first = Linear(linear=(root[:, None] * vt[:r]).astype(np.float32), rank_in=40, rank_out=80)
        second = NaturalGradientAffine(
            linear=(u[:, :r] * root).astype(np.float32),
            bias=component.bias,
            rank_in=20,
            rank_out=80,
        )
        for part in (first, second):
            for setting in _SETTINGS_KEPT:
                setattr(part, setting, getattr(component, setting))
        return first, second

    def _rank(self, singular_values: Matrix) -> int:
        if self.energy_threshold is not None:
            energy = np.cumsum(singular_values**2)
            return int(np.searchsorted(energy, self.energy_threshold * energy[-1])) + 1
        return self.bottleneck_dim or len(singular_values)


_SETTINGS_KEPT = (
    "learning_rate",
    "learning_rate_factor",
    "l2_regularize",
    "is_gradient",
    "max_change",
)


def _affine(network: Network, pattern: str) -> dict[str, Affine]:
    """The affine components whose names match."""
    affine = {n: c for n, c in network.components.items() if isinstance(c, Affine)}
    return {name: affine[name] for name in matching(affine, pattern, "affine component")}


def _has_rank_above(name: str, component: Affine, rank: int) -> bool:
    rows, columns = component.linear.shape
    if min(rows, columns) > rank:
        return True
    log.info("'%s' stays: a matrix of %d x %d has rank %d at most", name, rows, columns, rank)
    return False


def _decomposed(name: str, component: Affine) -> tuple[Matrix, Matrix, Matrix]:
    """u (rows, k), singular values (k,) from large to small, and vt (k, columns)."""
    if not np.isfinite(component.linear).all():
        raise NnetError(f"the matrix of component '{name}' has values that are not finite")
    u, s, vt = np.linalg.svd(component.linear.astype(np.float64), full_matrices=False)
    return u, s, vt


def _with_pairs(network: Network, pairs: Mapping[str, Pair]) -> Network:
    """The network in which each node N of a split component is the two nodes N_a and N_b.

    Orphans are removed. Inputs come first, as in Kaldi, which reads all other nodes anew.
    """
    components: dict[str, Component] = {}
    for name, (first, second) in pairs.items():
        components |= {_new(f"{name}_a", network.components): first}
        components |= {_new(f"{name}_b", network.components): second}
    split = {
        node.name
        for node in network.nodes.values()
        if isinstance(node, ComponentNode) and node.component in pairs
    }
    nodes: dict[str, Node] = {node.name: node for node in network.inputs()}
    for node in network.nodes.values():
        if isinstance(node, InputNode):
            continue
        node = with_sources(node, lambda name: f"{name}_b" if name in split else name)
        if isinstance(node, ComponentNode) and node.name in split:
            a, b = (_new(f"{node.name}_{part}", network.nodes) for part in "ab")
            nodes[a] = ComponentNode(a, f"{node.component}_a", node.input, node.span)
            nodes[b] = ComponentNode(b, f"{node.component}_b", syntax.NodeName(a), node.span)
        else:
            nodes[node.name] = node
    return without_orphans(Network(nodes, network.components | components))


def _new(name: str, names: Mapping[str, object]) -> str:
    if name in names:
        raise EditError("name", f"the name '{name}' of a part is taken already")
    return name
