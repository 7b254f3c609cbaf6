"""Kernels of `nnet.kernels.softmax.reference`: a program takes a row, in blocks of columns.

Both are bound by memory: forward reads the rows once, backward reads and writes them once.
"""

from __future__ import annotations

import torch
from torch import Tensor

from nnet.kernels.gpu import Configuration, Specimen, bucket, kernel, operator, tl

CONFIGURATIONS = (
    Configuration({"BLOCK": 2048}, warps=4),
    Configuration({"BLOCK": 4096}, warps=8),
    Configuration({"BLOCK": 1024}, warps=4),
)
"""16 elements a thread, and rows of 2,000 to 6,000 pdfs in a few blocks."""

_NUMBERS = {"z": torch.float32, "mass": torch.float32}
_FORWARD = {**_NUMBERS, "objective": torch.float32, "best": torch.int64}
_BACKWARD = {**_NUMBERS, "gradient": torch.float32}
_TARGETS = {
    "": {"weights": torch.float32, "ids": torch.int64, "scales": None, "dim": 6000, "pairs": 1},
    ", dense": {
        "weights": torch.float32,
        "ids": None,
        "scales": torch.float32,
        "dim": 6000,
        "pairs": 0,
    },
}
_TYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}
FORWARD = [
    Specimen(name + kind, {**_FORWARD, **targets, "x": dtype})
    for name, dtype in _TYPES.items()
    for kind, targets in _TARGETS.items()
]
BACKWARD = [
    Specimen(name + kind, {**_BACKWARD, **targets, "x": dtype, "result": dtype})
    for name, dtype in _TYPES.items()
    for kind, targets in _TARGETS.items()
]


@kernel(configurations=CONFIGURATIONS, interpreted={"BLOCK": 64}, specimens=FORWARD)
def _forward(x, z, mass, weights, ids, scales, objective, best, dim, pairs, BLOCK: tl.constexpr):
    """For one row of `x` (rows, dim): z = log(sum(exp(x))), the sum of its weights, sum_k
    weight_k (x_k - z), and the column of the largest x. Without `ids` the weights are those of
    all columns."""
    row = tl.program_id(0).to(tl.int64)
    x += row * dim
    column = tl.arange(0, BLOCK)
    largest = tl.full([BLOCK], float("-inf"), tl.float32)  # of each lane
    place = tl.zeros([BLOCK], tl.int32)
    total = tl.zeros([BLOCK], tl.float32)  # of exp(x - largest)
    product = tl.zeros([BLOCK], tl.float32)
    weighed = tl.zeros([BLOCK], tl.float32)
    for start in range(0, dim, BLOCK):
        inside = start + column < dim
        values = tl.load(x + start + column, mask=inside, other=float("-inf")).to(tl.float32)
        larger = values > largest
        place = tl.where(larger, start + column, place)
        now = tl.where(larger, values, largest)
        reference = tl.where(now == float("-inf"), 0.0, now)
        total = total * tl.exp(largest - reference) + tl.exp(values - reference)
        largest = now
        if ids is None:
            weight = tl.load(weights + row * dim + start + column, mask=inside, other=0.0)
            product += weight * tl.where(inside, values, 0.0)
            weighed += weight
    top = tl.max(largest, axis=0)
    reference = tl.where(top == float("-inf"), 0.0, top)
    log_sum = reference + tl.log(tl.sum(total * tl.exp(largest - reference), axis=0))
    all_weights = tl.sum(weighed, axis=0)
    log_likelihood = tl.sum(product, axis=0) - log_sum * all_weights
    if ids is not None:
        for pair in range(pairs):
            wanted = tl.load(x + tl.load(ids + row * pairs + pair)).to(tl.float32)
            one = tl.load(weights + row * pairs + pair)
            log_likelihood += one * (wanted - log_sum)
            all_weights += one
    if scales is not None:
        log_likelihood *= tl.load(scales + row)
        all_weights *= tl.load(scales + row)
    tl.store(z + row, log_sum)
    tl.store(mass + row, all_weights)
    tl.store(objective + row, log_likelihood)
    tl.store(best + row, tl.min(tl.where(largest == top, place, dim), axis=0).to(tl.int64))


