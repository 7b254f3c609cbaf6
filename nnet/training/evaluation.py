"""Objective and accuracy of a network on examples, as nnet3-compute-prob computes them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

import torch
from torch import Tensor

from nnet.data.example_minibatch import ExampleMinibatch
from nnet.data.minibatch import DenseTargets, Targets
from nnet.graph.network import Network, OutputNode
from nnet.modules.batchnorm import BatchNorm
from nnet.modules.compiled import CompiledNetwork, compile_network
from nnet.training.objectives import OBJECTIVES


@dataclass
class Total:
    """Sums over frames; `total / weight` is the average."""

    total: float = 0.0
    weight: float = 0.0

    def add(self, total: Tensor, weight: Tensor) -> None:
        self.total += total.item()
        self.weight += weight.item()

    @property
    def average(self) -> float:
        return self.total / self.weight if self.weight else float("nan")


@dataclass
class Evaluation:
    """Objective and accuracy of each output over some examples.

    Args:
        network: says which objective each output has.
    """

    network: Network
    objectives: dict[str, Total] = field(default_factory=dict)
    accuracies: dict[str, Total] = field(default_factory=dict)

    def add(self, outputs: dict[str, Tensor], targets: dict[str, Targets]) -> Tensor:
        """Adds a minibatch; its summed objective over all outputs, for derivatives."""
        sums = []
        for name, wanted in targets.items():
            score = OBJECTIVES[self._objective(name)](outputs[name], wanted)
            self.objectives.setdefault(name, Total()).add(score.total, score.weight)
            self.accuracies.setdefault(name, Total()).add(*correct_frames(outputs[name], wanted))
            sums.append(score.total)
        return torch.stack(sums).sum()

    @property
    def objective(self) -> float:
        """All outputs' objectives together, per frame."""
        weight = sum(total.weight for total in self.objectives.values())
        return sum(total.total for total in self.objectives.values()) / weight

    def report(self) -> list[str]:
        """nnet3-compute-prob's lines."""
        lines = []
        for name, total in sorted(self.objectives.items()):
            kind = "log-likelihood" if self._objective(name) == "linear" else "objective"
            lines.append(f"Overall {kind} for '{name}' is {_per_frame(total)}")
        for name, total in sorted(self.accuracies.items()):
            lines.append(f"Overall accuracy for '{name}' is {_per_frame(total)}")
        return lines

    def _objective(self, output: str) -> str:
        node = self.network.nodes[output]
        return node.objective if isinstance(node, OutputNode) else "linear"


def _per_frame(total: Total) -> str:
    return f"{total.average:.6g} per frame, over {total.weight:.6g} frames."


@torch.no_grad()
def correct_frames(output: Tensor, targets: Targets) -> tuple[Tensor, Tensor]:
    """The weight of the frames whose largest output is at their largest target, and of all.

    A frame's weight is the sum of its targets.
    """
    if isinstance(targets, DenseTargets):
        weights = targets.weights * targets.values.sum(-1)
        wanted = targets.values.argmax(-1)
    else:
        weights = targets.weights.sum(-1)
        best = targets.weights.argmax(-1, keepdim=True)
        wanted = targets.ids.gather(-1, best).squeeze(-1)
    return (weights * (output.argmax(-1) == wanted)).sum(), weights.sum()


def in_test_mode(
    network: Network, *, batchnorm: bool = True, dropout: bool = True
) -> CompiledNetwork:
    """The network compiled, with batch-norm and dropout in test mode or as in training."""
    module = compile_network(network).train(not dropout)
    for submodule in module.modules():
        if isinstance(submodule, BatchNorm):
            submodule.train(not batchnorm)
    return module


@torch.no_grad()
def evaluate_network(
    module: CompiledNetwork, minibatches: Iterable[ExampleMinibatch]
) -> Evaluation:
    """Objective and accuracy of a module on minibatches, in its present mode."""
    evaluation = Evaluation(module.network)
    for minibatch in minibatches:
        outputs = module(minibatch.inputs, minibatch.request)
        evaluation.add(outputs, minibatch.targets)
    return evaluation
