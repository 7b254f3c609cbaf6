"""Averaging the last checkpoints of a run, as many as are best (nnet3-combine's way)."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from nnet.errors import NnetError
from nnet.training.checkpoints.checkpoint import read_checkpoint

log = logging.getLogger(__name__)

State = dict[str, Any]


def combine_checkpoints(
    module: nn.Module, paths: Sequence[Path], objective: Callable[[], float]
) -> int:
    """Gives a module the average of the newest n checkpoints, for the n with the best objective.

    Batch-norm statistics are averaged too; activation statistics are those of the newest.

    Args:
        module: whose state the checkpoints have.
        paths: checkpoints, newest first.
        objective: measures the module as it is; larger is better.

    Returns:
        n.

    A checkpoint that is missing or damaged is passed over with a warning.
    """
    best, best_state, best_count = -math.inf, module.state_dict(), 0
    average: State = {}
    for count, state in enumerate(_readable(paths), 1):
        average = state if count == 1 else _mean(average, state, count)
        module.load_state_dict(average)
        value = objective()
        log.info("objective of the last %d checkpoints together: %.6g", count, value)
        if value > best:
            best, best_state, best_count = value, average, count
    module.load_state_dict(best_state)
    return best_count


def _readable(paths: Sequence[Path]) -> Iterator[State]:
    for path in paths:
        try:
            state = read_checkpoint(path)
        except NnetError as error:
            log.warning("%s; it is left out of the average", error)
        else:
            yield state["module"]


def _mean(average: State, state: State, count: int) -> State:
    """The mean of `count` states from that of all but the last."""
    return {
        name: value.lerp(state[name], 1.0 / count) if _is_averaged(value) else value
        for name, value in average.items()
    }


def _is_averaged(value: object) -> bool:
    return isinstance(value, Tensor) and value.is_floating_point()
