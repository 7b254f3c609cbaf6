"""Networks as vectors: weighted sums, differences and products by component."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np

from nnet.components.base import Updatable
from nnet.components.field import FieldError
from nnet.errors import NnetError
from nnet.graph.network import Network


def weighted_sum(networks: Sequence[Network], weights: Sequence[float]) -> Network:
    """The network whose parameters and sums of statistics are weighted sums of others'.

    With weights that add up to 1 this is nnet3-average.

    Args:
        networks: of one structure; everything else is taken from the first.
        weights: one for each.

    Raises:
        NnetError: the networks differ in structure.
    """
    first, *others = networks
    for other in others:
        check_alike(first, other)
    components = {}
    for name, component in first.components.items():
        rest = [other.components[name] for other in others]
        try:
            components[name] = component.weighted_sum(rest, weights)
        except FieldError as error:
            raise NnetError(f"component '{name}': {error.message}") from None
    return dataclasses.replace(first, components=components)


def check_alike(a: Network, b: Network) -> None:
    """Raises NnetError unless two networks have the same components."""
    kinds = [[(n, c.type_name) for n, c in net.components.items()] for net in (a, b)]
    if kinds[0] == kinds[1]:
        return
    pairs = ((mine, yours) for mine, yours in zip(*kinds, strict=False) if mine != yours)
    mine, yours = next(pairs, ((f"{len(kinds[0])} components",), (f"{len(kinds[1])}",)))
    raise NnetError(
        f"the networks have different components: {' '.join(mine)} and {' '.join(yours)}; expected "
        "models of one training run"
    )


def dot_products(a: Network, b: Network) -> dict[str, float]:
    """For each updatable component, the sum of products of the parameters of two networks."""
    check_alike(a, b)
    products = {}
    for name, component in a.components.items():
        if isinstance(component, Updatable):
            theirs = b.components[name].parameters()
            products[name] = sum(
                float(np.vdot(mine.astype(np.float64), theirs[key]))
                for key, mine in component.parameters().items()
            )
    return products


def norms(network: Network) -> dict[str, float]:
    """For each updatable component, the 2-norm of its parameters."""
    return {name: product**0.5 for name, product in dot_products(network, network).items()}
