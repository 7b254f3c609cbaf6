"""Kernels of `nnet.kernels.attention.reference`, one program for some rows (t, b) and a head.

Forward, scores stay in registers: keys and values of the window are read once each. Backward, a
first kernel makes the derivatives of the scores; in a second each stored row collects what the
output times that read it contribute, so that nothing is added to memory twice.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import torch
from torch import Tensor
from torch.utils.weak import WeakIdKeyDictionary

from nnet.kernels.gpu import (
    Configuration,
    Specimen,
    bucket,
    device_function,
    kernel,
    operator,
    tl,
    triton,
)
from nnet.kernels.windows.windows import inverse, resident

CONFIGURATIONS = (
    Configuration({"ROWS": 16}, warps=4),  # 16 rows of a 64-wide key: 8 elements a thread
    Configuration({"ROWS": 32}, warps=4),  # narrow heads
)
COLLECTING = (
    Configuration({"ROWS": 8}, warps=4),  # three tables of sums in registers
    Configuration({"ROWS": 16}, warps=4),  # narrow heads
)
SMALL = {"ROWS": 32}
_HEADS = {
    "batch": 64,
    "heads": 15,
    "key_dim": 40,
    "value_dim": 80,
    "positions": 15,
    "here": 5,
    "key_scale": 0.158,
    "KEY": 64,
    "VALUE": 128,
    "POSITIONS": 16,
}


def _specimens(*rows: str, **others: object) -> list[Specimen]:
    return [
        Specimen(name, {**dict.fromkeys(rows, dtype), **_HEADS, **others})
        for name, dtype in (("fp32", torch.float32), ("bf16", torch.bfloat16))
    ]


@device_function
def _own_rows(count, batch, ROWS: tl.constexpr):
    """Numbers of a program's rows, whether `count` times have them, their times and entries."""
    m = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    valid = m < count * batch
    safe = tl.where(valid, m, 0)
    return m, valid, safe // batch, safe % batch


@device_function
def _head_row(time, entry, head, batch, heads):
    """The number of a row of one head."""
    return (time * batch + entry) * heads + head


@device_function
def _row(stored_row, entry, head, batch, heads, width):
    """Where a head's columns of a row begin."""
    return _head_row(stored_row, entry, head, batch, heads) * width


@device_function
def _column(table, p, POSITIONS: tl.constexpr):
    """Column p of a table in registers."""
    return tl.sum(tl.where(tl.arange(0, POSITIONS)[None, :] == p, table, 0.0), 1)


@kernel(
    configurations=CONFIGURATIONS,
    interpreted=SMALL,
    specimens=_specimens("x", "y", "weights", index=torch.int64, count=150),
)
def _forward(
    x,
    y,
    weights,
    index,
    count,
    batch,
    heads,
    key_dim,
    value_dim,
    positions,
    here,
    key_scale,
    KEY: tl.constexpr,
    VALUE: tl.constexpr,
    POSITIONS: tl.constexpr,
    ROWS: tl.constexpr,
):
    """For ROWS rows (t, b) and one head: the weights w = softmax(key_scale q.k + bias) (positions,)
    and the weighted sum y of values (value_dim,). A head's columns of `x` are its key, value, query
    and biases."""
    m, valid, time, entry = _own_rows(count, batch, ROWS)
    head = tl.program_id(1)
    k, v, p = tl.arange(0, KEY), tl.arange(0, VALUE), tl.arange(0, POSITIONS)
    width = 2 * key_dim + value_dim + positions
    own = tl.load(index + time * positions + here)  # the own row is always there
    mine = x + _row(own, entry, head, batch, heads, width)
    key_mask = (k < key_dim)[None, :]
    mine = mine[:, None] + key_dim + value_dim
    query = tl.load(mine + k[None, :], mask=key_mask, other=0.0).to(tl.float32) * key_scale
    logits = tl.load(
        mine + key_dim + p[None, :], mask=(p < positions)[None, :], other=-float("inf")
    )
    logits = logits.to(tl.float32)
    for n in range(positions):
        row = tl.load(index + time * positions + n)
        there = (row >= 0)[:, None]
        at = x + _row(tl.maximum(row, 0), entry, head, batch, heads, width)
        key = tl.load(at[:, None] + k[None, :], mask=there & key_mask, other=0.0)
        score = tl.sum(query * key.to(tl.float32), 1)
        logits += tl.where((p == n)[None, :], score[:, None], 0.0)
    logits = tl.exp(logits - tl.max(logits, 1)[:, None])
    share = logits / tl.sum(logits, 1)[:, None]  # [ROWS, POSITIONS]
    total = tl.zeros((ROWS, VALUE), tl.float32)
    for n in range(positions):
        row = tl.load(index + time * positions + n)
        there = (row >= 0)[:, None] & (v < value_dim)[None, :]
        at = x + _row(tl.maximum(row, 0), entry, head, batch, heads, width) + key_dim
        value = tl.load(at[:, None] + v[None, :], mask=there, other=0.0)
        total += _column(share, n, POSITIONS)[:, None] * value.to(tl.float32)
    head_row = m.to(tl.int64) * heads + head
    mask = valid[:, None] & (v < value_dim)[None, :]
    tl.store(y + head_row[:, None] * value_dim + v[None, :], total, mask=mask)
    mask = valid[:, None] & (p < positions)[None, :]
    tl.store(weights + head_row[:, None] * positions + p[None, :], share, mask=mask)


