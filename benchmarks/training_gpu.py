"""Training on a GPU: an LSTMP layer, the log-likelihood objective, a TDNN-F of 22 M parameters.

The loop of an LSTM layer (1024 cells, projections of 256 and 256, 64 sequences of 150 frames, a
delay of 1 or 3), forward and backward, against torch.nn.LSTM with proj_size=256, which has a delay
of 1 and no peepholes. The objective and its derivative against log_softmax and nll_loss, with the
share of the bandwidth of a copy. A training step with natural gradient against the same without,
at 32, 64 and 128 chunks.

    python -m benchmarks.training_gpu
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional

import nnet
from benchmarks.harness import Row, save
from benchmarks.memory import FRAMES, PDFS, XCONFIG
from nnet.data.minibatch import Minibatch, SparseTargets
from nnet.kernels.softmax.reference import Targets, log_likelihood
from nnet.training.natural_gradient.optimizer import NaturalGradientSGD
from nnet.training.objectives import OutputObjectives
from nnet.training.recorded_step import CudaRecorder, recorded
from nnet.training.scoring import Scorer
from nnet.training.steps import NaturalStep, Step

Run = Callable[[], object]
BATCH, CELLS, PROJECTION = 64, 1024, 256
DELAYS = (1, 3)
CHUNKS = (32, 64, 128)


def main() -> None:
    """Prints rows and writes results/training_gpu.json; says so where there is no GPU."""
    argparse.ArgumentParser(description=__doc__).parse_args()
    if not torch.cuda.is_available():
        print("not measured: there is no CUDA device")
        return
    torch.set_float32_matmul_precision("high")
    torch.manual_seed(0)
    rows = [recurrence(delay) for delay in DELAYS]
    found, share = objective()
    rows.append(found)
    for chunks in CHUNKS:
        rows += training_step(chunks)
    print(*rows, sep="\n")
    figures = {"objective's share of copy bandwidth": share}
    save("training_gpu", rows, gpu=torch.cuda.get_device_name(), figures=figures)


def seconds(run: Run, repeats: int = 10) -> float:
    """The shortest of some runs after three that warm up, to their end on the device."""
    times = []
    for number in range(repeats + 3):
        torch.cuda.synchronize()
        start = time.perf_counter()
        run()
        torch.cuda.synchronize()
        if number >= 3:
            times.append(time.perf_counter() - start)
    return min(times)


def recurrence(delay: int) -> Row:
    """A layer's forward and backward pass."""
    network = nnet.build(
        f"input name=input dim={CELLS}\n"
        f"fast-lstmp-layer name=lstm cell-dim={CELLS} recurrent-projection-dim={PROJECTION} "
        f"non-recurrent-projection-dim={PROJECTION} delay=-{delay}\noutput name=output input=lstm"
    )
    module = nnet.compile(network, kernels="triton").cuda().train()
    request = module.chunk_request(FRAMES)
    features = torch.randn(BATCH, dict(request.inputs)["input"].count, CELLS, device="cuda")
    peer = nn.LSTM(CELLS, CELLS, proj_size=PROJECTION, batch_first=True, device="cuda")
    ours = seconds(lambda: module({"input": features}, request)["output"].sum().backward())
    theirs = seconds(lambda: peer(features)[0].sum().backward())
    shape = f"{CELLS}/{PROJECTION}/{PROJECTION} x {BATCH} x {FRAMES}, delay -{delay}"
    return Row("LSTMP, both ways", shape, 1, ours, "nn.LSTM(proj_size)", theirs)


def objective() -> tuple[Row, float]:
    """The objective of one alignment and its derivative in place; the share of copy bandwidth."""
    rows = 64 * FRAMES
    x = torch.randn(rows, PDFS, device="cuda")
    ids = torch.randint(0, PDFS, (rows, 1), device="cuda")
    weights = torch.ones(rows, 1, device="cuda")

    def ours() -> Tensor:
        given = x.detach().requires_grad_()
        found = log_likelihood(given, Targets(weights, ids), implementation="triton")
        found.objective.sum().backward()
        return found.objective

    def theirs() -> Tensor:
        given = x.detach().requires_grad_()
        loss = functional.nll_loss(given.log_softmax(1), ids[:, 0], reduction="sum")
        loss.backward()
        return loss

    torch.testing.assert_close(ours().sum(), -theirs(), rtol=1e-4, atol=0)
    target = torch.empty_like(x)
    copy = seconds(lambda: target.copy_(x))
    own = seconds(ours)
    row = Row(
        "objective, both ways", f"{rows} x {PDFS}", 1, own, "torch, 2 passes", seconds(theirs)
    )
    return row, 1.5 * copy / own  # rows are read twice and written once


def training_step(chunks: int) -> list[Row]:
    """A step with natural gradient against the same without, and as a graph against taken."""
    shape = f"{chunks} x {FRAMES} frames"
    own = _step_seconds(chunks)
    plain = _step_seconds(chunks, natural_gradient=False)
    graph = _step_seconds(chunks, recorder=CudaRecorder(torch.device("cuda")))
    return [
        Row("step", shape, 1, own, "no natural gradient", plain),
        Row("step, CUDA graph", shape, 1, graph, "the same, launch by launch", own),
    ]


def _step_seconds(
    chunks: int, *, natural_gradient: bool = True, recorder: CudaRecorder | None = None
) -> float:
    """Of one of four steps: natural gradient's estimates change once in four minibatches."""
    network = nnet.build(XCONFIG)
    module = nnet.compile(network, log_likelihoods=["output"]).cuda().train()
    optimizer = NaturalGradientSGD(module, natural_gradient=natural_gradient)
    taken = NaturalStep(Scorer(module, OutputObjectives.of(network), bf16=True), optimizer)
    step: Step = taken if recorder is None else recorded(taken, recorder)
    request = module.chunk_request(FRAMES, subsampling=3, outputs=("output",))
    frames = dict(request.inputs)["input"].count
    inputs = {
        "input": torch.randn(chunks, frames, 40, device="cuda"),
        "ivector": torch.randn(chunks, 1, 100, device="cuda"),
    }
    ids = torch.randint(0, PDFS, (chunks, FRAMES // 3, 1), device="cuda")
    targets = {"output": SparseTargets(ids, torch.ones(ids.shape, device="cuda"))}
    minibatch = Minibatch(request, inputs, targets, chunks)

    def steps() -> None:
        for _ in range(4):
            step(minibatch)

    for _ in range(25):  # every kind of step has come more often than it takes to be recorded
        steps()
    return seconds(steps, 5) / 4


if __name__ == "__main__":
    main()
