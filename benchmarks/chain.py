"""The denominator of LF-MMI, forward and backward, against a plain gather-and-scatter of all arcs.

Graphs of 3k states with 100k arcs and of 30k with 200k, 3000 pdfs, 50 output frames. The arcs that
enter a state have one pdf, but for its loop, as in graphs made of phones; the row "any pdf on any
arc" has no such order. On a CUDA device our Triton kernels too: milliseconds, the bandwidth that
they achieve, memory, and the share of a TDNN-F training step.

    python -m benchmarks.chain [--frames 50] [--threads 1] [--sequences 64 128]
"""

from __future__ import annotations

import argparse
import functools
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

import nnet
from benchmarks.chain_graphs import denominator_graph
from benchmarks.harness import Row, best_seconds, save
from benchmarks.scatter_denominator import ScatterDenominator
from benchmarks.training_cpu import XCONFIG
from nnet.errors import NnetError
from nnet.kernels.chain.denominator import denominator
from nnet.kernels.chain.transitions import Transitions
from nnet.kernels.implementation import Implementation

PDFS = 3000
LEAK = 0.1
FLOAT = 4  # bytes
MOST_DIFFERENCE = 1e-4  # of log-probabilities per frame and of posteriors


@dataclass(frozen=True)
class Graph:
    """What is measured: a name and the graph's size."""

    name: str
    states: int
    arcs: int
    random_labels: bool = False

    def transitions(self) -> Transitions:
        return denominator_graph(self.states, self.arcs, PDFS, random_labels=self.random_labels)


GRAPHS = (
    Graph("3k states, 100k arcs", 3_000, 100_000),
    Graph("30k states, 200k arcs", 30_000, 200_000),
    Graph("3k/100k, any pdf on any arc", 3_000, 100_000, random_labels=True),
)


def main() -> None:
    """Prints rows and writes results/chain.json."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--frames", type=int, default=50, help="output frames of a sequence")
    parser.add_argument("--sequences", type=int, nargs="+", default=[64, 128])
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    rows = []
    for graph in GRAPHS:
        for sequences in arguments.sequences:
            shape = f"{sequences} x {arguments.frames} frames"
            ours, theirs = cpu_seconds(graph.transitions(), sequences, arguments.frames)
            rows.append(Row(graph.name, shape, arguments.threads, ours, "scatter", theirs))
            print(rows[-1], flush=True)
    figures = gpu_figures(arguments.sequences, arguments.frames)
    save("chain", rows, gpu=figures or "not measured: there was no CUDA device")


def cpu_seconds(transitions: Transitions, sequences: int, frames: int) -> tuple[float, float]:
    """Of ours, the best of three, and of the peer, which is so slow that one run must do."""
    output = torch.randn(frames, sequences, PDFS)
    peer = ScatterDenominator(transitions, LEAK)
    start = time.perf_counter()
    found = peer(output)
    seconds = time.perf_counter() - start
    compare(output, transitions, "reference", found)
    return best_seconds(lambda: denominator(output, transitions, LEAK, scale=1.0), 3), seconds


def compare(
    output: Tensor,
    transitions: Transitions,
    implementation: Implementation,
    expected: tuple[Tensor, Tensor],
) -> None:
    """Raises NnetError if ours does not give what the peer gave."""
    found = denominator(output, transitions, LEAK, scale=1.0, implementation=implementation)
    for mine, theirs in zip((found.log_probs, found.posteriors), expected, strict=True):
        assert mine is not None
        difference = (mine - theirs).abs().max().item() / len(output)
        if not difference < MOST_DIFFERENCE:
            raise NnetError(f"ours and the peer's results differ by {difference} per frame")


def gpu_figures(sequences: list[int], frames: int) -> list[dict[str, object]]:
    """Milliseconds, bandwidth, memory and the share of a training step, on a CUDA device."""
    if not torch.cuda.is_available():
        return []
    device = torch.device("cuda")
    figures: list[dict[str, object]] = []
    for graph in GRAPHS:
        transitions = graph.transitions().to(device, torch.float32)
        for count in sequences:
            output = torch.randn(frames, count, PDFS, device=device)
            compare(output, transitions, "triton", ScatterDenominator(transitions, LEAK)(output))
            run = functools.partial(
                denominator, output, transitions, LEAK, scale=1.0, implementation="triton"
            )
            torch.cuda.reset_peak_memory_stats()
            milliseconds = gpu_milliseconds(run)
            step = gpu_milliseconds(training_step(device, count, frames))
            figures.append(
                {
                    "graph": graph.name,
                    "sequences": count,
                    "milliseconds": milliseconds,
                    "gigabytes_per_second": bytes_read(transitions, output) / milliseconds / 1e6,
                    "megabytes_of_memory": torch.cuda.max_memory_allocated() / 1e6,
                    "share_of_training_step": milliseconds / (milliseconds + step),
                }
            )
            print(figures[-1])
    return figures


def gpu_milliseconds(run: Callable[[], object]) -> float:
    """The median of several runs."""
    import triton

    return float(triton.testing.do_bench(run, warmup=100, rep=500, return_mode="median"))


def bytes_read(transitions: Transitions, output: Tensor) -> float:
    """What the recursions have to read and write, if nothing stays in a cache: for each transition
    the probabilities of all sequences, each way; for rows and pdfs a few numbers each."""
    frames, sequences, pdfs = output.shape
    numbers = 2 * len(transitions.probs) + 10 * transitions.num_rows + 6 * pdfs
    return float(frames * sequences * numbers * FLOAT)


def training_step(device: torch.device, sequences: int, frames: int) -> Callable[[], object]:
    """Forward and backward of a TDNN-F of 4.3 M parameters on as many frames, without an update."""
    module = nnet.compile(nnet.build(XCONFIG)).train().to(device)
    request = module.chunk_request(3 * frames, subsampling=3)
    features = torch.randn(sequences, dict(request.inputs)["input"].count, 40, device=device)
    inputs = {"input": features, "ivector": torch.randn(sequences, 1, 100, device=device)}

    def step() -> None:
        module.zero_grad()
        module(inputs, request)["output"].sum().backward()

    return step


if __name__ == "__main__":
    main()
