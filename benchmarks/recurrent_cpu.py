"""Recurrence on a CPU: one projected LSTM layer on 150 frames, forward and with its derivative.

Input and cell of 512, projections 128 + 128, delays -1 and -3, with 1, 8 and 64 sequences. Ours
against the same cell in plain torch, one frame a step; against torch.nn.LSTM of equal size (no
peepholes, delay 1); and as a share of the machine's sgemm peak. The outputs and gradients of the
same cell are compared before anything is timed.

    python -m benchmarks.recurrent_cpu [--threads 1]
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

import nnet
from benchmarks.harness import Row, best_seconds, save, sgemm_peak
from benchmarks.plain_lstmp import PlainLstmp, torch_lstm

FRAMES, DIM, CELL, PROJECTION = 150, 512, 512, 128


@dataclass(frozen=True)
class Subject:
    """A recurrent layer, and its peers."""

    name: str
    layer: str
    """Its type in an xconfig."""
    weights: int
    """Elements of its matrices: what a frame is multiplied with."""
    plain: Callable[[nnet.Network, int], nn.Module]
    """The same cell in plain torch, from a network with the layer `layer` and a delay."""
    torch_name: str
    torch: Callable[[], nn.Module]
    """torch's own of about the size."""

    def network(self, delay: int) -> nnet.Network:
        """The layer on an input."""
        return nnet.build(
            f"input name=input dim={DIM}\n"
            f"{self.layer} name=layer cell-dim={CELL} recurrent-projection-dim={PROJECTION} "
            f"non-recurrent-projection-dim={PROJECTION} delay={delay}\n"
            "output name=output input=layer\n"
        )


LSTMP = Subject(
    "LSTMP",
    "fast-lstmp-layer",
    4 * CELL * (DIM + PROJECTION) + CELL * 2 * PROJECTION,
    lambda network, delay: PlainLstmp(network, delay, "layer"),
    "torch.nn.LSTM, no peepholes",
    lambda: torch_lstm(DIM, CELL, 2 * PROJECTION),
)


def main() -> None:
    """Measures, prints rows and writes results/recurrent_cpu.json."""
    report([LSTMP], "recurrent_cpu", str(__doc__))


def report(subjects: Sequence[Subject], name: str, description: str) -> None:
    """Measures layers, prints rows and writes results/NAME.json."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--threads", type=int, default=1)
    threads = parser.parse_args().threads
    torch.set_num_threads(threads)
    torch.manual_seed(0)
    peak = sgemm_peak()
    print(f"sgemm peak {peak / 1e9:.0f} GFLOP/s")
    rows: list[Row] = []
    shares: dict[str, float] = {}
    settings = [(subject, delay) for subject in subjects for delay in (-1, -3)]
    for subject, delay in settings:
        _compare(subject, delay)
        for sequences in (1, 8, 64):
            for backward in (False, True):
                found = measure(subject, delay, sequences, backward, threads)
                flops = 2 * FRAMES * sequences * subject.weights * (3 if backward else 1)
                share = flops / found[0].ours / peak
                shares[f"{found[0].subject}, {found[0].shape}"] = round(share, 3)
                for row in found:
                    print(row, flush=True)
                print(f"    {flops / 1e9:.2f} GFLOP, {share:.0%} of sgemm peak", flush=True)
                rows += found
    save(name, rows, share_of_sgemm_peak=shares)


def measure(
    subject: Subject, delay: int, sequences: int, backward: bool, threads: int
) -> list[Row]:
    """Rows for one setting."""
    network = subject.network(delay)
    ours = nnet.compile(network).eval()
    plain, peer = subject.plain(network, -delay), subject.torch()
    x = torch.randn(sequences, FRAMES, DIM)
    request = ours.chunk_request(FRAMES)

    def run_ours(inputs: Tensor) -> Tensor:
        result: Tensor = ours({"input": inputs}, request)["output"]
        return result

    kind = "forward+backward" if backward else "forward"
    seconds = best_seconds(_job(run_ours, ours, x, backward), 7)
    peers: dict[str, Callable[[], object]] = {
        "plain torch, a frame a step": _job(plain, plain, x, backward),
        subject.torch_name: _job(lambda inputs: peer(inputs)[0], peer, x, backward),
    }
    shape = f"{sequences} x {FRAMES} frames"
    return [
        Row(
            f"{subject.name} delay {delay}, {kind}",
            shape,
            threads,
            seconds,
            name,
            best_seconds(run, 5),
        )
        for name, run in peers.items()
    ]


def _job(
    run: Callable[[Tensor], Tensor], module: nn.Module, x: Tensor, backward: bool
) -> Callable[[], object]:
    """One forward pass, or one with the gradients for the parameters and the input."""
    if not backward:

        def forward() -> Tensor:
            with torch.no_grad():
                return run(x)

        return forward
    inputs = x.clone().requires_grad_()

    def both() -> None:
        module.zero_grad()
        inputs.grad = None
        run(inputs).sum().backward()

    return both


def _compare(subject: Subject, delay: int) -> None:
    """Stops if ours and the plain cell disagree in values or gradients; in float64."""
    network = subject.network(delay)
    ours, plain = nnet.compile(network).eval().double(), subject.plain(network, -delay).double()
    first = torch.randn(4, FRAMES, DIM, dtype=torch.float64).requires_grad_()
    second = first.detach().clone().requires_grad_()
    a = ours({"input": first}, ours.chunk_request(FRAMES))["output"]
    b = plain(second)
    for result in (a, b):
        result.square().mean().backward()  # small: nnet3 clips large derivatives
    found = {"outputs": (a.detach(), b.detach()), "gradients": (first.grad, second.grad)}
    for what, (one, two) in found.items():
        error = float(torch.dist(one, two) / torch.linalg.vector_norm(two))
        if not error < 1e-9:
            sys.exit(f"{what} differ from plain torch by {error:.1e}; nothing is reported")


if __name__ == "__main__":
    main()
