"""Objective and accuracy of a network on examples, as nnet3-compute-prob computes them, and
nnet3-chain-compute-prob."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

import torch
from torch import Tensor

from nnet.data.minibatch import DenseTargets, Minibatch, SparseTargets, Targets
from nnet.graph.network import Network
from nnet.modules.batchnorm import BatchNorm
from nnet.runtime.compiled import CompiledNetwork, compile_network
from nnet.training.lfmmi.objective import ChainObjective
from nnet.training.objectives import OutputObjectives, loss
from nnet.training.tallies import Tally, added, overall, tallies


@dataclass
class Evaluation:
    """Objective and accuracy of each output over some examples.

    Args:
        network: says which objective each output has.
        chain: LF-MMI instead, for examples of it.
    """

    network: Network
    chain: ChainObjective | None = None
    objectives: dict[str, Tally] = field(default_factory=dict)
    accuracies: dict[str, Tally] = field(default_factory=dict)

    def add(self, outputs: dict[str, Tensor], minibatch: Minibatch) -> Tensor:
        """Adds a minibatch; minus its summed objective over all outputs, for derivatives."""
        score = self.chain or OutputObjectives.of(self.network)
        scores = score(outputs, minibatch)
        self.objectives = added(self.objectives, tallies(scores))
        self.accuracies = added(
            self.accuracies,
            {
                name: correct_frames(outputs[name], targets)
                for name, targets in minibatch.targets.items()
                if isinstance(targets, SparseTargets | DenseTargets)
            },
        )
        return loss(scores)

    @property
    def objective(self) -> float:
        """All outputs' objectives together, per frame."""
        return overall(self.objectives).objective

    def report(self) -> list[str]:
        """nnet3-compute-prob's lines, or nnet3-chain-compute-prob's."""
        kinds = {node.name: node.objective for node in self.network.outputs()}
        lines = []
        for name, tally in sorted(self.objectives.items()):
            kind = "log-likelihood" if kinds[name] == "linear" else "objective"
            kind = "log-probability" if self.chain else kind
            lines.append(f"Overall {kind} for '{name}' is {_per_frame(tally)}")
        for name, tally in sorted(self.accuracies.items()):
            lines.append(f"Overall accuracy for '{name}' is {_per_frame(tally)}")
        return lines


def _per_frame(tally: Tally) -> str:
    value = f"{tally.objective:.6g}"
    if tally.auxiliary:
        auxiliary = tally.auxiliary / tally.weight
        value += f" + {auxiliary:.6g} = {tally.objective + auxiliary:.6g}"
    return f"{value} per frame, over {tally.weight:.6g} frames."


@torch.no_grad()
def correct_frames(output: Tensor, targets: Targets) -> Tally:
    """The weight of the frames whose largest output is at their largest target, as `total`.

    A frame's weight is the sum of its targets, whatever the objective.
    """
    if isinstance(targets, DenseTargets):
        weights = targets.weights * targets.values.sum(-1)
        wanted = targets.values.argmax(-1)
    else:
        weights = targets.weights.sum(-1)
        best = targets.weights.argmax(-1, keepdim=True)
        wanted = targets.ids.gather(-1, best).squeeze(-1)
    correct = (weights * (output.argmax(-1) == wanted)).sum()
    return Tally(correct.item(), weights.sum().item())


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
    module: CompiledNetwork, minibatches: Iterable[Minibatch], chain: ChainObjective | None = None
) -> Evaluation:
    """Objective and accuracy of a module on minibatches, or LF-MMI, in its present mode."""
    evaluation = Evaluation(module.network, chain)
    for minibatch in minibatches:
        evaluation.add(module(minibatch.inputs, minibatch.request), minibatch)
    return evaluation
