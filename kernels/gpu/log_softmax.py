"""Kernels of `nnet.kernels.log_softmax`: a program takes a row, in blocks of columns.

Both are bound by memory: forward reads the rows once, backward reads and writes them once.
"""

from __future__ import annotations

import torch
from torch import Tensor

from nnet.kernels.gpu.support import Configuration, Specimen, bucket, kernel, operator, tl

CONFIGURATIONS = (
    Configuration({"BLOCK": 2048}, warps=4),
    Configuration({"BLOCK": 4096}, warps=8),
    Configuration({"BLOCK": 1024}, warps=4),
)
"""16 elements a thread, and rows of 2,000 to 6,000 pdfs in a few blocks."""

_ROW = {
    "z": torch.float32,
    "ids": torch.int64,
    "weights": torch.float32,
    "dim": 6000,
    "pairs": 1,
}
FORWARD = [
    Specimen(name, {**_ROW, "x": dtype, "objective": torch.float32, "best": torch.int64})
    for name, dtype in (("fp32", torch.float32), ("bf16", torch.bfloat16))
]
BACKWARD = [
    Specimen(name, {**_ROW, "x": dtype, "target": dtype, "gradient": torch.float32})
    for name, dtype in (("fp32", torch.float32), ("bf16", torch.bfloat16))
]


@kernel(configurations=CONFIGURATIONS, interpreted={"BLOCK": 64}, specimens=FORWARD)
def _forward(x, z, ids, weights, objective, best, dim, pairs, BLOCK: tl.constexpr):
    row = tl.program_id(0).to(tl.int64)
    x += row * dim
    column = tl.arange(0, BLOCK)
    largest = tl.full([BLOCK], float("-inf"), tl.float32)  # of each lane
    place = tl.zeros([BLOCK], tl.int32)
    total = tl.zeros([BLOCK], tl.float32)  # of exp(x - largest)
    for start in range(0, dim, BLOCK):
        inside = start + column < dim
        values = tl.load(x + start + column, mask=inside, other=float("-inf")).to(tl.float32)
        larger = values > largest
        place = tl.where(larger, start + column, place)
        now = tl.where(larger, values, largest)
        reference = tl.where(now == float("-inf"), 0.0, now)
        total = total * tl.exp(largest - reference) + tl.exp(values - reference)
        largest = now
    top = tl.max(largest, axis=0)
    reference = tl.where(top == float("-inf"), 0.0, top)
    log_sum = reference + tl.log(tl.sum(total * tl.exp(largest - reference), axis=0))
    found = tl.zeros([], tl.float32)
    for pair in range(pairs):
        wanted = tl.load(x + tl.load(ids + row * pairs + pair)).to(tl.float32)
        found += tl.load(weights + row * pairs + pair) * (wanted - log_sum)
    tl.store(z + row, log_sum)
    tl.store(objective + row, found)
    tl.store(best + row, tl.min(tl.where(largest == top, place, dim), axis=0).to(tl.int64))


@kernel(configurations=CONFIGURATIONS[:1], interpreted={"BLOCK": 64}, specimens=BACKWARD)
def _backward(x, z, ids, weights, gradient, target, dim, pairs, BLOCK: tl.constexpr):
    """`target` may be `x`: each block is read before it is written, by the same program. So it
    cannot be run again, and is not tuned."""
    row = tl.program_id(0).to(tl.int64)
    x += row * dim
    target += row * dim
    log_sum = tl.load(z + row)
    scale = tl.load(gradient + row).to(tl.float32)
    total = tl.zeros([], tl.float32)
    for pair in range(pairs):
        total += tl.load(weights + row * pairs + pair)
    total *= scale
    for start in range(0, dim, BLOCK):
        column = start + tl.arange(0, BLOCK)
        inside = column < dim
        values = tl.load(x + column, mask=inside, other=0.0).to(tl.float32)
        found = -total * tl.exp(values - log_sum)
        for pair in range(pairs):
            weight = tl.load(weights + row * pairs + pair) * scale
            found += tl.where(column == tl.load(ids + row * pairs + pair), weight, 0.0)
        tl.store(target + column, found, mask=inside)


def _fake_forward(x: Tensor, ids: Tensor, weights: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    rows = x.shape[:1]
    numbers = [x.new_empty(rows, dtype=torch.float32) for _ in range(2)]
    return numbers[0], numbers[1], ids.new_empty(rows)


@operator(
    "log_likelihood(Tensor x, Tensor ids, Tensor weights) -> (Tensor, Tensor, Tensor)",
    _fake_forward,
)
def forward(x: Tensor, ids: Tensor, weights: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """`nnet.kernels.log_softmax.forward`."""
    objective, z, best = _fake_forward(x, ids, weights)
    if len(x):
        _forward(
            lambda _: (len(x),),
            like=(x.dtype, bucket(x.shape[1])),
            x=x.contiguous(),
            z=z,
            ids=ids.contiguous(),
            weights=weights.contiguous(),
            objective=objective,
            best=best,
            dim=x.shape[1],
            pairs=ids.shape[1],
        )
    return objective, z, best


@operator(
    "log_likelihood_backward(Tensor x, Tensor z, Tensor ids, Tensor weights, Tensor gradient, "
    "Tensor(a!) target) -> ()",
    lambda x, z, ids, weights, gradient, target: None,
)
def backward(
    x: Tensor, z: Tensor, ids: Tensor, weights: Tensor, gradient: Tensor, target: Tensor
) -> None:
    """`nnet.kernels.log_softmax.backward`; x and `target` are contiguous."""
    if len(x):
        _backward(
            lambda _: (len(x),),
            x=x,
            z=z,
            ids=ids.contiguous(),
            weights=weights.contiguous(),
            gradient=gradient.contiguous(),
            target=target,
            dim=x.shape[1],
            pairs=ids.shape[1],
        )
