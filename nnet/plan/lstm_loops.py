"""Loops over time that are an LSTM layer, found by their structure.

affine([.. r]) -> LSTM nonlinearity([gates, c]) -> projection, where r (the first columns of the
projection, or all of the nonlinearity's output) and c come back after a delay, perhaps through a
component that truncates derivatives. What feeds the affine besides r lies outside the loop.
"""

from __future__ import annotations

from dataclasses import dataclass

from nnet.plan import ir
from nnet.plan.ir import Plan, Value
from nnet.plan.layout import Layout
from nnet.plan.loops import Loop
from nnet.plan.times import Shift, Times

VIEWS = (ir.Carried, ir.Look, ir.Columns, ir.IfDefined)


@dataclass(frozen=True)
class LstmStructure:
    """Who does what in a loop.

    Attributes:
        affine: makes the gates; its term number `inner` is r.
        rows: the affine's gates and c, appended.
        lstm: the nonlinearity.
        projection: an affine of the nonlinearity's m, or None.
        truncation: on (c, r), or None.
        recurrent: columns of r.
        delay: frames from a row to the one that reads its state; negative if time runs backward.
    """

    affine: Value
    inner: int
    rows: Value
    lstm: Value
    projection: Value | None
    truncation: Value | None
    recurrent: int
    delay: int


@dataclass(frozen=True)
class _Seen:
    """What a view looks at in the end: columns from `offset` on, of rows `shift` frames away."""

    value: Value
    shift: int
    offset: int


def find_lstm(plan: Plan, loop: Loop) -> LstmStructure | None:
    """The structure of a loop that is an LSTM layer; None for any other."""
    computed = [v for v in loop.values if not isinstance(plan.operations[v], VIEWS)]
    lstms = [v for v in computed if _applies(plan, v, "LstmNonlinearityComponent")]
    if len(lstms) != 1:
        return None
    (lstm,) = lstms
    operation = plan.operations[lstm]
    assert isinstance(operation, ir.Apply)
    rows = operation.source.value
    appended = plan.operations[rows]
    if not isinstance(appended, ir.Append) or len(appended.sources) != 2:
        return None
    affine, c = appended.sources[0].value, _seen(plan, appended.sources[1].value)
    gates = plan.operations[affine]
    plain = isinstance(gates, ir.SplicedAffine) and not _finished(gates)
    if affine not in computed or not plain or c is None:
        return None
    assert isinstance(gates, ir.SplicedAffine)
    inner = [i for i, term in enumerate(gates.terms) if term.value in loop.phases]
    if len(inner) != 1:
        return None
    term = gates.terms[inner[0]]
    r = _seen(plan, term.value)
    if r is None or term.maps or term.scale != 1.0 or term.offset or r.shift != c.shift:
        return None
    found = _states(plan, lstm, c, r)
    if found is None:
        return None
    projection, truncation, between = found
    members = {affine, rows, lstm, projection, truncation, *between}
    if set(computed) != members - {None}:
        return None
    return LstmStructure(affine, inner[0], rows, lstm, projection, truncation, term.dim, -c.shift)


def _states(
    plan: Plan, lstm: Value, c: _Seen, r: _Seen
) -> tuple[Value | None, Value | None, tuple[Value, ...]] | None:
    """The projection, the truncation, and what else is computed between them; None if c or r are
    something else than the nonlinearity's c, and its m or the first columns of its projection."""
    cells = plan.dim(lstm) // 2
    truncation: Value | None = None
    between: tuple[Value, ...] = ()
    if c.value == r.value and _applies(plan, c.value, "BackpropTruncationComponent"):
        truncation = c.value
        if (c.offset, r.offset) != (0, cells):
            return None
        operation = plan.operations[truncation]
        assert isinstance(operation, ir.Apply)
        source = operation.source.value
        appended = plan.operations[source]
        if source == lstm:
            c, r = _Seen(lstm, 0, 0), _Seen(lstm, 0, cells)
        elif isinstance(appended, ir.Append) and len(appended.sources) == 2:
            between = (source,)
            parts = [_seen(plan, s.value) for s in appended.sources]
            if parts[0] is None or parts[1] is None or parts[0].shift or parts[1].shift:
                return None
            c, r = parts[0], parts[1]
        else:
            return None
    if (c.value, c.offset) != (lstm, 0):
        return None
    if (r.value, r.offset) == (lstm, cells):
        return None, truncation, between
    return (r.value, truncation, between) if _projects(plan, r, lstm, cells) else None


def _projects(plan: Plan, r: _Seen, lstm: Value, cells: int) -> bool:
    """Whether r is the first columns of an affine transform of the nonlinearity's m."""
    operation = plan.operations[r.value]
    if not isinstance(operation, ir.SplicedAffine) or _finished(operation) or r.offset:
        return False
    if len(operation.terms) != 1:
        return False
    (term,) = operation.terms
    seen = _seen(plan, term.value)
    same_time = not term.maps and term.scale == 1.0 and term.dim == cells
    where = None if seen is None else (seen.value, seen.shift, seen.offset + term.offset)
    return same_time and where == (lstm, 0, cells)


def _finished(operation: ir.SplicedAffine) -> bool:
    return bool(operation.activation or operation.scale_offset or operation.bypass)


def _applies(plan: Plan, value: Value, type_name: str) -> bool:
    operation = plan.operations[value]
    if not isinstance(operation, ir.Apply):
        return False
    return bool(plan.components[operation.component].type_name == type_name)


def _seen(plan: Plan, value: Value) -> _Seen | None:
    """What a chain of views looks at; None if it is not one range of columns at one shift."""
    shift = offset = 0
    while True:
        match plan.operations[value]:
            case ir.Carried(of=of):
                value = of
            case ir.IfDefined(source=source):
                value = source.value
            case ir.Columns(source=source, offset=first):
                value, offset = source.value, offset + first
            case ir.Look(source=source, maps=maps):
                if not all(isinstance(step, Shift) for step in maps):
                    return None
                shift += sum(step.by for step in maps if isinstance(step, Shift))
                value = source.value
            case _:
                return _Seen(value, shift, offset)


def fits(plan: Plan, layout: Layout, structure: LstmStructure) -> bool:
    """Whether under a layout the loop is that of whole rows: the same regular times for all, whose
    states come from rows of the same grid or, at the edge, from nowhere."""
    times = layout.times[structure.lstm]
    others = [structure.affine, structure.rows]
    if structure.projection is not None:
        others.append(structure.projection)
    same = all(layout.times[v] == times for v in others)
    if not (same and times.regular) or structure.delay % times.step:
        return False
    operation = plan.operations[structure.affine]
    pieces = layout.reads[structure.affine]
    whole = all(
        piece.into is None or number == structure.inner
        for number, piece in zip(range(len(operation.operands)), pieces, strict=False)
    )
    return whole and _grid(layout, structure, times)


def _grid(layout: Layout, structure: LstmStructure, times: Times) -> bool:
    """Whether the rows of the truncation are some of the others, at the same distance."""
    if structure.truncation is None:
        return True
    own = layout.times[structure.truncation]
    if not own.count:
        return True
    aligned = own.regular and (own.start - times.start) % times.step == 0
    inside = own.start >= times.start and own.count <= times.count
    return aligned and inside and (own.count == 1 or own.step == times.step)
