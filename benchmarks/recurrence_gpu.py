"""Recurrent layers on a GPU, forward and backward, each loop in one launch each way.

An LSTM with projection (1024/256/256) in one direction and in two side by side, and a GRU of 1024
cells, on 64 sequences of 150 frames, against torch.nn.LSTM and torch.nn.GRU (cuDNN), which have no
peepholes; and the same LSTM against its loop run step by step by plain torch.

    python -m benchmarks.recurrence_gpu
"""

from __future__ import annotations

import argparse

import torch
from torch import Tensor, nn

import nnet
from benchmarks.harness import Row, save
from benchmarks.training_gpu import BATCH, CELLS, FRAMES, PROJECTION, seconds
from nnet.plan.implementations import Kernels

LSTM = (
    f"fast-lstmp-layer name={{}} cell-dim={CELLS} recurrent-projection-dim={PROJECTION} "
    f"non-recurrent-projection-dim={PROJECTION} delay={{}} input=input\n"
)
GRU = f"fast-gru-layer name={{}} cell-dim={CELLS} delay={{}} input=input\n"


def main() -> None:
    """Prints rows and writes results/recurrence_gpu.json; says so where there is no GPU."""
    argparse.ArgumentParser(description=__doc__).parse_args()
    if not torch.cuda.is_available():
        print("not measured: there is no CUDA device")
        return
    torch.set_float32_matmul_precision("high")
    torch.manual_seed(0)
    lstm = {"proj_size": PROJECTION, "batch_first": True, "device": "cuda"}
    one, both = LSTM.format("a", -1), LSTM.format("a", -1) + LSTM.format("b", 1)
    gru = GRU.format("a", -1)
    rows = [
        against_peer("LSTMP", one, "a", nn.LSTM(CELLS, CELLS, **lstm)),
        against_peer(
            "BLSTMP", both, "Append(a, b)", nn.LSTM(CELLS, CELLS, bidirectional=True, **lstm)
        ),
        against_peer("GRU", gru, "a", nn.GRU(CELLS, CELLS, batch_first=True, device="cuda")),
        against_steps(LSTM.format("a", -3)),
    ]
    print(*rows, sep="\n")
    save("recurrence_gpu", rows, gpu=torch.cuda.get_device_name())


def layer_seconds(layers: str, output: str, kernels: Kernels) -> float:
    """A forward and backward pass of a network of these layers."""
    network = nnet.build(f"input name=input dim={CELLS}\n{layers}output name=output input={output}")
    module = nnet.compile(network, kernels=kernels).cuda().train()
    request = module.chunk_request(FRAMES)
    frames = dict(request.inputs)["input"].count
    features = torch.randn(BATCH, frames, CELLS, device="cuda")
    return seconds(lambda: module({"input": features}, request)["output"].sum().backward())


def against_peer(name: str, layers: str, output: str, peer: nn.Module) -> Row:
    """Layers with delays of one frame against torch's."""
    features = torch.randn(BATCH, FRAMES, CELLS, device="cuda")

    def theirs() -> Tensor:
        total: Tensor = peer(features)[0].sum()
        total.backward()
        return total

    ours = layer_seconds(layers, output, "triton")
    shape = f"{CELLS} cells x {BATCH} x {FRAMES}"
    return Row(f"{name}, both ways", shape, 1, ours, type(peer).__name__, seconds(theirs))


def against_steps(layers: str) -> Row:
    """One launch against plain torch, step by step."""
    ours = layer_seconds(layers, "a", "triton")
    theirs = layer_seconds(layers, "a", "reference")
    shape = f"{CELLS} cells x {BATCH} x {FRAMES}, delay -3"
    return Row("LSTMP, both ways", shape, 1, ours, "plain torch, step by step", theirs)


if __name__ == "__main__":
    main()
