"""Training on a CPU: a TDNN-F of 4.3 M parameters, 64 chunks of 150 frames a minibatch.

The shape is that of Kaldi's mini_librispeech recipe (1j): 768 units, bottlenecks of 96, prefinal
192, output at a third of the frame rate; the objective is frame-level cross-entropy. Ours with
natural gradient and max-change, and the same module with AdamW, against the net hand-written in
plain torch with AdamW, with the time that the arithmetic takes at the machine's sgemm peak. The
row LF-MMI is natural gradient again, with that objective and a small denominator graph; the row
bf16 is what `nnet train --bf16` does, where the processor has units for it.

    python -m benchmarks.training_cpu [--chunks 64] [--threads 1 2]
"""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional

import nnet
from benchmarks.chain_graphs import denominator_graph, supervision
from benchmarks.harness import Row, best_seconds, save, sgemm_peak
from benchmarks.plain_tdnnf import PlainTdnnf
from benchmarks.training_parts import parts
from nnet.data.chain.minibatch import ChainTargets
from nnet.data.chain.supervision_graphs import numerator_graphs
from nnet.data.minibatch import Minibatch
from nnet.plan import ir
from nnet.plan.cost import operation_cost
from nnet.plan.layout import bind
from nnet.runtime.compiled import CompiledNetwork
from nnet.runtime.device import has_bf16
from nnet.training.lfmmi.objective import ChainObjective
from nnet.training.lfmmi.options import ChainOptions
from nnet.training.natural_gradient.online import INITIAL_UPDATES
from nnet.training.natural_gradient.optimizer import NaturalGradientSGD
from nnet.training.objectives import loss

FRAMES = 150
PDFS = 1024
PERIOD = 4  # minibatches from one update of natural gradient's estimates to the next
STRIDES = (1, 1, 1, 0, 3, 3, 3, 3, 3, 3, 3, 3)

XCONFIG = "\n".join(
    (
        "input dim=100 name=ivector",
        "input dim=40 name=input",
        "affine-layer name=lda dim=220 input=Append(-1,0,1,ReplaceIndex(ivector, t, 0))",
        "relu-batchnorm-layer name=tdnn1 dim=768",
        *(
            f"tdnnf-layer name=tdnnf{n} bypass-scale=0.66 dim=768 bottleneck-dim=96 time-stride={s}"
            for n, s in enumerate(STRIDES, 2)
        ),
        "linear-component name=prefinal-l dim=192 orthonormal-constraint=-1.0",
        "prefinal-layer name=prefinal-chain small-dim=192 big-dim=768",
        f"output-layer name=output dim={PDFS}",
    )
)


