"""Jacobi's method on many small symmetric matrices, one program each."""

from __future__ import annotations

import torch
from torch import Tensor

from nnet.kernels.gpu import (
    Configuration,
    Specimen,
    device_function,
    kernel,
    operator,
    tl,
    triton,
)

SWEEPS = 15
"""At most; convergence is quadratic, so that 6 to 10 are usual."""

TOLERANCE = 1e-15
"""Elements below this share of their diagonals' geometric mean are not rotated away."""


@device_function
def _turn(matrix, at_p, at_q, cosine, sine, mask):
    """Rotates pairs of elements of a matrix: (p, q) becomes (cosine p - sine q, sine p + cosine
    q)."""
    one = tl.load(matrix + at_p, mask=mask)
    other = tl.load(matrix + at_q, mask=mask)
    tl.store(matrix + at_p, cosine * one - sine * other, mask=mask)
    tl.store(matrix + at_q, sine * one + cosine * other, mask=mask)


@kernel(
    configurations=[Configuration({"COLUMNS": 32}, warps=8, stages=1)],
    interpreted={"COLUMNS": 128},
    specimens=[
        Specimen(
            f"rank {rank}",
            {
                "work": torch.float64,
                "vectors": torch.float64,
                "size": rank,
                "sweeps": SWEEPS,
                "tolerance": TOLERANCE,
                "PAIRS": triton.next_power_of_2(rank // 2),
            },
        )
        for rank in (20, 40, 80)
    ],
)
def _rotate(
    work,
    vectors,
    size,
    sweeps,
    tolerance,
    PAIRS: tl.constexpr,
    COLUMNS: tl.constexpr,
):
    """Makes `work` (size, size) diagonal, and rows of `vectors` its eigenvectors. `size` is even.

    In a round all rows are in one pair each; the pairs of a sweep are those of a tournament.
    """
    work += tl.program_id(0).to(tl.int64) * size * size
    vectors += tl.program_id(0).to(tl.int64) * size * size
    pair = tl.arange(0, PAIRS)
    used = pair < size // 2
    teams = size - 1
    sweep = 0
    largest = tl.full([], 1.0, tl.float64)
    while (sweep < sweeps) & (largest > tolerance):
        largest = tl.full([], 0.0, tl.float64)
        for turn in range(teams):
            p = tl.where(pair == 0, teams, (turn + pair) % teams)
            q = tl.where(pair == 0, turn, (turn + teams - pair) % teams)
            a_pp = tl.load(work + p * size + p, mask=used, other=1.0)
            a_qq = tl.load(work + q * size + q, mask=used, other=1.0)
            a_pq = tl.load(work + p * size + q, mask=used, other=0.0)
            share = tl.abs(a_pq) / tl.sqrt(tl.abs(a_pp * a_qq) + 1e-300)
            rotated = (share > tolerance) & (tl.abs(a_pq) > 1e-290)
            largest = tl.maximum(largest, tl.max(tl.where(rotated, share, 0.0), axis=0))
            theta = (a_qq - a_pp) / (2.0 * tl.where(rotated, a_pq, 1.0))
            root = tl.abs(theta) + tl.sqrt(theta * theta + 1.0)
            tangent = tl.where(rotated, tl.where(theta < 0, -1.0, 1.0) / root, 0.0)
            cosine = 1.0 / tl.sqrt(tangent * tangent + 1.0)
            sine = (tangent * cosine)[:, None]
            cosine = cosine[:, None]
            tl.debug_barrier()
            for start in range(0, size, COLUMNS):
                column = start + tl.arange(0, COLUMNS)
                mask = used[:, None] & (column < size)[None, :]  # [PAIRS, COLUMNS]
                at_p = p[:, None] * size + column[None, :]
                at_q = q[:, None] * size + column[None, :]
                _turn(work, at_p, at_q, cosine, sine, mask)
                _turn(vectors, at_p, at_q, cosine, sine, mask)
            tl.debug_barrier()
            for start in range(0, size, COLUMNS):  # the same columns of the new rows
                column = start + tl.arange(0, COLUMNS)
                mask = used[:, None] & (column < size)[None, :]
                at_p = column[None, :] * size + p[:, None]
                at_q = column[None, :] * size + q[:, None]
                _turn(work, at_p, at_q, cosine, sine, mask)
            tl.debug_barrier()
        sweep += 1


def _fake(matrices: Tensor) -> tuple[Tensor, Tensor]:
    return matrices.new_empty(matrices.shape[:2]), matrices.new_empty(matrices.shape)


@operator("jacobi(Tensor matrices) -> (Tensor, Tensor)", _fake)
def jacobi(matrices: Tensor) -> tuple[Tensor, Tensor]:
    """The diagonal (batch, n) that is left, and eigenvectors (batch, n, n) in rows; unsorted."""
    batch, n, _ = matrices.shape
    size = n + n % 2  # one more row of zeros, which no rotation mixes with the rest
    work = matrices.new_zeros((batch, size, size))
    work[:, :n, :n] = matrices
    vectors = torch.eye(size, dtype=work.dtype, device=work.device).repeat(batch, 1, 1)
    _rotate(
        lambda _: (batch,),
        work=work,
        vectors=vectors,
        size=size,
        sweeps=SWEEPS,
        tolerance=TOLERANCE,
        PAIRS=triton.next_power_of_2(size // 2),
    )
    diagonal = work.diagonal(dim1=1, dim2=2)[:, :n].contiguous()
    return diagonal, vectors[:, :n, :n].contiguous()