@kernel(
    configurations=CONFIGURATIONS,
    interpreted=SMALL,
    specimens=_specimens(
        "x",
        "weights",
        "of_result",
        "of_weights",
        of_logits=torch.float32,
        index=torch.int64,
        count=150,
    ),
)
def _score_gradient(
    x,
    weights,
    of_result,
    of_weights,
    of_logits,
    index,
    count,
    batch,
    heads,
    key_dim,
    value_dim,
    positions,
    here,
    key_scale,
    KEY: tl.constexpr,
    VALUE: tl.constexpr,
    POSITIONS: tl.constexpr,
    ROWS: tl.constexpr,
):
    """For ROWS rows (t, b) and one head: the derivative with respect to the scores (positions,)
    before their softmax."""
    m, valid, time, entry = _own_rows(count, batch, ROWS)
    head = tl.program_id(1)
    v, p = tl.arange(0, VALUE), tl.arange(0, POSITIONS)
    width = 2 * key_dim + value_dim + positions
    head_row = m.to(tl.int64) * heads + head
    value_mask = valid[:, None] & (v < value_dim)[None, :]
    at = of_result + head_row[:, None] * value_dim + v[None, :]
    given = tl.load(at, mask=value_mask, other=0.0).to(tl.float32)
    mask = valid[:, None] & (p < positions)[None, :]
    at = head_row[:, None] * positions + p[None, :]
    share = tl.load(weights + at, mask=mask, other=0.0).to(tl.float32)
    of_share = tl.load(of_weights + at, mask=mask, other=0.0).to(tl.float32)
    for n in range(positions):
        row = tl.load(index + time * positions + n)
        there = (row >= 0)[:, None] & value_mask
        begin = x + _row(tl.maximum(row, 0), entry, head, batch, heads, width) + key_dim
        value = tl.load(begin[:, None] + v[None, :], mask=there, other=0.0)
        product = tl.sum(given * value.to(tl.float32), 1)
        of_share += tl.where((p == n)[None, :], product[:, None], 0.0)
    middle = tl.sum(share * of_share, 1)[:, None]
    tl.store(of_logits + at, share * (of_share - middle), mask=mask)


@kernel(
    configurations=COLLECTING,
    interpreted=SMALL,
    specimens=_specimens(
        "x",
        "weights",
        "of_result",
        "target",
        of_logits=torch.float32,
        index=torch.int64,
        readers=torch.int64,
        stored=164,
    ),
)
def _collect(
    x,
    weights,
    of_result,
    of_logits,
    target,
    index,
    readers,
    stored,
    batch,
    heads,
    key_dim,
    value_dim,
    positions,
    here,
    key_scale,
    KEY: tl.constexpr,
    VALUE: tl.constexpr,
    POSITIONS: tl.constexpr,
    ROWS: tl.constexpr,
):
    """For ROWS stored rows and one head: the derivative with respect to the row's key, value and
    query, added up over the output times that read it under each position."""
    _, valid, mine, entry = _own_rows(stored, batch, ROWS)
    head = tl.program_id(1)
    k, v, p = tl.arange(0, KEY), tl.arange(0, VALUE), tl.arange(0, POSITIONS)
    width = 2 * key_dim + value_dim + positions
    key_mask = (k < key_dim)[None, :]
    own = tl.load(readers + mine * positions + here)  # the output time of which this is the row
    safe_own = tl.maximum(own, 0)
    of_key = tl.zeros((ROWS, KEY), tl.float32)
    of_query = tl.zeros((ROWS, KEY), tl.float32)
    of_value = tl.zeros((ROWS, VALUE), tl.float32)
    for n in range(positions):
        time = tl.load(readers + mine * positions + n)  # that reads this row under number n
        there = time >= 0
        time = tl.maximum(time, 0)
        head_row = _head_row(time, entry, head, batch, heads)
        of_score = tl.load(of_logits + head_row * positions + n, mask=there, other=0.0)
        row = tl.load(index + time * positions + here)
        query_at = x + _row(row, entry, head, batch, heads, width) + key_dim + value_dim
        query_mask = there[:, None] & key_mask
        query = tl.load(query_at[:, None] + k[None, :], mask=query_mask, other=0.0)
        of_key += of_score[:, None] * query.to(tl.float32)
        share = tl.load(weights + head_row * positions + n, mask=there, other=0.0).to(tl.float32)
        result_at = of_result + head_row[:, None] * value_dim + v[None, :]
        result_mask = there[:, None] & (v < value_dim)[None, :]
        given = tl.load(result_at, mask=result_mask, other=0.0)
        of_value += share[:, None] * given.to(tl.float32)
        row = tl.load(index + safe_own * positions + n)
        there = (own >= 0) & (row >= 0)
        head_row = _head_row(safe_own, entry, head, batch, heads)
        of_score = tl.load(of_logits + head_row * positions + n, mask=there, other=0.0)
        key_at = x + _row(tl.maximum(row, 0), entry, head, batch, heads, width)
        key = tl.load(key_at[:, None] + k[None, :], mask=there[:, None] & key_mask, other=0.0)
        of_query += of_score[:, None] * key.to(tl.float32)
    result = _head_row(safe_own, entry, head, batch, heads)
    inside = (p < positions)[None, :]
    bias_at = of_logits + result[:, None] * positions + p[None, :]
    of_bias = tl.load(bias_at, mask=(own >= 0)[:, None] & inside, other=0.0)
    at = target + _row(mine.to(tl.int64), entry, head, batch, heads, width)[:, None]
    mask = valid[:, None] & key_mask
    tl.store(at + k[None, :], of_key * key_scale, mask=mask)
    value_mask = valid[:, None] & (v < value_dim)[None, :]
    tl.store(at + key_dim + v[None, :], of_value, mask=value_mask)
    at += key_dim + value_dim
    tl.store(at + k[None, :], of_query * key_scale, mask=mask)
    tl.store(at + key_dim + p[None, :], of_bias, mask=valid[:, None] & inside)


