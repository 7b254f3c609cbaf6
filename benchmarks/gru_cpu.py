"""Recurrence on a CPU: projected GRU layers on 150 frames, forward and with their derivative.

As benchmarks/recurrent_cpu.py, for a layer with a reset gate (PGRU) and one with an output gate
(OPGRU), input and cell of 512, projections 128 + 128. Ours against the same cell in plain torch,
one frame a step; against torch.nn.GRU (512 cells, no projection, delay 1: 1.8 and 1.5 times the
arithmetic); and as a share of the machine's sgemm peak.

    python -m benchmarks.gru_cpu [--threads 1]
"""

from __future__ import annotations

from torch import nn

from benchmarks.plain_gru import PlainOpgru, PlainPgru
from benchmarks.recurrent_cpu import CELL, DIM, PROJECTION, Subject, report

SHARED = CELL * (DIM + PROJECTION) + CELL * DIM + CELL * 2 * PROJECTION
"""Elements of the matrices of the update gate, of the candidate, and of the projection."""


def torch_gru() -> nn.GRU:
    """torch's GRU: the reset gate is applied behind the matrix, and nothing is projected."""
    return nn.GRU(DIM, CELL, batch_first=True)


SUBJECTS = (
    Subject(
        "PGRU",
        "fast-pgru-layer",
        SHARED + PROJECTION * (DIM + PROJECTION) + CELL * PROJECTION,
        PlainPgru,
        "torch.nn.GRU, no projection",
        torch_gru,
    ),
    Subject(
        "OPGRU",
        "fast-opgru-layer",
        SHARED + CELL * (DIM + PROJECTION),
        PlainOpgru,
        "torch.nn.GRU, no projection",
        torch_gru,
    ),
)


def main() -> None:
    """Measures, prints rows and writes results/gru_cpu.json."""
    report(SUBJECTS, "gru_cpu", str(__doc__))


if __name__ == "__main__":
    main()
