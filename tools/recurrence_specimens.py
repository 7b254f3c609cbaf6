"""Kernels of the usual recurrent layers, to be compiled ahead of time: 1024 cells, projected to 256
and 256 columns, 64 sequences of 150 frames, delay -3; and of cells over as many rows."""

from __future__ import annotations

from typing import Any

import torch

from nnet.kernels.cells import cell as cells
from nnet.kernels.cells.parts import parts_between_products
from nnet.kernels.gpu import KERNELS, Specimen
from nnet.kernels.recurrence.gpu.launch import make_kernel, parts_of
from nnet.kernels.recurrence.gpu.rows import make_rows_kernel
from nnet.kernels.recurrence.gpu.signature import signature_of
from nnet.kernels.recurrence.program import Recurrence
from tools.recurrence_layers import VECTORS, composed_lstm, gru, lstm, output_gru

ROWS, WIDTH, MEMBERS = 9600, 192, 32
SIZES = (1024, 256, 256)
REPAIRED = frozenset(range(VECTORS, VECTORS + 5))

BOTH = (("fp32", torch.float32), ("bf16", torch.bfloat16))
LAYERS = {
    "lstm": (lstm(*SIZES), 1, BOTH),
    "gru": (gru(*SIZES), 1, BOTH),
    "lstm_of_components": (composed_lstm(*SIZES), 1, BOTH[1:]),
    "gru_with_output_gate": (output_gru(*SIZES), 1, BOTH[1:]),
    "two_lstms": (lstm(*SIZES, dropout=True), 2, BOTH[1:]),
}
"""The layers, how many run side by side, and the types of their weights."""


CELLS = {
    "lstm": cells.lstm_cell(1024, dropout=True),
    "gru": cells.gru_cell(1024, 256),
    "gru_with_output_gate": cells.output_gru_cell(1024),
}


def _specimen(name: str, program: Recurrence, loops: int, dtype: torch.dtype) -> Specimen:
    """A call with matrices of a type."""
    signature = signature_of(program, loops)
    arguments: dict[str, Any] = {"counters": torch.int32, "members": MEMBERS}
    for loop in range(loops):
        for n, buffer in enumerate(signature.buffers):
            marks = buffer in program.boundaries
            arguments[f"b{n}_{loop}"] = torch.uint8 if marks else torch.float32
        arguments |= {f"w{n}_{loop}": dtype for n in range(len(signature.matrices))}
        arguments |= {f"v{n}_{loop}": torch.float32 for n in range(len(signature.vectors))}
        arguments |= {f"p{n}_{loop}": torch.float32 for n in range(len(signature.sums))}
        arguments |= {f"rows_{loop}": ROWS, f"width_{loop}": WIDTH, f"reverse_{loop}": loop}
    widths = program.widths
    arguments |= {f"S{n}": widths.get(b, 1) for n, b in enumerate(signature.buffers)}
    arguments |= {f"V{n}": 0 for n in range(len(signature.vectors))}
    arguments |= {f"Q{n}": parts_of(program, value) for n, value in enumerate(signature.sums)}
    precision = {"RESIDENT": dtype == torch.bfloat16, "PRECISION": "tf32"}
    return Specimen(name, {**arguments, **precision})


def _declare() -> None:
    for name, (layer, loops, types) in LAYERS.items():
        both = layer.both(REPAIRED)
        for way, program in (("forward", both.forward), ("backward", both.backward)):
            specimens = [_specimen(kind, program.program, loops, dtype) for kind, dtype in types]
            full = f"recurrence.{name}_{way}"
            KERNELS[full] = make_kernel(full, program.program, loops, specimens)
    for name, cell in CELLS.items():
        for way, whole in (("forward", cell.forward()), ("backward", cell.backward(repaired=True))):
            for number, part in enumerate(parts_between_products(whole.recurrence)):
                full = f"cells.{name}_{way}" + (f"_{number}" if number else "")
                specimens = [_rows_specimen(kind, part.program, dtype) for kind, dtype in BOTH]
                KERNELS[full] = make_rows_kernel(full, part.program, specimens)


def _rows_specimen(name: str, program: Recurrence, dtype: torch.dtype) -> Specimen:
    """A call with rows of a type."""
    signature = signature_of(program, 1)
    arguments: dict[str, Any] = {f"b{n}_0": dtype for n in range(len(signature.buffers))}
    arguments |= {f"v{n}_0": torch.float32 for n in range(len(signature.vectors))}
    arguments |= {"rows_0": ROWS, "width_0": ROWS, "reverse_0": 0}
    arguments |= {f"S{n}": program.widths[b] for n, b in enumerate(signature.buffers)}
    arguments |= {f"V{n}": 0 for n in range(len(signature.vectors))}
    return Specimen(name, {**arguments, "RESIDENT": False, "PRECISION": "ieee"})


_declare()
