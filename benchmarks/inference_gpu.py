"""Inference on a GPU: a TDNN-F block, convolutions, normalisation, a network of 20.7 M parameters.

The TDNN-F block (1536/160, stride 3) against cuBLAS on rows that were spliced beforehand, cuDNN's
conv1d, and inductor with max-autotune; TimeHeightConvolution against cuDNN with channels last;
ReLU, batch-norm of a minibatch and a bypass against the bandwidth of copies; the whole network as a
CUDA graph against its plain module, compiled by inductor. In TF32 and BF16. Outputs are compared
before anything is timed.

    python -m benchmarks.inference_gpu [--precisions tf32 bf16]
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Mapping

import torch
from torch import Tensor
from torch.nn import functional

import nnet
from benchmarks.harness import Row, save
from benchmarks.nets import NETS, as_ours
from benchmarks.plain_layers import FactoredLayer
from nnet.kernels.convolution.geometry import Image, Taps
from nnet.kernels.convolution.reference import image_convolution
from nnet.kernels.normalization.batch_norm import batch_norm
from nnet.kernels.windows.windows import Windows
from nnet.plan.cost import Cost, plan_cost
from nnet.plan.layout import bind
from nnet.runtime.device import machine_here

Run = Callable[[], Tensor]

TOLERANCE = {"tf32": 5e-3, "bf16": 3e-2}
DIM, BOTTLENECK, STRIDE = 1536, 160, 3
ROWS = {3200: 50, 9600: 150, 19200: 300}
"""Rows of 64 sequences, and frames of each."""

CONVOLUTIONS = ((40, 6, 48), (40, 48, 48), (20, 48, 64), (20, 64, 64), (10, 64, 128))
"""Heights, filters in, filters out."""

BLOCK = f"""
input name=input dim={DIM}
tdnnf-layer name=tdnnf1 dim={DIM} bottleneck-dim={BOTTLENECK} time-stride={STRIDE}
output name=output input=tdnnf1
"""


def main() -> None:
    """Prints rows and writes results/inference_gpu.json; says so where there is no GPU."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--precisions", nargs="+", choices=TOLERANCE, default=["tf32", "bf16"])
    precisions = parser.parse_args().precisions
    if not torch.cuda.is_available():
        print("not measured: there is no CUDA device")
        return
    torch.set_float32_matmul_precision("high")
    torch.backends.cudnn.allow_tf32 = True
    torch.backends.cudnn.benchmark = True
    torch.manual_seed(0)
    rows: list[Row] = []
    with torch.no_grad():
        for precision in precisions:
            for measured in (blocks, convolutions, normalization):
                for row in measured(precision):
                    print(row, flush=True)
                    rows.append(row)
        whole, figures = network()
        print(*whole, figures, sep="\n")
    save("inference_gpu", rows + whole, gpu=torch.cuda.get_device_name(), figures=figures)


def blocks(precision: str) -> list[Row]:
    """The TDNN-F block at test time."""
    network = _with_statistics(nnet.build(BLOCK))
    ours = nnet.compile(network, test_mode=True, kernels="triton", cuda_graph=True)
    plain = FactoredLayer(network, "tdnnf1", 0.66).eval().cuda()
    dtype = _dtype(precision)
    ours, plain = ours.cuda().to(dtype), plain.to(dtype)
    rows = []
    for count, frames in ROWS.items():
        request = ours.chunk_request(frames)
        rows_in_time = torch.randn(frames + 2 * STRIDE, 64, DIM, device="cuda", dtype=dtype)
        given = rows_in_time.transpose(0, 1)  # as inside of our networks
        x = given.contiguous()  # as peers have it
        tuned = torch.compile(plain, mode="max-autotune", dynamic=False)
        cost = plan_cost(ours.plan, bind(ours.plan, request, exact=False), 64)
        rows += _rows(
            f"TDNN-F block {DIM}/{BOTTLENECK}, {precision}",
            f"{count} rows",
            lambda given=given, request=request: ours({"input": given}, request)["output"],
            {
                "cuBLAS, spliced before": _spliced_before(plain, x),
                "cuDNN conv1d": _conv1d(plain, x),
                "inductor, max-autotune": lambda tuned=tuned, x=x: tuned(x),
            },
            cost,
            precision,
        )
    return rows


def _spliced_before(plain: FactoredLayer, x: Tensor) -> Run:
    """The block where the splice of its input is already in memory."""
    spliced = torch.cat((x[:, :-STRIDE], x[:, STRIDE:]), dim=-1)

    def run() -> Tensor:
        low = functional.linear(spliced, plain.linear.linear)
        low = torch.cat((low[:, :-STRIDE], low[:, STRIDE:]), dim=-1)
        y = plain.norm(functional.linear(low, plain.affine.linear, plain.affine.bias).relu())
        return y.add_(x[:, STRIDE:-STRIDE], alpha=plain.bypass_scale)

    return run


def _conv1d(plain: FactoredLayer, x: Tensor) -> Run:
    """The block as convolutions over (batch, dim, time)."""
    first, second = (
        affine.linear.unflatten(1, (2, -1)).transpose(1, 2).contiguous()
        for affine in (plain.linear, plain.affine)
    )
    image = x.transpose(1, 2).contiguous()
    norm = plain.norm

    def run() -> Tensor:
        low = functional.conv1d(image, first, dilation=STRIDE)
        y = functional.conv1d(low, second, plain.affine.bias, dilation=STRIDE).relu_()
        y = functional.batch_norm(y, norm.running_mean, norm.running_var, eps=norm.eps)
        y.add_(image[..., STRIDE:-STRIDE], alpha=plain.bypass_scale)
        return y.transpose(1, 2)

    return run


