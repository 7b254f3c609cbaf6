"""Spliced affine transforms one after the other in one call of C++: see `packed`.

What only the chain reads lies in one piece of memory, the arena, whose parts are used again as soon
as they can be. All addresses are worked out beforehand, but for where the arena, what is read and
what is wanted begin.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from torch import Tensor

from nnet.kernels.affine import packed
from nnet.kernels.affine.packed import LINE, run
from nnet.kernels.affine.terms import Epilogue, Term
from nnet.kernels.native import Struct

PAGE = 256
"""Rows that are multiples of so many floats apart fall on few sets of a cache."""

LONG = 8
"""From so many times on, a tile of a result has rows of one sequence."""

TERMS, BYPASSES, ARENA, OTHERS = range(4)
"""What addresses are counted from; others are the values from outside, and those that are kept."""


class Link(NamedTuple):
    """One affine transform, of values that are known by numbers.

    Attributes:
        value: its number; `(times, batch, dim)`.
        sources: the values that `Term.source` counts.
        terms: what is spliced; scales must be 1 (fold them into the weights), no `positions`.
        weight: for them, from `pack`; None if there are none.
        bias: `(dim,)` or None.
        own_bias: a value with one row for each sequence that takes its place, or None.
    """

    value: int
    times: int
    dim: int
    sources: tuple[int, ...]
    terms: tuple[Term, ...]
    weight: Tensor | None
    bias: Tensor | None
    own_bias: int | None
    epilogue: Epilogue

    @property
    def reads(self) -> set[int]:
        rows = (*self.terms, *self.epilogue.bypass)
        own = () if self.own_bias is None else (self.own_bias,)
        return {*(self.sources[term.source] for term in rows), *own}


class AffineChain:
    """The transforms for one batch size.

    Args:
        kept: values that are wanted afterwards.
        outer: values that the chain reads and does not make, with their dimensions.
        bf16: the weights are packed for matrix units.
    """

    def __init__(
        self,
        links: Sequence[Link],
        kept: Sequence[int],
        outer: Mapping[int, int],
        batch: int,
        *,
        bf16: bool = False,
    ) -> None:
        self._bf16 = bf16
        self._links = links  # the table has addresses of their weights
        shapes = {link.value: (link.times, batch, link.dim) for link in links}
        self._shapes = [shapes[value] for value in kept]
        table = _Table(links, kept, outer, batch)
        self._floats = table.arena.size
        self._words, self._places, self._slots, self._parts = table.finished()

    def __call__(self, outer: Sequence[Tensor], targets: Sequence[Tensor | None]) -> list[Tensor]:
        """The values that are kept, `(times, batch, dim)`.

        Args:
            outer: float32 `(times, batch, dim)`, contiguous, in the order of the chain's `outer`.
            targets: where results are written, contiguous; new tensors for None.
        """
        results = [
            outer[0].new_empty(shape) if target is None else target
            for shape, target in zip(self._shapes, targets, strict=True)
        ]
        arena = outer[0].new_empty(self._floats)
        words = self._words.copy()
        table = words.ctypes.data
        tensors = [x.data_ptr() for x in (arena, *outer, *results)]
        starts = np.array([*(table + part for part in self._parts), *tensors])
        words[self._places] += starts[self._slots]
        run(table, len(self._links), bf16=self._bf16)
        return results


class _Address(NamedTuple):
    slot: int
    floats: int


Word = int | _Address


class _Value(NamedTuple):
    """Rows of a value; those of a time are `batch` rows that are `pitch` floats apart."""

    slot: int
    floats: int
    pitch: int

    def at(self, floats: int) -> _Address:
        return _Address(self.slot, self.floats + floats)


class _Arena:
    """Memory that values share: which of its floats are free, as (start, count)."""

    def __init__(self) -> None:
        self.size = 0
        self._free: list[tuple[int, int]] = []

    def take(self, count: int) -> int:
        """Takes `count` floats that are free, and says where they begin."""
        for number, (start, free) in enumerate(self._free):
            if free >= count:
                self._free[number] = (start + count, free - count)
                return start
        self.size += count
        return self.size - count

    def give_back(self, start: int, count: int) -> None:
        joined: list[tuple[int, int]] = []
        for first, free in sorted([*self._free, (start, count)]):
            if joined and sum(joined[-1]) == first:
                joined[-1] = (joined[-1][0], joined[-1][1] + free)
            elif free:
                joined.append((first, free))
        self._free = joined


class _Layout(NamedTuple):
    """How the rows `(times, batch)` of a result are counted: `groups` of `rows` each."""

    batch: int
    groups: int
    rows: int
    along_batch: bool

    @classmethod
    def of(cls, times: int, batch: int, even: bool) -> _Layout:
        """The layout with one group if all rows are evenly spaced; else with one for each sequence,
        or for each time."""
        if batch == 1 or even:
            return cls(batch, 1, times * batch, batch > 1)
        if times >= LONG:
            return cls(batch, batch, times, False)
        return cls(batch, times, batch, True)

    def strides(self, step: int, pitch: int) -> tuple[int, int]:
        """Floats between groups and between rows of a value whose rows are `step` times apart."""
        # Row (t, b) begins (t step batch + b) pitch floats on: rows of a group go through one of t
        # and b, groups through the other. In a single group m = t batch + b goes through both.
        time = step * self.batch * pitch
        return (time, pitch) if self.along_batch else (pitch, time)


class _Table:
    """The structures of packed.h: affine transforms, their terms, their bypasses."""

    def __init__(
        self, links: Sequence[Link], kept: Sequence[int], outer: Mapping[int, int], batch: int
    ) -> None:
        self.arena = _Arena()
        self._batch = batch
        self._affines: list[list[Word]] = []
        self._terms: list[list[Word]] = []
        self._bypasses: list[list[Word]] = []
        self._values = {
            value: _Value(OTHERS + number, 0, dim)
            for number, (value, dim) in enumerate(outer.items())
        }
        self._kept = {value: OTHERS + len(outer) + number for number, value in enumerate(kept)}
        self._owned: dict[int, tuple[int, int]] = {}
        self._dims = {**outer, **{link.value: link.dim for link in links}}
        last = {value: number for number, link in enumerate(links) for value in link.reads}
        for number, link in enumerate(links):
            dying = {v for v in link.reads if last[v] == number and v in self._owned}
            self._values[link.value] = self._place(link, dying)
            self._add(link)
            for value in dying:
                if value in self._owned:
                    self.arena.give_back(*self._owned.pop(value))

    def _place(self, link: Link, dying: set[int]) -> _Value:
        """Where a value is made: over its only bypass, if nothing else needs that."""
        if link.value in self._kept:
            return _Value(self._kept[link.value], 0, link.dim)
        if len(link.epilogue.bypass) == 1:
            (term,) = link.epilogue.bypass
            source = link.sources[term.source]
            there = self._values[source]
            alone = source in dying and source not in (link.sources[t.source] for t in link.terms)
            if alone and term.step == 1 and term.dim == link.dim == self._dims[source]:
                self._owned[link.value] = self._owned.pop(source)
                return there._replace(floats=there.floats + term.start * self._batch * there.pitch)
        pitch = -(-link.dim // LINE) * LINE
        pitch += LINE if pitch % PAGE == 0 else 0
        size = link.times * self._batch * pitch
        self._owned[link.value] = (self.arena.take(size), size)
        return _Value(ARENA, self._owned[link.value][0], pitch)

    def _add(self, link: Link) -> None:
        epilogue = link.epilogue
        even = all(term.step == 1 for term in (*link.terms, *epilogue.bypass))
        layout = _Layout.of(link.times, self._batch, even)
        terms = _Address(TERMS, 2 * sum(map(len, self._terms)))
        bypasses = _Address(BYPASSES, 2 * sum(map(len, self._bypasses)))
        begin = 0
        for term in link.terms:
            rows = self._rows(link, term, layout)
            self._terms.append(_words(packed.PackedTerm, **rows, begin=begin, end=begin + term.dim))
            begin += term.dim
        for term in epilogue.bypass:
            scale = int(np.float64(term.scale).view(np.int64))
            rows = self._rows(link, term, layout)
            self._bypasses.append(_words(packed.Bypass, **rows, scale=scale))
        result = self._values[link.value]
        group, stride = layout.strides(1, result.pitch)
        words = _words(
            packed.Affine,
            groups=layout.groups,
            rows=layout.rows,
            columns=link.dim,
            depth=begin,
            terms=len(link.terms),
            bypasses=len(epilogue.bypass),
            term=terms,
            weight=_pointer(link.weight),
            **self._bias(link, layout),
            relu=int(epilogue.activation == "relu"),
            scales=_pointer(epilogue.scales),
            offsets=_pointer(epilogue.offsets),
            bypass=bypasses,
            out=result.at(0),
            group=group,
            stride=stride,
        )
        self._affines.append(words)

    def _bias(self, link: Link, layout: _Layout) -> dict[str, Word]:
        """Where the bias is: one row for all; or one for each sequence, whose rows are repeated."""
        if link.own_bias is None:
            return {"bias": _pointer(link.bias), "bias_group": 0, "bias_stride": 0, "period": 0}
        there = self._values[link.own_bias]
        group, stride = layout.strides(0, there.pitch)
        period = self._batch if layout.along_batch else 1
        return {
            "bias": there.at(0),
            "bias_group": group,
            "bias_stride": stride,
            "period": period,
        }

    def _rows(self, link: Link, term: Term, layout: _Layout) -> dict[str, Word]:
        """Where the rows of a term begin, and floats between groups and between rows."""
        there = self._values[link.sources[term.source]]
        start = there.at(term.start * self._batch * there.pitch + term.offset)
        group, stride = layout.strides(term.step, there.pitch)
        return {"rows": start, "group": group, "stride": stride}

    def finished(self) -> tuple[np.ndarray, np.ndarray, np.ndarray, list[int]]:
        """The words, the places of those that are addresses, their slots; bytes before parts."""
        rows = [*self._affines, *self._terms, *self._bypasses]
        words = [word for row in rows for word in row]
        affines, terms = (sum(map(len, part)) for part in (self._affines, self._terms))
        addresses = [(n, word) for n, word in enumerate(words) if isinstance(word, _Address)]
        return (
            np.array([4 * w.floats if isinstance(w, _Address) else w for w in words], np.int64),
            np.array([place for place, _ in addresses]),
            np.array([word.slot for _, word in addresses]),
            [8 * affines, 8 * (affines + terms)],
        )


def _pointer(x: Tensor | None) -> int:
    """The address of a tensor that stays where it is; null for none."""
    return 0 if x is None else x.data_ptr()


def _words(structure: type[Struct], **members: Word) -> list[Word]:
    """The members of a structure in their order."""
    return [members[name] for name, *_ in structure._fields_]
