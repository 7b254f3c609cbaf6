"""Kernels of `nnet.kernels.normalization.renorm`: one pass over the rows each way."""

from __future__ import annotations

import torch
from torch import Tensor

from nnet.kernels.gpu import Configuration, Specimen, kernel, operator, tl, triton

CONFIGURATIONS = (
    Configuration({"ROWS": 4}, warps=4),  # wide blocks: about 16 elements a thread
    Configuration({"ROWS": 16}, warps=4),  # narrow ones: more rows, so that threads have work
)
"""Bound by memory: all that matters is enough bytes in flight."""

_BLOCK = {"count": 9600, "block_dim": 512, "COLUMNS": 512}
FORWARD = [
    Specimen("fp32", {"x": torch.float32, "y": torch.float32, "rms": 1.0, "LOG": False, **_BLOCK}),
    Specimen("bf16", {"x": torch.bfloat16, "y": torch.bfloat16, "rms": 1.0, "LOG": True, **_BLOCK}),
]
BACKWARD = [
    Specimen(s.name, {**s.arguments, "gradient": s.arguments["x"], "target": s.arguments["x"]})
    for s in FORWARD
]


@kernel(configurations=CONFIGURATIONS, interpreted={"ROWS": 4}, specimens=FORWARD)
def _forward(
    x, y, count, block_dim, rms, LOG: tl.constexpr, COLUMNS: tl.constexpr, ROWS: tl.constexpr
):
    """ROWS blocks of y = x / r, r = max(norm(x) / (rms sqrt(block_dim)), 2**-33), and log(r rms)
    after each if LOG."""
    block = tl.program_id(0) * ROWS + tl.arange(0, ROWS)[:, None].to(tl.int64)  # [ROWS, 1]
    column = tl.arange(0, COLUMNS)[None, :]  # [1, COLUMNS]
    inside = (block < count) & (column < block_dim)
    values = tl.load(x + block * block_dim + column, mask=inside, other=0.0).to(tl.float32)
    power = tl.sum(values * values, 1)[:, None] / (block_dim * rms * rms)  # [ROWS, 1]
    power = tl.maximum(power, 2.0**-66)
    block_at = y + block * (block_dim + LOG)
    tl.store(block_at + column, values * tl.rsqrt(power), mask=inside)
    if LOG:
        tl.store(block_at + block_dim, tl.log(power * rms * rms) * 0.5, mask=block < count)


@kernel(configurations=CONFIGURATIONS, interpreted={"ROWS": 4}, specimens=BACKWARD)
def _backward(
    x,
    gradient,
    target,
    count,
    block_dim,
    rms,
    LOG: tl.constexpr,
    COLUMNS: tl.constexpr,
    ROWS: tl.constexpr,
):
    """ROWS blocks of the derivative with respect to x; where r is at its floor it does not flow
    through r."""
    block = tl.program_id(0) * ROWS + tl.arange(0, ROWS)[:, None].to(tl.int64)  # [ROWS, 1]
    column = tl.arange(0, COLUMNS)[None, :]  # [1, COLUMNS]
    inside = (block < count) & (column < block_dim)
    values = tl.load(x + block * block_dim + column, mask=inside, other=0.0).to(tl.float32)
    of_rows = gradient + block * (block_dim + LOG)
    given = tl.load(of_rows + column, mask=inside, other=0.0).to(tl.float32)
    power = tl.sum(values * values, 1)[:, None] / (block_dim * rms * rms)  # [ROWS, 1]
    varies = power > 2.0**-66
    power = tl.maximum(power, 2.0**-66)
    of_power = -tl.sum(given * values, 1)[:, None] * tl.rsqrt(power)
    if LOG:
        of_power += tl.load(of_rows + block_dim, mask=block < count, other=0.0).to(tl.float32)
    scale = tl.where(varies, of_power / (power * block_dim * rms * rms), 0.0)
    derivative = given * tl.rsqrt(power) + values * scale
    tl.store(target + block * block_dim + column, derivative, mask=inside)


def _fake_forward(x: Tensor, block_dim: int, target_rms: float, add_log_stddev: bool) -> Tensor:
    columns = x.shape[-1] // block_dim * (block_dim + add_log_stddev)
    return x.new_empty((*x.shape[:-1], columns))


@operator(
    "renorm(Tensor x, int block_dim, float target_rms, bool add_log_stddev) -> Tensor",
    fake=_fake_forward,
)
def renorm_forward(x: Tensor, block_dim: int, target_rms: float, add_log_stddev: bool) -> Tensor:
    """nnet3's NormalizeComponent by one launch: each block of `block_dim` columns of `x` scaled to
    root mean square `target_rms`, `nnet.kernels.normalization.renorm.renorm` on a GPU."""
    y = _fake_forward(x, block_dim, target_rms, add_log_stddev)
    _launch(_forward, x, block_dim, target_rms, add_log_stddev, y=y)
    return y


def _fake_backward(x: Tensor, gradient: Tensor, *options: object) -> Tensor:
    return x.new_empty(x.shape)


@operator(
    "renorm_backward(Tensor x, Tensor gradient, int block_dim, float target_rms,"
    " bool add_log_stddev) -> Tensor",
    fake=_fake_backward,
)
def renorm_backward(
    x: Tensor, gradient: Tensor, block_dim: int, target_rms: float, add_log_stddev: bool
) -> Tensor:
    """The derivative with respect to `x`, in its shape, from that with respect to the result of
    `renorm_forward`."""
    target = _fake_backward(x, gradient)
    others = {"gradient": gradient.contiguous(), "target": target}
    _launch(_backward, x, block_dim, target_rms, add_log_stddev, **others)
    return target


def _launch(run, x: Tensor, block_dim: int, rms: float, log: bool, **others: Tensor) -> None:
    count = x.numel() // block_dim
    if count:
        run(
            lambda meta: (triton.cdiv(count, meta["ROWS"]),),
            like=triton.next_power_of_2(block_dim),
            x=x.contiguous(),
            count=count,
            block_dim=block_dim,
            rms=rms,
            LOG=log,
            COLUMNS=triton.next_power_of_2(block_dim),
            **others,
        )
