"""Inference on a CPU: four networks, utterances of 15 seconds and chunks of 150 frames.

Ours against the same network hand-written in plain torch, given the same frames: eager, compiled by
inductor, and in onnxruntime. The peers, too, leave out frames that the output does not need. All
outputs are compared before anything is timed. The bound is what the machine's measured speeds
(matrix products in float32, copies) allow for each step of our plan.

    python -m benchmarks.inference_cpu {vosk_ko,tdnnf,cnn_tdnnf,xvector} [--threads 1 2]
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from types import MappingProxyType

import torch
from torch import Tensor, nn

import nnet
from benchmarks.harness import Row, best_in_turns, copy_bandwidth, save, sgemm_peak
from benchmarks.nets import NETS, Net, as_ours
from benchmarks.peers import eager, inductor, onnx_session
from nnet.kernels.affine.packed import has_bf16_units
from nnet.plan.cost import operation_cost, plan_cost
from nnet.plan.layout import bind
from nnet.plan.machine import Machine
from nnet.runtime.compiled import CompiledNetwork

FRAMES_PER_SECOND = 100
LENGTHS = {1500: "15 s", 150: "150 frames"}
ROUNDS = {1500: 5, 150: 15}
BF16 = "ours, bf16"
"""Measured where the processor has matrix units for it, against ours in float32."""

Figures = dict[str, float]


def main() -> None:
    """Measures one network; prints rows and writes results/inference_cpu_NAME.json."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("net", choices=NETS)
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    arguments = parser.parse_args()
    torch.compiler.config.force_disable_caches = True  # compilation is timed
    torch.manual_seed(0)
    net = NETS[arguments.net]
    network = net.build()
    plain = net.plain(network).eval()
    rows: list[Row] = []
    figures: dict[str, Figures] = {}
    with torch.no_grad():
        for threads in arguments.threads:
            torch.set_num_threads(threads)
            machine = measured_machine()
            for frames in LENGTHS:
                found, numbers = measure(net, network, plain, frames, threads, machine)
                rows += found
                figures[f"{LENGTHS[frames]}, threads {threads}"] = numbers
    save(f"inference_cpu_{arguments.net}", rows, figures=figures)


def measured_machine() -> Machine:
    """This machine with the present number of threads."""
    peak, bandwidth = sgemm_peak(), copy_bandwidth()
    print(f"sgemm peak {peak / 1e9:.0f} GFLOP/s, copies {bandwidth / 1e9:.1f} GB/s")
    speeds = MappingProxyType({"fp32": peak, "tf32": peak, "bf16": peak})
    return Machine("cpu", speeds, bandwidth, 0.0)


def measure(
    net: Net, network: nnet.Network, plain: nn.Module, frames: int, threads: int, machine: Machine
) -> tuple[list[Row], Figures]:
    """Rows for a length and number of threads; times of compilation and shares of the peak."""
    start = time.perf_counter()
    ours = nnet.compile(network, test_mode=True, outputs=("output",))
    request = net.request(ours, frames)
    inputs = net.inputs(request, 1)
    ours(as_ours(inputs), request)
    compiled = time.perf_counter() - start
    runs: dict[str, Callable[[], object]] = {
        "ours": lambda: ours(as_ours(inputs), request)["output"],
        "torch, eager": eager(plain, inputs),
    }
    if has_bf16_units():
        rounded = nnet.compile(network, test_mode=True, outputs=("output",), bf16=True)
        runs[BF16] = lambda: rounded(as_ours(inputs), request)["output"]
    start = time.perf_counter()
    runs["torch.compile, inductor"] = inductor(plain, inputs)
    inductor_seconds = time.perf_counter() - start
    runs["onnxruntime"] = onnx_session(plain, inputs, threads)
    compare({name: run() for name, run in runs.items()})
    seconds = best_in_turns(runs, ROUNDS[frames])
    in_bf16 = seconds.pop(BF16, None)
    least = bounds(ours, request, machine)
    bound = max(least, key=lambda name: least[name])
    rows = [
        Row(
            net.title,
            LENGTHS[frames],
            threads,
            seconds["ours"],
            peer,
            theirs,
            bound,
            sum(least.values()),
        )
        for peer, theirs in seconds.items()
        if peer != "ours"
    ]
    if in_bf16 is not None:
        subject = f"{net.title}, bf16"
        rows.append(
            Row(subject, LENGTHS[frames], threads, in_bf16, "ours, float32", seconds["ours"])
        )
    flops = plan_cost(ours.plan, bind(ours.plan, request, exact=False)).flops
    figures = {
        "real_time_factor": seconds["ours"] * FRAMES_PER_SECOND / frames,
        "share_of_sgemm_peak": flops / seconds["ours"] / machine.flops["fp32"],
        "gflop": flops / 1e9,
        "compile_seconds": compiled,
        "inductor_compile_seconds": inductor_seconds,
    }
    for row in rows:
        print(row)
    print("  " + "  ".join(f"{name} {value:.3g}" for name, value in figures.items()), flush=True)
    return rows, figures


def bounds(ours: CompiledNetwork, request: nnet.Request, machine: Machine) -> dict[str, float]:
    """The seconds that steps bound by arithmetic, and those bound by memory, take at least."""
    layout = bind(ours.plan, request, exact=False)
    least = {"arithmetic": 0.0, "memory": 0.0}
    for value in range(len(ours.plan.operations)):
        cost = operation_cost(ours.plan, layout, value)
        if cost.launches:
            least[cost.bound(machine)] += cost.seconds(machine)
    return least


def compare(results: dict[str, object]) -> None:
    """Stops if two implementations of the same network disagree."""
    outputs = {name: _tensor(result) for name, result in results.items()}
    reference = outputs["torch, eager"]
    for name, output in outputs.items():
        error = float(torch.dist(output, reference) / torch.linalg.vector_norm(reference))
        if output.shape != reference.shape or not error < 1e-4:
            sys.exit(f"{name} differs from plain torch by {error:.1e}; nothing is reported")


def _tensor(result: object) -> Tensor:
    if isinstance(result, list):  # of arrays, onnxruntime's
        return torch.from_numpy(result[0])
    assert isinstance(result, Tensor)
    return result


if __name__ == "__main__":
    main()
