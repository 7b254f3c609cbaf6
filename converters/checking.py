"""Whether a converted network computes what its source does."""

from __future__ import annotations

import dataclasses

import numpy as np

from nnet.converters.convert import Converted
from nnet.converters.legacy import Rows
from nnet.graph.context import context
from nnet.graph.network import Network, OutputNode

RANDOM_FRAMES = 12
"""Frames of random input beyond the context."""


def part_errors(converted: Converted, rows: np.ndarray | None = None) -> list[float]:
    """The relative error of each part's output, the last with all before it.

    The network is evaluated by its definition in float64 (`nnet.runtime.oracle`), the source by
    its components' reference. Frames at the edges are left out where the notes say that they
    differ.

    Args:
        rows: features `(frames, dim)`; by default random ones.
    """
    import torch

    from nnet.plan.request import Request, TimeRange
    from nnet.runtime.oracle import interpret

    left, right = context(converted.model.network)
    if rows is None:
        dim = converted.source.components[0].input_dim
        frames = RANDOM_FRAMES + 2 * (left + right)
        rows = np.random.default_rng(0).standard_normal((frames, dim))
    rows = rows.astype(np.float64)
    dim = next(node.dim for node in converted.model.network.inputs() if node.name == "input")
    rows[:, dim:] = rows[:1, dim:]  # what is an i-vector of its own, one for the utterance
    network, names = _with_outputs(converted)
    given = TimeRange(-left, left + len(rows) + right)
    wanted = TimeRange(0, len(rows))
    inputs = {"input": torch.from_numpy(padded_rows(rows[:, :dim], left, right)).unsqueeze(0)}
    times = {"input": given}
    if rows.shape[1] > dim:
        inputs["ivector"] = torch.from_numpy(rows[:1, dim:]).unsqueeze(0)
        times["ivector"] = TimeRange(0, 1)
    request = Request.of(times, dict.fromkeys(names, wanted))
    found = interpret(network, request, inputs)
    expected = converted.source.outputs(rows)
    if converted.logarithm:
        expected[-1] = np.log(np.maximum(expected[-1], 1e-20))
    seen = slice(left, len(rows) - right) if converted.edges_differ else slice(None)
    return [
        relative_error(found[name][0].numpy()[seen], reference[seen])
        for name, reference in zip(names, expected, strict=True)
    ]


def _with_outputs(converted: Converted) -> tuple[Network, list[str]]:
    """The network with an output for each part, and their names."""
    network = converted.model.network
    nodes = dict(network.nodes)
    names = []
    for number, part in enumerate(converted.parts, 1):
        name = f"check-{number}"
        assert part.result is not None
        nodes[name] = OutputNode(name, part.result)
        names.append(name)
    return dataclasses.replace(network, nodes=nodes), names


def padded_rows(rows: Rows, left: int, right: int) -> Rows:
    """The rows with the first and the last repeated before and after them."""
    times = np.clip(np.arange(-left, len(rows) + right), 0, len(rows) - 1)
    return rows[times]


def relative_error(found: Rows, expected: Rows) -> float:
    """How far `found` is off, relative to how much `expected` varies over time."""
    variation = float(np.linalg.norm(expected - expected.mean(axis=0)))
    scale = max(variation, 0.05 * float(np.linalg.norm(expected)), 1e-30)
    return float(np.linalg.norm(found - expected)) / scale
