"""A network as a program of torch.export: a `.pt2` file that loads without this package."""

from __future__ import annotations

import io
import warnings
from typing import TYPE_CHECKING

from nnet.converters.targets.registry import Content, TargetOptions, file_target
from nnet.converters.targets.remarks import segment_remarks
from nnet.errors import NnetError
from nnet.graph.network import InputNode, Network
from nnet.graph.segments import makes_segments
from nnet.modelfile.model import Model
from nnet.plan.request import Request, TimeRange

if TYPE_CHECKING:
    from torch import Tensor
    from torch.export import ExportedProgram

    from nnet.runtime.compiled import CompiledNetwork

FRAMES = 50
"""Frames of a chunk, nnet3-compute's default."""

LARGEST_BATCH = 65_536


@file_target("torch-export")
def torch_export_file(model: Model, options: TargetOptions) -> Content:
    network = model.network
    data = torch_export_bytes(network, subsampling=options.subsampling, frames=options.frames)
    return Content(data, segment_remarks(network))


def torch_export_bytes(
    network: Network, *, subsampling: int = 1, frames: int = FRAMES, output: str = "output"
) -> bytes:
    """The content of a `.pt2` file that computes chunks of `frames` frames, in any batch size.

    Its inputs are `input` (batch, left context + frames + right context, dim), in the order of
    time from the first frame of the left context, and if the network has one, `ivector`
    (batch, 1, dim). Its output is (batch, frames / subsampling, dim). Recurrent parts are unrolled.
    Of a network for segments (`makes_segments`), `input` is (batch, frames, dim) and the output
    one vector for each, (batch, dim).

    Raises:
        NnetError: the network cannot be run, or `frames` or `subsampling` is not positive.
    """
    import torch

    if frames < 1 or subsampling < 1:
        raise NnetError(
            f"chunks of {frames} frames with subsampling {subsampling}; both must be positive"
        )
    program = _exported(_compiled(network, output), subsampling, frames, output)
    file = io.BytesIO()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "No complete tensor found", UserWarning)  # all on CPU
        torch.export.save(program, file)
    return file.getvalue()


def _exported(
    compiled: CompiledNetwork, subsampling: int, frames: int, output: str
) -> ExportedProgram:
    """The program of chunks of `frames` frames."""
    import torch
    from torch import nn

    segment = makes_segments(compiled.network, output)
    if segment:
        request = Request.of({"input": TimeRange(0, frames)}, {output: TimeRange(0, 1)})
    else:
        request = compiled.chunk_request(frames, subsampling=subsampling, outputs=(output,))

    class Chunk(nn.Module):
        """The network on one request, its inputs in order."""

        def __init__(self) -> None:
            super().__init__()
            self.network = compiled

        def forward(self, *inputs: Tensor) -> Tensor:
            names = (name for name, _ in request.inputs)
            result: Tensor = self.network(dict(zip(names, inputs, strict=True)), request)[output]
            return result.squeeze(1) if segment else result

    example = tuple(torch.zeros(2, *shape) for shape in _shapes(compiled.network, request))
    batch = torch.export.Dim("batch", min=1, max=LARGEST_BATCH)
    with torch.no_grad():
        program = torch.export.export(
            Chunk(), example, dynamic_shapes=(tuple({0: batch} for _ in example),), strict=False
        )
    _check_operators(program)
    return program


def _compiled(network: Network, output: str) -> CompiledNetwork:
    """The network in test mode, folded but made of torch's own operators."""
    from nnet.passes.base import run_passes
    from nnet.passes.common_subexpressions import CommonSubexpressions
    from nnet.passes.dead_values import DeadValues
    from nnet.passes.fold_backward import FoldBackward
    from nnet.passes.fold_forward import FoldForward
    from nnet.passes.remove_dropout import RemoveDropout
    from nnet.passes.remove_noops import RemoveNoOps
    from nnet.passes.scale_offsets import ScaleOffsets
    from nnet.plan.lower import lower
    from nnet.runtime.compiled import CompiledNetwork

    passes = (
        DeadValues(),
        RemoveNoOps(),
        RemoveDropout(),
        CommonSubexpressions(),
        ScaleOffsets(),
        DeadValues(),
        FoldBackward(),
        FoldForward(),
        DeadValues(),
    )
    plan = run_passes(lower(network, (output,)), passes)
    return CompiledNetwork(network, plan).eval().requires_grad_(False)


def _shapes(network: Network, request: Request) -> list[tuple[int, int]]:
    """Rows and columns of each input."""
    shapes = []
    for name, times in request.inputs:
        node = network.nodes[name]
        assert isinstance(node, InputNode)
        shapes.append((times.count, node.dim))
    return shapes


def _check_operators(program: ExportedProgram) -> None:
    """Raises NnetError if an operator is not torch's own."""
    nodes = program.graph.nodes
    called = {str(node.target) for node in nodes if node.op == "call_function"}
    foreign = sorted(name for name in called if name.startswith("nnet"))
    if foreign:
        raise NnetError(f"operators that only this package has: {', '.join(foreign)}")
