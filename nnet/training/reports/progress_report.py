"""How two models of a training run differ (nnet3-show-progress)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from nnet.components.base import Updatable
from nnet.data.minibatch import Minibatch
from nnet.graph.arithmetic import norms, weighted_sum
from nnet.graph.network import Network
from nnet.runtime.compiled import CompiledNetwork, compile_network
from nnet.training.evaluation import Evaluation


def objective_changes(
    old: Network, new: Network, minibatches: Sequence[Minibatch], segments: int = 1
) -> list[str]:
    """How much each component's change did for the objective, by its derivative in between.

    Args:
        old, new: the models.
        minibatches: by which the objective is measured, with batch-norm as in training.
        segments: of the line from old to new; the derivative is taken in the middle of each.
    """
    lines = []
    difference = weighted_sum((new, old), (1.0, -1.0))
    changes: dict[str, float] = {}
    for segment in range(segments):
        middle = (segment + 0.5) / segments
        between = weighted_sum((new, old), (middle, 1.0 - middle))
        module = compile_network(between).train()
        evaluation = Evaluation(between)
        for minibatch in minibatches:
            evaluation.add(module(minibatch.inputs, minibatch.request), minibatch).backward()
        output = evaluation.objectives["output"]
        lines += evaluation.report()
        lines.append(f"At position {middle:.6g}, objf per frame is {output.objective:.6g}")
        for name, product in _products(module, difference).items():
            changes[name] = changes.get(name, 0.0) - product / output.weight / segments
    lines.append(f"Total objf change per component is {_by_component(changes)}")
    return lines


def _products(module: CompiledNetwork, difference: Network) -> dict[str, float]:
    """For each updatable component, the product of its gradient and its change."""
    gradients = {
        name: None if parameter.grad is None else parameter.grad.double().numpy()
        for name, parameter in module.named_parameters()
    }
    products = {}
    for name, component in difference.components.items():
        if isinstance(component, Updatable):
            total = 0.0
            for key, change in component.parameters().items():
                gradient = gradients.get(f"components.{name.replace('.', '/')}.{key}")
                total += 0.0 if gradient is None else float(np.vdot(gradient, change))
            products[name] = total
    return products


def parameter_changes(old: Network, new: Network) -> list[str]:
    """The 2-norms of the change of each component's parameters and of the parameters."""
    difference = norms(weighted_sum((old, new), (1.0, -1.0)))
    before = norms(old)
    with np.errstate(divide="ignore", invalid="ignore"):
        relative = {
            name: float(np.float64(change) / before[name]) for name, change in difference.items()
        }
    return [
        f"Parameter differences per layer are {_by_component(difference)}",
        f"Norms of parameter matrices from <new-nnet-in> are {_by_component(norms(new))}",
        f"Relative parameter differences per layer are {_by_component(relative)}",
    ]


def _by_component(values: Mapping[str, float]) -> str:
    return "[ " + "".join(f"{name}:{value:.6g} " for name, value in values.items()) + "]"