def main() -> None:
    """Prints rows and writes results/training_cpu.json."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--chunks", type=int, default=64, help="chunks in a minibatch")
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--repeats", type=int, default=5)
    arguments = parser.parse_args()
    network = nnet.build(XCONFIG)
    rows, shares = [], {}
    for threads in arguments.threads:
        torch.set_num_threads(threads)
        found, share = measure(network, arguments.chunks, threads, arguments.repeats)
        rows += found
        shares[threads] = share
        for row in found:
            print(row)
        print("  " + "   ".join(f"{name} {value:.3g}" for name, value in share.items()))
    save("training_cpu", rows, figures=shares)


def measure(
    network: nnet.Network, chunks: int, threads: int, repeats: int
) -> tuple[list[Row], dict[str, float]]:
    """Rows for a number of threads; frames a second, natural gradient's share of a step, and the
    share of the sgemm peak that the arithmetic of the plain plan comes to, alone and with natural
    gradient's own. (On a processor with matrix units products are not sgemm, if as exact: see
    `nnet.kernels.affine.product`.)"""
    module = nnet.compile(network).train()
    request = module.chunk_request(FRAMES, subsampling=3)
    features = torch.randn(chunks, dict(request.inputs)["input"].count, 40)
    inputs = {"input": features, "ivector": torch.randn(chunks, 1, 100)}
    targets = torch.randint(0, PDFS, (chunks, FRAMES // 3))
    seconds = {"lfmmi": _seconds_in_turns([_lfmmi_step(inputs, chunks)], repeats)[0]}
    without = nnet.compile(network).train()
    steps = [
        _step(module, NaturalGradientSGD(module), inputs, request, targets),
        _step(
            without, NaturalGradientSGD(without, natural_gradient=False), inputs, request, targets
        ),
    ]
    seconds["ng"], seconds["no ng"] = _seconds_in_turns(steps, repeats)
    if has_bf16():
        module = nnet.compile(network).train()
        optimizer = NaturalGradientSGD(module)
        step = _step(module, optimizer, inputs, request, targets, bf16=True)
        seconds["bf16"] = _seconds_in_turns([step], repeats)[0]
    module = nnet.compile(network).train()
    adamw = torch.optim.AdamW(module.parameters(), fused=True)
    seconds["adamw"] = best_seconds(_step(module, adamw, inputs, request, targets), repeats)
    plain = PlainTdnnf(network)
    peer = torch.optim.AdamW(plain.parameters(), fused=True)
    seconds["plain"] = best_seconds(_plain_step(plain, peer, inputs, targets), repeats)
    shape, name = f"{chunks} x {FRAMES} frames", "plain torch, all frames, AdamW"
    rows = [
        Row("natural gradient", shape, threads, seconds["ng"], name, seconds["plain"]),
        Row("AdamW", shape, threads, seconds["adamw"], name, seconds["plain"]),
        Row("natural gradient, LF-MMI", shape, threads, seconds["lfmmi"], name, seconds["plain"]),
    ]
    if "bf16" in seconds:
        rows.append(
            Row("natural gradient, bf16", shape, threads, seconds["bf16"], name, seconds["plain"])
        )
    flop = 3 * _forward_flop(module, request, chunks)
    more = _natural_gradient_flop(module, request, chunks)
    peak = sgemm_peak()
    figures = {
        "frames_per_second": chunks * FRAMES / seconds["ng"],
        "lfmmi_frames_per_second": chunks * FRAMES / seconds["lfmmi"],
        **(
            {"bf16_frames_per_second": chunks * FRAMES / seconds["bf16"]}
            if "bf16" in seconds
            else {}
        ),
        "natural_gradient_share": 1.0 - seconds["no ng"] / seconds["ng"],
        "share_of_sgemm_peak": flop / peak / seconds["ng"],
        "share_of_sgemm_peak_with_natural_gradients_products": (flop + more) / peak / seconds["ng"],
        "gflop": flop / 1e9,
        "natural_gradients_gflop": more / 1e9,
    }
    spent = parts(nnet.compile(network).train(), request, lambda: (inputs, targets), PERIOD)
    return rows, {**figures, **{f"{name}_seconds": s for name, s in spent.items()}}


def _seconds_in_turns(steps: list[Callable[[], None]], repeats: int) -> list[float]:
    """Seconds of each step: the best mean of four, over which natural gradient's work varies, after
    its first ten minibatches; in turns, so that a busy machine slows all of them."""
    for _ in range(INITIAL_UPDATES + 1):
        steps[0]()
    best = [math.inf] * len(steps)
    for _ in range(repeats):
        for number, step in enumerate(steps):
            started = time.perf_counter()
            for _ in range(PERIOD):
                step()
            best[number] = min(best[number], (time.perf_counter() - started) / PERIOD)
    return best


def _step(
    module: CompiledNetwork,
    optimizer: torch.optim.Optimizer,
    inputs: dict[str, Tensor],
    request: nnet.Request,
    targets: Tensor,
    *,
    bf16: bool = False,
) -> Callable[[], None]:
    def step() -> None:
        optimizer.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            outputs = module(inputs, request)["output"].float()
        functional.nll_loss(outputs.flatten(0, 1), targets.flatten(), reduction="sum").backward()
        optimizer.step()

    return step


def _lfmmi_step(inputs: dict[str, Tensor], chunks: int) -> Callable[[], None]:
    """A step of LF-MMI training: chunks that are aligned with some tolerance, and a graph of 300
    states and 3000 arcs."""
    network = nnet.build(XCONFIG.replace(f"dim={PDFS}", f"dim={PDFS} include-log-softmax=false"))
    module = nnet.compile(network).train()
    request = module.chunk_request(FRAMES, subsampling=3)
    frames = FRAMES // 3
    graphs = numerator_graphs(supervision(chunks, frames, PDFS))
    targets = {"output": ChainTargets(graphs, 1.0, chunks, frames)}
    minibatch = Minibatch(request, inputs, targets, chunks)
    objective = ChainObjective(denominator_graph(300, 3000, PDFS), ChainOptions())
    optimizer = NaturalGradientSGD(module)

    def step() -> None:
        optimizer.zero_grad()
        loss(objective(module(inputs, request), minibatch)).backward()
        optimizer.step(sequences=chunks)

    return step


def _plain_step(
    plain: nn.Module,
    optimizer: torch.optim.Optimizer,
    inputs: dict[str, Tensor],
    targets: Tensor,
) -> Callable[[], None]:
    def step() -> None:
        optimizer.zero_grad()
        outputs = plain(inputs["input"], inputs["ivector"][:, 0]).log_softmax(-1)
        functional.nll_loss(outputs.flatten(0, 1), targets.flatten(), reduction="sum").backward()
        optimizer.step()

    return step


def _forward_flop(module: CompiledNetwork, request: nnet.Request, chunks: int) -> float:
    """Multiplications and additions of the affine transforms of a forward pass."""
    layout = bind(module.plan, request, exact=True)
    return float(
        sum(
            operation_cost(module.plan, layout, value, chunks).flops
            for value, operation in enumerate(module.plan.operations)
            if isinstance(operation, ir.SplicedAffine)
        )
    )


def _natural_gradient_flop(module: CompiledNetwork, request: nnet.Request, chunks: int) -> float:
    """Multiplications and additions of natural gradient, for inputs and derivatives x alike: their
    projections W x, (W x)(W x)', and in one of PERIOD minibatches (W x) x'."""
    layout = bind(module.plan, request, exact=True)
    total = 0.0
    for value, operation in enumerate(module.plan.operations):
        if isinstance(operation, ir.SplicedAffine):
            spec = module.plan.components[operation.component]
            dim, columns = spec.linear.shape
            for size, most in (
                (columns + (spec.bias is not None), spec.rank_in),
                (dim, spec.rank_out),
            ):
                rank = min(most, size - 1)
                products = rank * (size * (1.0 + 1.0 / PERIOD) + rank)
                total += 2.0 * chunks * layout.times[value].count * products
    return total


if __name__ == "__main__":
    main()
