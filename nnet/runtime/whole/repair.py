"""Statistics and self-repair of the nonlinearities in a loop that one kernel runs.

As in nnet3, each step of a loop is a minibatch to them. What is stored of a step decides whether
and how the units of that step are repaired, so both are done before the derivative runs.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import torch
from torch import Tensor

from nnet.modules.base import ComponentModule
from nnet.modules.gru import AnyGruNonlinearity
from nnet.modules.lstm import LstmNonlinearity
from nnet.modules.statistics import Nonlinearity


def is_repaired(module: ComponentModule) -> bool:
    """Whether derivatives need vectors of self-repair for a component."""
    if isinstance(module, Nonlinearity):
        return module.storing and module.repairs
    return isinstance(module, LstmNonlinearity | AnyGruNonlinearity) and module.storing


@torch.no_grad()
def store_steps(module: Nonlinearity | AnyGruNonlinearity, steps: Sequence[Tensor]) -> Tensor:
    """Stores the results (rows, dim) of a loop's steps, in the order in which its derivative goes
    through them; gives the strengths of each step's self-repair, (steps, dim)."""
    dim = steps[0].shape[1]
    scales = torch.zeros((len(steps), dim), device=steps[0].device)
    for number, rows in enumerate(steps):
        if isinstance(module, AnyGruNonlinearity):
            scale = module.repair_scales(rows.unsqueeze(0))
        else:
            scale = _store_step(module, rows)
        if scale is not None:
            scales[number] = scale
    return scales


def _store_step(module: Nonlinearity, rows: Tensor) -> Tensor | None:
    slope = module.slope
    if slope is None:
        return None
    if module.picks_values():
        module.store_values(rows.sum(0), slope(rows).sum(0), len(rows))
    if not module.repairs:
        return None
    ones = rows.new_ones(1, rows.shape[1])  # results that are pushed by 1
    return module.repaired(torch.zeros_like(ones), ones)[0]


@torch.no_grad()
def store_gradients(module: Nonlinearity, steps: Sequence[Tensor]) -> None:
    """Stores the derivatives with respect to the results of a loop's steps."""
    for rows in steps:
        module.store_squares(partial(_squares, rows), len(rows))


def _squares(rows: Tensor) -> Tensor:
    return rows.square().sum(dim=0)
