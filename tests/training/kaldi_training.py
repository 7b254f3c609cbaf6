"""Runs nnet3-train's loop on golden examples."""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from nnet.data.example_minibatch import example_minibatch
from nnet.data.examples import read_examples
from nnet.data.minibatch import AnyTargets, Minibatch
from nnet.graph.network import Network, OutputNode
from nnet.modelfile.model import read_model
from nnet.runtime.compiled import CompiledNetwork, compile_network
from nnet.runtime.logits import finished
from nnet.training.natural_gradient.optimizer import NaturalGradientSGD
from nnet.training.objectives import OBJECTIVES, OutputObjectives, Score, loss
from nnet.training.ports import linear_outputs

GOLDEN = Path(__file__).parents[1] / "golden"


def start(folder: Path, kernels: str = "reference") -> tuple[Network, CompiledNetwork]:
    """Kaldi's initial network, its statistics zeroed, in training mode, as `nnet train` has it."""
    network = read_model(folder / "init.raw").network
    names = linear_outputs(network, [node.name for node in network.outputs()])
    module = compile_network(network, kernels=kernels, log_likelihoods=names).train()
    module.zero_stats()
    return network, module


@dataclass
class Trace:
    """What happened in each minibatch.

    Attributes:
        objectives: of `output`, per frame; in backstitch of the first step.
        magnitudes: the sums of the absolute values of the terms of each objective, per frame. Where
            targets of both signs cancel, rounding is a share of this.
        reports: about max-change, where a limit was active.
    """

    objectives: list[float] = field(default_factory=list)
    magnitudes: list[float] = field(default_factory=list)
    reports: list[str] = field(default_factory=list)

    def objective_error(self, theirs: list[float]) -> float:
        """The largest difference to Kaldi's objectives, as a share of the magnitude."""
        differences = np.subtract(self.objectives[: len(theirs)], theirs)
        return float(np.max(np.abs(differences) / self.magnitudes[: len(theirs)]))


def run(
    network: Network,
    module: CompiledNetwork,
    optimizer: NaturalGradientSGD,
    egs: Path,
    minibatches: slice = slice(None),
) -> Trace:
    """Trains on the examples in order."""
    trace = Trace()
    objective = OutputObjectives.of(network)
    for _, example in list(read_examples(f"ark:{egs}"))[minibatches]:
        minibatch = example_minibatch(example, network)
        passes: list[tuple[Tensor, Score]] = []

        def closure(
            minibatch: Minibatch = minibatch, passes: list[tuple[Tensor, Score]] = passes
        ) -> None:
            optimizer.zero_grad()
            outputs = module.outputs(minibatch.inputs, minibatch.request)
            scores = objective(outputs, minibatch)
            with torch.no_grad():
                passes.append((finished(outputs["output"]), scores["output"]))
            loss(scores).backward()

        optimizer.step(closure, sequences=minibatch.sequences)
        output, score = passes[0]
        trace.objectives.append(score.total.item() / score.weight.item())
        magnitude = _magnitude(network, output, minibatch.targets["output"])
        trace.magnitudes.append(magnitude / abs(score.weight.item()))
        if report := optimizer.max_change.report():
            trace.reports.append(report)
    return trace


def _magnitude(network: Network, output: Tensor, targets: AnyTargets) -> float:
    """The sum of the absolute values of the terms of an objective."""
    node = network.nodes["output"]
    assert isinstance(node, OutputNode)
    absolute = targets.each(lambda tensor: tensor.abs())
    if node.objective == "linear":
        total = OBJECTIVES["linear"](output.abs(), absolute).total
    else:
        total = OBJECTIVES["quadratic"](output, targets).total.abs()
    return total.item()


@dataclass
class Log:
    """What Kaldi's log says."""

    objectives: list[float]
    reports: list[str]
    totals: list[str]

    @staticmethod
    def of(path: Path) -> Log:
        text = path.read_text()
        objectives = re.findall(r"for 'output' for minibatches \S+ is (\S+)", text)
        return Log(
            [float(number) for number in objectives],
            re.findall(r"(?:Per-component max-change active|Global max-change factor).*", text),
            re.findall(r"(?:For .*, per-component|The global) max-change was enforced.*", text),
        )


def change_errors(
    initial: Network, ours: Network, theirs: Network, undetermined: Collection[str] = ()
) -> dict[str, float]:
    """By parameter, the relative error of the change that training made.

    Args:
        undetermined: parameters on which the objective does not depend, such as a bias before
            batch-norm. Their changes are rounding errors, and have to be below 1e-6 of the norm of
            the component's parameters.
    """
    errors = {}
    for name, component in theirs.components.items():
        parameters = component.parameters()
        norm = np.sqrt(
            sum(np.square(array, dtype=np.float64).sum() for array in parameters.values())
        )
        for key, wanted in parameters.items():
            before = initial.components[name].parameters()[key]
            found = ours.components[name].parameters()[key]
            change = np.linalg.norm(wanted - before)
            if f"{name}.{key}" in undetermined:
                assert max(change, np.linalg.norm(found - before)) < 1e-6 * norm
            else:
                errors[f"{name}.{key}"] = float(np.linalg.norm(found - wanted) / max(change, 1e-30))
    return errors


def factors(reports: list[str]) -> list[float]:
    """All max-change factors in reports, in order."""
    found = re.findall(r"(?:factor=|factor was )(\S+)", "\n".join(reports))
    return [float(number.rstrip(".")) for number in found]
