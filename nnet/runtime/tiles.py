"""Cutting a large request into tiles whose values stay in a CPU's cache."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from nnet.plan import ir
from nnet.plan.ir import Plan
from nnet.plan.request import Request, TimeRange
from nnet.plan.times import At, RoundDown

TILE_BYTES = 4_500_000
"""About how large the widest value of a tile may be: larger ones leave the caches between two
operations, smaller ones compute more context twice."""


@dataclass(frozen=True)
class Tile:
    """Sequences `batch` of the minibatch, and outputs `outputs` (positions) of each.

    `inputs` says which positions of each input the tile's request gives.
    """

    request: Request
    batch: slice
    outputs: slice
    inputs: tuple[tuple[str, slice], ...]


@dataclass(frozen=True)
class Tiling:
    """How a plan can be cut. `left` and `right` are the network's context in frames.

    A recurrent plan is not cut: each of its steps works on all sequences at once.
    """

    widest: int
    in_time: bool
    recurrent: bool
    left: int
    right: int

    @classmethod
    def of(cls, plan: Plan, left: int, right: int) -> Tiling:
        results = {value for _, value in plan.results}
        dims = [op.dim for value, op in enumerate(plan.operations) if value not in results]
        recurrent = any(isinstance(op, ir.Carried) for op in plan.operations)
        return cls(max(dims, default=1), _same_at_all_times(plan), recurrent, left, right)

    def tiles(self, request: Request, batch: int, threads: int = 1) -> Iterator[Tile]:
        """Tiles that together are the request, for `batch` sequences.

        Args:
            threads: a multiple of so many tiles is made, if the request can be cut so.
        """
        count = max(times.count for _, times in request.outputs)
        rows = batch * count if self.recurrent else max(16, TILE_BYTES // (4 * self.widest))
        if threads > 1 and not self.recurrent and batch * count >= threads:
            rows = _divided(batch * count, rows, threads)
        if batch > 1:
            together = max(1, rows // count)
            if together > 1:
                together = _divided(batch, together, threads)
            for start in range(0, batch, together):
                part = slice(start, min(batch, start + together))
                yield from self._in_time(request, part, count if together > 1 else rows)
        else:
            yield from self._in_time(request, slice(0, 1), rows)

    def _in_time(self, request: Request, batch: slice, rows: int) -> Iterator[Tile]:
        ranges = {times for _, times in request.outputs}
        whole = next(iter(ranges))
        pieces = -(-whole.count // rows)
        can = self.in_time and len(ranges) == 1 and batch.stop - batch.start == 1
        given = [(n, times) for n, times in request.inputs if isinstance(times, TimeRange)]
        regular = isinstance(whole, TimeRange) and len(given) == len(request.inputs)
        if pieces == 1 or not can or not regular:
            inputs = tuple((name, slice(0, times.count)) for name, times in request.inputs)
            yield Tile(request, batch, slice(0, whole.count), inputs)
            return
        assert isinstance(whole, TimeRange)
        names = [name for name, _ in request.outputs]
        rows = -(-whole.count // pieces)
        for start in range(0, whole.count, rows):
            outputs = slice(start, min(whole.count, start + rows))
            yield self._tile(given, names, whole, batch, outputs)

    def _tile(
        self,
        inputs: list[tuple[str, TimeRange]],
        names: list[str],
        whole: TimeRange,
        batch: slice,
        outputs: slice,
    ) -> Tile:
        """One tile, moved in time so that its outputs begin where the request's do."""
        shift = outputs.start * whole.step
        count = outputs.stop - outputs.start
        span = (count - 1) * whole.step
        given = []
        positions = []
        for name, times in inputs:
            if times.count == 1:
                given.append((name, times))
                positions.append((name, slice(0, 1)))
                continue
            first = max(0, -((self.left - whole.start + times.start - shift) // times.step))
            end = whole.start + shift + span + self.right
            stop = min(times.count, (end - times.start) // times.step + 1)
            start = times.start + first * times.step - shift
            given.append((name, TimeRange(start, stop - first, times.step)))
            positions.append((name, slice(first, stop)))
        wanted = TimeRange(whole.start, count, whole.step)
        request = Request(tuple(given), tuple((name, wanted) for name in names))
        return Tile(request, batch, outputs, tuple(positions))


def _divided(size: int, most: int, pieces: int) -> int:
    """The size of parts, at most `most`, so that their number is a multiple of `pieces`."""
    parts = -(-size // most)
    return -(-size // (-(-parts // pieces) * pieces))


def _same_at_all_times(plan: Plan) -> bool:
    """True if outputs at t are the same function of inputs around t for every t."""
    for operation in plan.operations:
        if not operation.whole or operation.period > 1 or isinstance(operation, ir.Carried):
            return False
        for rows in operation.rows():
            window = plan.window(rows)
            if window is not None and not window.exact:
                return False
            if any(isinstance(step, RoundDown) for step in rows.maps):
                return False
            looks_at_one = any(isinstance(step, At) for step in rows.maps)
            if looks_at_one and not isinstance(plan.operations[rows.value], ir.Input):
                return False
    return True
