"""Whole recurrent networks on a CPU, forward and one step of training.

A TDNN-LSTM (three LSTMP layers of 512 cells, projections 128 + 128, delay -3) and a BLSTM (three
pairs of the same), on 1 and 64 sequences of 150 frames. Ours against the same network in plain
torch, stepping frame by frame; against one with torch.nn.LSTM(proj_size=256) in place of each layer
(no peepholes, delay 1); forward also against onnxruntime on our ONNX of the network; and as a share
of the machine's sgemm peak. A step of training is forward, log-likelihood, derivative and SGD.

    python -m benchmarks.recurrent_nets_cpu [--threads 1]
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

import nnet
from benchmarks.harness import Row, best_seconds, save, sgemm_peak
from benchmarks.peers import Run, session_of
from benchmarks.plain_recurrent import PlainBlstm, PlainTdnnLstm, Recurrent, Stepping, TorchLstm
from nnet.converters.onnx.export import onnx_bytes
from nnet.plan.cost import plan_cost
from nnet.plan.layout import bind
from nnet.plan.request import Request

FRAMES, DELAY = 150, -3
LSTMP = (
    "fast-lstmp-layer name={name} input={input} cell-dim=512 recurrent-projection-dim=128 "
    "non-recurrent-projection-dim=128 delay={delay}\n"
)
TDNN_LSTM = (
    "input name=input dim=40\n"
    "relu-batchnorm-layer name=tdnn1 input=Append(-2,-1,0,1,2) dim=512\n"
    "relu-batchnorm-layer name=tdnn2 input=Append(-1,0,1) dim=512\n"
    + LSTMP.format(name="lstm1", input="tdnn2", delay=DELAY)
    + "relu-batchnorm-layer name=tdnn3 input=Append(-3,0,3) dim=512\n"
    + LSTMP.format(name="lstm2", input="tdnn3", delay=DELAY)
    + "relu-batchnorm-layer name=tdnn4 input=Append(-3,0,3) dim=512\n"
    + LSTMP.format(name="lstm3", input="tdnn4", delay=DELAY)
    + "output-layer name=output dim=2000\n"
)
BLSTM = "input name=input dim=40\n"
for number, read in enumerate(("input", "Append(f1,b1)", "Append(f2,b2)"), start=1):
    BLSTM += LSTMP.format(name=f"f{number}", input=read, delay=DELAY)
    BLSTM += LSTMP.format(name=f"b{number}", input=read, delay=-DELAY)
BLSTM += "output-layer name=output input=Append(f3,b3) dim=2000\n"


@dataclass(frozen=True)
class Subject:
    """A network and how its peers are made."""

    name: str
    text: str
    peer: Callable[[nnet.Network, Recurrent, int], nn.Module]


SUBJECTS = (
    Subject("TDNN-LSTM", TDNN_LSTM, PlainTdnnLstm),
    Subject("BLSTM", BLSTM, PlainBlstm),
)


def main() -> None:
    """Measures, prints rows and writes results/recurrent_nets_cpu_N.json for N threads."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--threads", type=int, default=1)
    threads = parser.parse_args().threads
    torch.set_num_threads(threads)
    torch.manual_seed(0)
    peak = sgemm_peak()
    print(f"sgemm peak {peak / 1e9:.0f} GFLOP/s")
    rows: list[Row] = []
    shares: dict[str, float] = {}
    for subject in SUBJECTS:
        network = _with_statistics(nnet.build(subject.text))
        _compare(subject, network)
        for sequences in (1, 64):
            for training in (False, True):
                found, flops = measure(subject, network, sequences, training, threads)
                share = flops / found[0].ours / peak
                shares[f"{found[0].subject}, {found[0].shape}"] = round(share, 3)
                for row in found:
                    print(row, flush=True)
                print(f"    {flops / 1e9:.2f} GFLOP, {share:.0%} of sgemm peak", flush=True)
                rows += found
    save(f"recurrent_nets_cpu_{threads}", rows, share_of_sgemm_peak=shares)


