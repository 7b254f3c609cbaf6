"""CUDA graphs: a whole network launched at once, for shapes that come again."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from nnet.errors import NnetError
from nnet.plan.request import Request

RunRequest = Callable[[Mapping[str, Tensor], Request], dict[str, Tensor]]

GRAPHS_KEPT = 16
"""Each keeps the memory of its values."""

WARM_UP = 3
"""Runs before a graph is captured: kernels are compiled and tuned, and memory is asked for."""


def check_cuda_graph(*, test_mode: bool) -> None:
    """Raises NnetError unless graphs can be captured here."""
    if not torch.cuda.is_available():
        raise NnetError(
            "a CUDA graph needs a CUDA device, and torch sees none here; leave out --cuda-graph"
        )
    if not test_mode:
        raise NnetError(
            "a CUDA graph repeats the same computation, so it is for test mode alone; training has "
            "new random numbers and statistics each time"
        )


@dataclass(frozen=True)
class _Captured:
    graph: torch.cuda.CUDAGraph
    inputs: dict[str, Tensor]
    outputs: dict[str, Tensor]

    def replay(self, inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        for name, tensor in self.inputs.items():
            tensor.copy_(inputs[name])
        self.graph.replay()
        return {name: tensor.clone() for name, tensor in self.outputs.items()}


class CapturedGraphs:
    """Runs a function of tensors of fixed shapes by graphs, one for each request and batch size.

    Args:
        run: from inputs by name, `(batch, time, dim)` on a CUDA device, to outputs by name.
    """

    def __init__(self, run: RunRequest) -> None:
        self._run = run
        self._captured: OrderedDict[object, _Captured] = OrderedDict()

    def __call__(self, inputs: Mapping[str, Tensor], request: Request) -> dict[str, Tensor]:
        """What `run` gives; captured at the first call with a shape, replayed afterwards.

        Raises:
            NnetError: an input is not on a CUDA device.
        """
        given = {name: inputs[name] for name, _ in request.inputs}
        for name, tensor in given.items():
            if tensor.device.type != "cuda":
                raise NnetError(
                    f"input '{name}' is on {tensor.device}; a network with a CUDA graph takes "
                    "inputs on a CUDA device"
                )
        shapes = tuple((name, tuple(t.shape), t.dtype, t.device) for name, t in given.items())
        key = (request, shapes)
        if key not in self._captured:
            self._captured[key] = self._capture(given, request)
            if len(self._captured) > GRAPHS_KEPT:
                self._captured.popitem(last=False)
        self._captured.move_to_end(key)
        return self._captured[key].replay(given)

    def clear(self) -> None:
        """Forgets all graphs: the network's parameters moved."""
        self._captured.clear()

    def _capture(self, inputs: Mapping[str, Tensor], request: Request) -> _Captured:
        static = {name: tensor.clone() for name, tensor in inputs.items()}
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            for _ in range(WARM_UP):
                self._run(static, request)
        torch.cuda.current_stream().wait_stream(stream)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            outputs = self._run(static, request)
        return _Captured(graph, static, outputs)
