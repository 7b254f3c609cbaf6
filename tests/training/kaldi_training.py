"""Runs nnet3-train's loop on golden examples."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from nnet.data.example_minibatch import example_minibatch
from nnet.data.examples import read_examples
from nnet.graph.network import Network
from nnet.modelfile.model import read_model
from nnet.modules.compiled import CompiledNetwork, compile_network
from nnet.training.natural_sgd import NaturalGradientSGD
from nnet.training.objectives import OBJECTIVES

GOLDEN = Path(__file__).parents[1] / "golden"


def start(folder: Path) -> tuple[Network, CompiledNetwork]:
    """Kaldi's initial network, its statistics zeroed, in training mode."""
    network = read_model(folder / "init.raw").network
    module = compile_network(network).train()
    module.zero_stats()
    return network, module


def run(
    network: Network,
    module: CompiledNetwork,
    optimizer: NaturalGradientSGD,
    egs: Path,
    minibatches: slice = slice(None),
) -> tuple[list[float], list[str]]:
    """Objectives of the first output (also of backstitch's first step) and max-change reports."""
    objectives: list[float] = []
    reports = []
    for _, example in list(read_examples(f"ark:{egs}"))[minibatches]:
        minibatch = example_minibatch(example, network)

        passes = []

        def closure(minibatch: Any = minibatch, passes: list[float] = passes) -> None:
            optimizer.zero_grad()
            outputs = module(minibatch.inputs, minibatch.request)
            loss = torch.zeros(())
            for name, targets in sorted(minibatch.targets.items(), reverse=True):
                score = OBJECTIVES[network.nodes[name].objective](outputs[name], targets)
                loss = loss - score.total
            passes.append(score.total.item() / score.weight.item())
            loss.backward()

        optimizer.step(closure, sequences=minibatch.sequences)
        objectives.append(passes[0])
        reports.append(optimizer.max_change.report())
    return objectives, [report for report in reports if report]


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


def change_errors(initial: Network, ours: Network, theirs: Network) -> dict[str, float]:
    """By parameter, the relative error of the change that training made.

    A change below 1e-5 of the norm of the component's parameters counts as one of that: it is
    noise, such as that of a bias before batch-norm.
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
            size = max(np.linalg.norm(wanted - before), 1e-5 * norm, 1e-30)
            errors[f"{name}.{key}"] = float(np.linalg.norm(found - wanted) / size)
    return errors


def factors(reports: list[str]) -> list[float]:
    """All max-change factors in reports, in order."""
    found = re.findall(r"(?:factor=|factor was )(\S+)", "\n".join(reports))
    return [float(number.rstrip(".")) for number in found]