def convolutions(precision: str) -> list[Row]:
    """TimeHeightConvolution with 3 x 3 filters on 64 sequences of 150 frames."""
    rows = []
    dtype = _dtype(precision)
    for height, channels, filters in CONVOLUTIONS:
        x = torch.randn(152, 64, height * channels, device="cuda", dtype=dtype)
        weight = torch.randn(filters, 9 * channels, device="cuda", dtype=dtype) / 3
        bias = torch.randn(filters, device="cuda", dtype=dtype)
        image = Image(channels, height, height, 1)
        taps = Taps(tuple((time, offset) for time in range(3) for offset in (-1, 0, 1)))
        kernel = (
            weight.unflatten(1, (3, 3, channels))
            .permute(0, 3, 1, 2)
            .contiguous(memory_format=torch.channels_last)
        )
        pixels = x.unflatten(-1, (height, channels)).permute(1, 3, 0, 2)
        pixels = pixels.contiguous(memory_format=torch.channels_last)

        def ours(x=x, weight=weight, bias=bias, image=image, taps=taps) -> Tensor:
            windows = Windows(150, 0, 1, 1)
            return image_convolution(x, weight, bias, image, taps, windows, implementation="triton")

        def cudnn(pixels=pixels, kernel=kernel, bias=bias) -> Tensor:
            made = functional.conv2d(pixels, kernel, bias, padding=(0, 1))
            return made.permute(2, 0, 3, 1).flatten(-2)

        outputs = 150 * 64 * height * filters
        cost = Cost(2 * 9 * channels * outputs, x.element_size() * (x.numel() + outputs), 1)
        rows += _rows(
            f"TimeHeightConvolution, {precision}",
            f"{height} x {channels} -> {filters}, 9600 frames",
            ours,
            {"cuDNN, channels last": cudnn},
            cost,
            precision,
        )
    return rows


def normalization(precision: str) -> list[Row]:
    """ReLU, batch-norm by the minibatch's statistics, plus a bypass, on 19200 rows."""
    dtype = _dtype(precision)
    x, bypass = (torch.randn(19200, DIM, device="cuda", dtype=dtype) for _ in range(2))
    out = torch.empty_like(x)

    def run(implementation: str) -> Tensor:
        return batch_norm(
            x, 1.0, 1e-3, relu=True, bypass=bypass, bypass_scale=0.66, implementation=implementation
        )[0]

    # x is read for the statistics and again for the result
    cost = Cost(8 * x.numel(), 4 * x.numel() * x.element_size(), 2)
    rows = _rows(
        f"ReLU + batch-norm + bypass, {precision}",
        "19200 rows of 1536",
        lambda: run("triton"),
        {"plain torch": lambda: run("reference")},
        cost,
        precision,
    )
    copied = _seconds(lambda: out.copy_(x)) * 2  # as many bytes: two copies
    return [*rows, Row(rows[0].subject, rows[0].shape, 0, rows[0].ours, "copies", copied)]


def network() -> tuple[list[Row], Mapping[str, float]]:
    """Sixty-four utterances of 15 seconds through the network of 20.7 M parameters, in TF32."""
    net = NETS["tdnnf"]
    built = net.build()
    ours = nnet.compile(built, test_mode=True, outputs=("output",), cuda_graph=True).cuda()
    plain = net.plain(built).eval().cuda()
    request = net.request(ours, 1500)
    inputs = tuple(x.cuda() for x in net.inputs(request, 64))
    tuned = torch.compile(plain, mode="max-autotune", dynamic=False)
    cost = plan_cost(ours.plan, bind(ours.plan, request, exact=False), 64)
    rows = _rows(
        net.title,
        "64 x 15 s",
        lambda: ours(as_ours(inputs), request)["output"],
        {"torch, eager": lambda: plain(*inputs), "inductor, max-autotune": lambda: tuned(*inputs)},
        cost,
        "tf32",
    )
    seconds = rows[0].ours
    peak = machine_here().flops["tf32"]
    return rows, {
        "audio seconds per second": 64 * 15 / seconds,
        "share of the TF32 peak": cost.flops / seconds / peak,
    }


def _rows(
    subject: str, shape: str, ours: Run, peers: Mapping[str, Run], cost: Cost, precision: str
) -> list[Row]:
    """Rows for each peer, if all agree."""
    expected = ours().float()
    for name, peer in peers.items():
        error = float(torch.dist(expected, peer().float()) / torch.linalg.vector_norm(expected))
        if not error < TOLERANCE[precision]:
            sys.exit(f"{subject}: ours differs from {name} by {error:.1e}; nothing is reported")
    machine = machine_here()
    known = "tf32" if precision == "tf32" else "bf16"
    bound, least = cost.bound(machine, known), cost.seconds(machine, known)
    seconds = _seconds(ours)
    return [
        Row(subject, shape, 0, seconds, name, _seconds(peer), bound, least)
        for name, peer in peers.items()
    ]


def _seconds(run: Callable[[], object], repeats: int = 50) -> float:
    """The median time between two events of the device, after a warm-up."""
    for _ in range(5):
        run()
    times = []
    for _ in range(repeats):
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        start.record()
        run()
        end.record()
        end.synchronize()
        times.append(start.elapsed_time(end) / 1000)
    return sorted(times)[repeats // 2]


def _dtype(precision: str) -> torch.dtype:
    return torch.bfloat16 if precision == "bf16" else torch.float32


def _with_statistics(network: nnet.Network) -> nnet.Network:
    """The network with batch-norm statistics, as training leaves them."""
    module = nnet.compile(network, kernels="reference").train()
    module({"input": torch.randn(4, 100, DIM)})
    return module.to_network()


if __name__ == "__main__":
    main()
