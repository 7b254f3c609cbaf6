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
from collections.abc import Callable

import torch
from torch import Tensor

import nnet
from benchmarks.harness import Row, best_seconds, save, sgemm_peak
from benchmarks.plain_lstmp import PlainLstmp, torch_lstm

FRAMES, DIM, CELL, PROJECTION = 150, 512, 512, 128

XCONFIG = """
input name=input dim={dim}
fast-lstmp-layer name=lstm cell-dim={cell} recurrent-projection-dim={projection} \
non-recurrent-projection-dim={projection} delay={delay}
output name=output input=lstm
"""


def main() -> None:
    """Measures, prints rows and writes results/recurrent_cpu.json."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--threads", type=int, default=1)
    threads = parser.parse_args().threads
    torch.set_num_threads(threads)
    torch.manual_seed(0)
    peak = sgemm_peak()
    print(f"sgemm peak {peak / 1e9:.0f} GFLOP/s")
    rows: list[Row] = []
    shares: dict[str, float] = {}
    for delay in (-1, -3):
        for sequences in (1, 8, 64):
            for backward in (False, True):
                found = measure(delay, sequences, backward, threads)
                flops = arithmetic(sequences, backward)
                share = flops / found[0].ours / peak
                shares[f"{found[0].subject}, {found[0].shape}"] = round(share, 3)
                for row in found:
                    print(row)
                print(f"    {flops / 1e9:.2f} GFLOP, {share:.0%} of sgemm peak")
                rows += found
    save("recurrent_cpu", rows, share_of_sgemm_peak=shares)


def arithmetic(sequences: int, backward: bool) -> int:
    """Floating-point operations of the matrix products."""
    gates = 4 * CELL * (DIM + PROJECTION)
    return 2 * FRAMES * sequences * (gates + CELL * 2 * PROJECTION) * (3 if backward else 1)


def measure(delay: int, sequences: int, backward: bool, threads: int) -> list[Row]:
    """Rows for one setting."""
    text = XCONFIG.format(dim=DIM, cell=CELL, projection=PROJECTION, delay=delay)
    network = nnet.build(text)
    ours = nnet.compile(network).eval()
    plain = PlainLstmp(network, -delay)
    peer = torch_lstm(DIM, CELL, 2 * PROJECTION)
    x = torch.randn(sequences, FRAMES, DIM)
    request = ours.chunk_request(FRAMES)

    def run_ours(inputs: Tensor) -> Tensor:
        result: Tensor = ours({"input": inputs}, request)["output"]
        return result

    _compare(network, delay)
    subject = f"LSTMP delay {delay}, " + ("forward+backward" if backward else "forward")
    seconds = best_seconds(_job(run_ours, ours, x, backward), 7)
    peers: dict[str, Callable[[], object]] = {
        "plain torch, a frame a step": _job(plain, plain, x, backward),
        "torch.nn.LSTM, no peepholes": _job(lambda inputs: peer(inputs)[0], peer, x, backward),
    }
    shape = f"{sequences} x {FRAMES} frames"
    return [
        Row(subject, shape, threads, seconds, name, best_seconds(run, 5))
        for name, run in peers.items()
    ]


def _job(
    run: Callable[[Tensor], Tensor], module: torch.nn.Module, x: Tensor, backward: bool
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


def _compare(network: nnet.Network, delay: int) -> None:
    """Stops if ours and the plain cell disagree in values or gradients; in float64."""
    ours, plain = nnet.compile(network).eval().double(), PlainLstmp(network, -delay).double()
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
