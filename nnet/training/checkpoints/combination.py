"""Choosing how many of the last models to average (nnet3-combine), and batch-norm statistics."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

from nnet.data.minibatch import Minibatch
from nnet.errors import NnetError
from nnet.graph.arithmetic import weighted_sum
from nnet.graph.network import Network
from nnet.modules.statistics import Nonlinearity
from nnet.runtime.compiled import compile_network
from nnet.training.evaluation import Evaluation, evaluate_network, in_test_mode
from nnet.training.lfmmi.objective import ChainObjective

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Combination:
    """The best average: of the first `count` models, with its objective per frame."""

    network: Network
    count: int
    objective: float


def combine(
    models: Sequence[Callable[[], Network]],
    minibatches: Sequence[Minibatch],
    chain: ChainObjective | None = None,
    *,
    max_objective_evaluations: int = 30,
    batchnorm_test_mode: bool = False,
    dropout_test_mode: bool = True,
    report: Callable[[str], None] = log.info,
) -> Combination:
    """Averages the first n models for the n that gives the best objective.

    Args:
        models: each reads a model, the last of the training first.
        minibatches: by which the objective is measured.
        chain: LF-MMI, for minibatches of it.
        max_objective_evaluations: at most so many values of n are tried.
        batchnorm_test_mode: whether stored batch-norm statistics are used for that.
        dropout_test_mode: whether dropout is off for that.
        report: takes nnet3-combine's lines.

    Raises:
        NnetError: there are no examples, or the models differ in structure.
    """
    if not minibatches:
        raise NnetError("there are no examples to measure the objective by")

    def objective(network: Network) -> float:
        module = in_test_mode(network, batchnorm=batchnorm_test_mode, dropout=dropout_test_mode)
        value = evaluate_network(module, minibatches, chain).objective
        return value if math.isfinite(value) else -math.inf

    average = models[0]()
    first = objective(average)
    report(f"objective function using the last model is {first:.6g}")
    best = Combination(average, 1, first)
    step = math.ceil(len(models) / max_objective_evaluations)
    for number in range(1, len(models)):
        count = number + 1
        average = weighted_sum((average, models[number]()), (number / count, 1.0 / count))
        if number % step == 0 or count == len(models):
            value = objective(average)
            report(f"Combining last {count} models, objective function is {value:.6g}")
            if value > best.objective:
                best = Combination(average, count, value)
    report(
        f"Combining {best.count} nnets, objective function changed from {first:.6g} to "
        f"{best.objective:.6g}"
    )
    return best


def recomputed_statistics(
    network: Network, minibatches: Sequence[Minibatch], chain: ChainObjective | None = None
) -> tuple[Network, Evaluation]:
    """The network with all stored statistics estimated anew (nnet3's RecomputeStats)."""
    module = compile_network(network).train()
    module.zero_stats()
    for submodule in module.modules():
        if isinstance(submodule, Nonlinearity):
            submodule.store_statistics = True
    evaluation = Evaluation(network, chain)
    with torch.enable_grad():  # nonlinearities store nothing without
        for minibatch in minibatches:
            evaluation.add(module(minibatch.inputs, minibatch.request), minibatch)
    return module.to_network(), evaluation


def has_batchnorm(network: Network) -> bool:
    """Whether the network has batch-norm components."""
    return any(c.type_name == "BatchNormComponent" for c in network.components.values())
