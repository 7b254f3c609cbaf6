"""Running a plan tile by tile, one after the other or on several threads."""

from __future__ import annotations

import functools
import math
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from nnet.plan.cost import plan_cost
from nnet.plan.ir import Plan
from nnet.plan.layout import Layout
from nnet.plan.request import Request
from nnet.runtime.parallel import run_together
from nnet.runtime.tiles import Tile, Tiling

CUTS_KEPT = 64

RECOMPUTED = 1.1
"""How much more may be computed if each of several threads has tiles of its own."""

RunPiece = Callable[[Mapping[str, Tensor], Request, Mapping[str, Tensor] | None], dict[str, Tensor]]
"""From inputs, a request and tensors to write results to, all `(batch, time, dim)`, to results."""


class TiledRun:
    """Runs a plan in pieces that fit the cache, put together in one tensor for each output.

    Args:
        left, right: the network's context in frames.
        run: runs a piece.
        layout: the plan's under a request.
    """

    def __init__(
        self, plan: Plan, left: int, right: int, run: RunPiece, layout: Callable[[Request], Layout]
    ) -> None:
        self.plan = plan
        self.tiling = Tiling.of(plan, left, right)
        self._run = run
        self._layout = layout
        self._cuts: OrderedDict[tuple[Request, int, int], tuple[list[Tile], bool]] = OrderedDict()

    def __call__(self, inputs: Mapping[str, Tensor], request: Request) -> dict[str, Tensor]:
        """The outputs, `(batch, time, dim)`."""
        batch = max(inputs[name].shape[0] for name, _ in request.inputs)
        threads = 1 if torch.compiler.is_compiling() else torch.get_num_threads()
        tiles, side_by_side = self.tiles(request, batch, threads)
        if len(tiles) == 1:
            return self._run(inputs, request, None)
        like = next(iter(inputs.values()))
        results = dict(self.plan.results)
        whole = {
            name: _large((batch, times.count, self.plan.dim(results[name])), like.dtype)
            for name, times in request.outputs
        }

        def run(tile: Tile) -> None:
            given = {name: inputs[name][tile.batch, part] for name, part in tile.inputs}
            targets = {name: whole[name][tile.batch, tile.outputs] for name in whole}
            self._run(given, tile.request, targets)

        if side_by_side:
            run_together([functools.partial(run, tile) for tile in tiles])
        else:
            for tile in tiles:
                run(tile)
        return whole

    def tiles(self, request: Request, batch: int, threads: int) -> tuple[list[Tile], bool]:
        """Tiles, and whether threads work on them side by side: if little is computed twice so."""
        key = (request, batch, threads)
        if key not in self._cuts:
            tiles = list(self.tiling.tiles(request, batch))
            beside = list(self.tiling.tiles(request, batch, threads)) if threads > 1 else []
            fits = threads * self._load(beside, threads) <= RECOMPUTED * self._load(tiles, 1)
            side_by_side = len(beside) >= threads and fits
            self._cuts[key] = (beside if side_by_side else tiles, side_by_side)
            if len(self._cuts) > CUTS_KEPT:
                self._cuts.popitem(last=False)
        return self._cuts[key]

    def _load(self, tiles: Sequence[Tile], threads: int) -> int:
        """Floating-point operations of the thread that has most of them."""
        loads = [0] * threads
        for tile in tiles:
            layout, batch = self._layout(tile.request), tile.batch.stop - tile.batch.start
            loads[loads.index(min(loads))] += plan_cost(self.plan, layout, batch).flops
        return max(loads)


def _large(shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
    """A new tensor in numpy's memory, which asks for huge pages: far fewer page faults."""
    size = math.prod(shape) * dtype.itemsize
    return torch.from_numpy(np.empty(size, dtype=np.uint8)).view(dtype).view(shape)