def measure(
    subject: Subject, network: nnet.Network, sequences: int, training: bool, threads: int
) -> tuple[list[Row], int]:
    """Rows for one setting, and the operations of the products in it."""
    ours = nnet.compile(network, test_mode=not training)
    request = ours.chunk_request(FRAMES)
    x = torch.randn(sequences, request.inputs[0][1].count, 40)
    peers = {
        "plain torch, a frame a step": subject.peer(network, Stepping, DELAY),
        "torch.nn.LSTM, no peepholes": subject.peer(network, TorchLstm, DELAY),
    }
    run_ours = _runner(ours, request)
    runs: dict[str, Run] = {}
    if training:
        runs = {name: _step(module, module, x) for name, module in peers.items()}
        own = _step(run_ours, ours, x)
    else:
        runs = {name: _forward(module.eval(), x) for name, module in peers.items()}
        runs["onnxruntime"] = _onnx(network, sequences, threads)
        own = _forward(run_ours, x)
    kind = "training step" if training else "forward"
    seconds = best_seconds(own, 5)
    shape = f"{sequences} x {FRAMES} frames"
    rows = [
        Row(f"{subject.name} {kind}", shape, threads, seconds, name, best_seconds(run, 3))
        for name, run in runs.items()
    ]
    flops = plan_cost(ours.plan, bind(ours.plan, request)).flops * sequences
    return rows, flops * (3 if training else 1)


def _runner(module: nnet.CompiledNetwork, request: Request) -> Callable[[Tensor], Tensor]:
    def run(x: Tensor) -> Tensor:
        result: Tensor = module({"input": x}, request)["output"]
        return result

    return run


def _forward(run: Callable[[Tensor], Tensor], x: Tensor) -> Run:
    def forward() -> Tensor:
        with torch.no_grad():
            return run(x)

    return forward


def _step(run: Callable[[Tensor], Tensor], module: nn.Module, x: Tensor) -> Run:
    """Forward, log-likelihood of random classes, derivative, and an update by SGD."""
    module.train()
    classes = torch.randint(2000, (x.shape[0] * FRAMES,))
    optimizer = torch.optim.SGD(module.parameters(), lr=1e-4)

    def step() -> None:
        optimizer.zero_grad()
        functional.nll_loss(run(x).reshape(-1, 2000), classes).backward()
        optimizer.step()

    return step


def _onnx(network: nnet.Network, sequences: int, threads: int) -> Run:
    """Our ONNX of the network; it repeats the first and last frame as context itself."""
    session = session_of(onnx_bytes(network), threads)
    feeds = {"input": torch.randn(sequences, FRAMES, 40).numpy()}
    return lambda: session.run(None, feeds)


def _with_statistics(network: nnet.Network) -> nnet.Network:
    """The network with batch-norm statistics of random frames."""
    module = nnet.compile(network).train()
    request = module.chunk_request(FRAMES)
    with torch.no_grad():
        module({"input": torch.randn(4, request.inputs[0][1].count, 40)}, request)
    return module.to_network()


def _compare(subject: Subject, network: nnet.Network) -> None:
    """Stops if ours and the plain network disagree; in float64."""
    ours = nnet.compile(network).eval().double()
    request = ours.chunk_request(FRAMES)
    x = torch.randn(2, request.inputs[0][1].count, 40, dtype=torch.float64)
    plain = subject.peer(network, Stepping, DELAY).eval().double()
    with torch.no_grad():
        one, two = ours({"input": x}, request)["output"], plain(x)
    error = float(torch.dist(one, two) / torch.linalg.vector_norm(two))
    if not error < 1e-9:
        sys.exit(f"outputs of {subject.name} differ by {error:.1e}; nothing is reported")


if __name__ == "__main__":
    main()