@kernel(configurations=CONFIGURATIONS[:1], interpreted={"BLOCK": 64}, specimens=BACKWARD)
def _backward(x, z, mass, weights, ids, scales, gradient, result, dim, pairs, BLOCK: tl.constexpr):
    """`result` may be `x`: each block is read before it is written, by the same program. So it
    cannot be run again, and is not tuned."""
    row = tl.program_id(0).to(tl.int64)
    x += row * dim
    result += row * dim
    column = tl.arange(0, BLOCK)
    log_sum = tl.load(z + row)
    scale = tl.load(gradient + row).to(tl.float32)
    total = tl.load(mass + row) * scale
    if scales is not None:
        scale *= tl.load(scales + row)
    for start in range(0, dim, BLOCK):
        inside = start + column < dim
        values = tl.load(x + start + column, mask=inside, other=0.0).to(tl.float32)
        derivative = -total * tl.exp(values - log_sum)
        if ids is None:
            weight = tl.load(weights + row * dim + start + column, mask=inside, other=0.0)
            derivative += weight * scale
        else:
            for pair in range(pairs):
                weight = tl.load(weights + row * pairs + pair) * scale
                derivative += tl.where(
                    start + column == tl.load(ids + row * pairs + pair), weight, 0.0
                )
        tl.store(result + start + column, derivative, mask=inside)


def _fake_forward(
    x: Tensor, weights: Tensor, ids: Tensor | None, scales: Tensor | None
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    rows = x.shape[:1]
    objective, z, mass = (x.new_empty(rows, dtype=torch.float32) for _ in range(3))
    return objective, z, mass, x.new_empty(rows, dtype=torch.int64)


def _contiguous(tensor: Tensor | None) -> Tensor | None:
    return None if tensor is None else tensor.contiguous()


@operator(
    "log_likelihood(Tensor x, Tensor weights, Tensor? ids, Tensor? scales) "
    "-> (Tensor, Tensor, Tensor, Tensor)",
    _fake_forward,
)
def log_likelihood_forward(
    x: Tensor, weights: Tensor, ids: Tensor | None, scales: Tensor | None
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The objective of rows `x` (rows, dim) under weighted targets, each row's sum_k weight_k log
    softmax(x)_k, times its scale if there are scales.

    Returns:
        (rows,) each: objective, z = log(sum(exp(x))), sum of weights times scale, and the column of
        the largest x.
    """
    objective, z, mass, best = _fake_forward(x, weights, ids, scales)
    if len(x):
        _forward(
            lambda _: (len(x),),
            like=(x.dtype, bucket(x.shape[1]), ids is None),
            x=x.contiguous(),
            z=z,
            mass=mass,
            weights=weights.contiguous(),
            ids=_contiguous(ids),
            scales=_contiguous(scales),
            objective=objective,
            best=best,
            dim=x.shape[1],
            pairs=0 if ids is None else ids.shape[1],
        )
    return objective, z, mass, best


@operator(
    "log_likelihood_backward(Tensor x, Tensor z, Tensor mass, Tensor weights, Tensor? ids, "
    "Tensor? scales, Tensor gradient, Tensor(a!) result) -> ()",
    lambda x, z, mass, weights, ids, scales, gradient, result: None,
)
def log_likelihood_backward(
    x: Tensor,
    z: Tensor,
    mass: Tensor,
    weights: Tensor,
    ids: Tensor | None,
    scales: Tensor | None,
    gradient: Tensor,
    result: Tensor,
) -> None:
    """Writes the derivative with respect to `x` (rows, dim) to `result`: for each row, gradient
    (weight_k - mass softmax(x)_k). `x` and `result` are contiguous, and may be the same."""
    if len(x):
        _backward(
            lambda _: (len(x),),
            x=x,
            z=z,
            mass=mass,
            weights=weights.contiguous(),
            ids=_contiguous(ids),
            scales=_contiguous(scales),
            gradient=gradient.contiguous(),
            result=result,
            dim=x.shape[1],
            pairs=0 if ids is None else ids.shape[1],
        )