def _launch(run, rows: int, heads: Sequence[int], key_scale: float, x: Tensor, **others) -> None:
    """Args:
    heads: count, key_dim, value_dim, positions, here.
    rows: (t, b) that are made.
    """
    count, key_dim, value_dim, positions, here = heads
    run(
        lambda meta: (triton.cdiv(rows, meta["ROWS"]), count),
        like=(bucket(rows), *heads[:4], x.dtype),
        x=x,
        batch=x.shape[1],
        heads=count,
        key_dim=key_dim,
        value_dim=value_dim,
        positions=positions,
        here=here,
        key_scale=key_scale,
        KEY=triton.next_power_of_2(key_dim),
        VALUE=triton.next_power_of_2(value_dim),
        POSITIONS=triton.next_power_of_2(positions),
        **others,
    )


def _fake_forward(
    x: Tensor, heads: Sequence[int], key_scale: float, index: Tensor
) -> tuple[Tensor, Tensor]:
    rows = (index.shape[0], x.shape[1], heads[0])
    return x.new_empty((*rows, heads[2])), x.new_empty((*rows, heads[3]))


@operator(
    "restricted_attention(Tensor x, int[] heads, float key_scale, Tensor index)"
    " -> (Tensor, Tensor)",
    fake=_fake_forward,
)
def forward(
    x: Tensor, heads: Sequence[int], key_scale: float, index: Tensor
) -> tuple[Tensor, Tensor]:
    """Restricted self-attention on a GPU: `nnet.kernels.attention.reference.restricted_attention`.

    Args:
        x: `(stored times, batch, heads * (2 key_dim + value_dim + positions))`.
        heads: the first five fields of `Heads`.
        index: `(output times, positions)`, the stored row at each position, or -1.

    Returns:
        y `(output times, batch, heads, value_dim)` and w `(output times, batch, heads, positions)`.
    """
    y, weights = _fake_forward(x, heads, key_scale, index)
    count, batch = y.shape[:2]
    if y.numel():
        _launch(
            _forward,
            count * batch,
            heads,
            key_scale,
            x.contiguous(),
            y=y,
            weights=weights,
            index=resident(index, x.device).contiguous(),
            count=count,
        )
    return y, weights


def _fake_backward(x: Tensor, *others: object) -> Tensor:
    return x.new_empty(x.shape)


_READERS: WeakIdKeyDictionary = WeakIdKeyDictionary()


@operator(
    "restricted_attention_backward(Tensor x, Tensor weights, Tensor of_result, Tensor of_weights,"
    " int[] heads, float key_scale, Tensor index) -> Tensor",
    fake=_fake_backward,
)
def backward(
    x: Tensor,
    weights: Tensor,
    of_result: Tensor,
    of_weights: Tensor,
    heads: Sequence[int],
    key_scale: float,
    index: Tensor,
) -> Tensor:
    """The derivative with respect to `x`, in its shape, from those with respect to y and w."""
    target = _fake_backward(x)
    if of_result.numel() == 0 or x.numel() == 0:
        return target.zero_()
    x, of_result = x.contiguous(), of_result.contiguous()
    stored, batch = x.shape[:2]
    readers = _READERS.get(index)
    if readers is None or len(readers) != stored or readers.device != x.device:
        readers = _READERS[index] = inverse(index, stored).to(x.device)
    where = resident(index, x.device).contiguous()
    of_logits = weights.new_empty(weights.shape, dtype=torch.float32)
    launch = partial(_launch, heads=heads, key_scale=key_scale, x=x, index=where)
    launch(
        _score_gradient,
        index.shape[0] * batch,
        weights=weights,
        of_result=of_result,
        of_weights=of_weights.contiguous(),
        of_logits=of_logits,
        count=index.shape[0],
    )
    launch(
        _collect,
        stored * batch,
        weights=weights,
        of_result=of_result,
        of_logits=of_logits,
        target=target,
        readers=readers,
        stored=stored,
    )
    return target
