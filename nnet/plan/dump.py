"""A plan as text that people can read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from nnet.plan import ir
from nnet.plan.cost import operation_cost
from nnet.plan.groups import Loop
from nnet.plan.implementations import Choice
from nnet.plan.ir import Operation, Plan, Rows, Value
from nnet.plan.layout import Layout
from nnet.plan.reach import looping
from nnet.plan.times import At, RoundDown, Shift, TimeMap


def dump(
    plan: Plan, layout: Layout | None = None, choices: Mapping[Value, Choice] | None = None
) -> str:
    """One line for each operation: value, dimension, what it does, for which node.

    Loops come first; their operations are marked. With a layout also the times at which it is
    computed, and its cost for one sequence; or, with choices, the cost of what was chosen, what
    bounds it and which implementation it is.
    """
    results: dict[ir.Value, list[str]] = {}
    for name, value in plan.results:
        results.setdefault(value, []).append(name)
    lines = []
    in_loop = looping(plan)
    for loop in (group for group in plan.groups if isinstance(group, Loop)):
        way = "forward" if loop.forward else "backward"
        values = ", ".join(f"%{value}" for value in loop.values)
        lines.append(f"loop {way} in time, {loop.block} frames a step: {values}")
    for value, operation in enumerate(plan.operations):
        if layout is not None and not layout.times[value].count:
            continue
        mark = "|" if value in in_loop else " "
        text = f"%{value:<4}{mark}{operation.dim:>6}  {_described(operation)}"
        if operation.origin:
            text += f"  # {operation.origin}"
        if layout is not None:
            cost = _cost(plan, layout, value, choices)
            text = f"{text:<110}  t = {layout.times[value]!r:<22} {cost}"
        for name in results.get(value, ()):
            text += f"  => {name}"
        lines.append(text.rstrip())
    return "\n".join(lines)


def _cost(plan: Plan, layout: Layout, value: Value, choices: Mapping[Value, Choice] | None) -> str:
    """`12.3 MFLOP 4.5 MB  memory  triton`, or nothing for a view."""
    choice = None if choices is None else choices.get(value)
    cost = choice.cost if choice is not None else operation_cost(plan, layout, value)
    if not cost.bytes:
        return ""
    text = f"{cost.flops / 1e6:9.3f} MFLOP {cost.bytes / 1e6:9.3f} MB"
    if choice is None:
        return text
    reason = f" ({choice.reason})" if choice.reason else ""
    return f"{text}  {choice.bound:<10}  {choice.implementation}{reason}"


def _described(operation: Operation) -> str:
    match operation:
        case ir.Input(name=name):
            return f"input {name}"
        case ir.Undefined():
            return "undefined"
        case ir.Constant(number=number):
            return f"constant {number:g}"
        case ir.Look(source=source, maps=maps):
            return f"look %{source.value}{_maps(maps)}"
        case ir.Columns(source=source, offset=offset, dim=dim):
            return f"columns %{source.value}[{offset}:{offset + dim}]"
        case ir.Sum(sources=sources, scales=scales):
            terms = (
                f"{'' if scale == 1 else f'{scale:g} '}%{source.value}"
                for source, scale in zip(sources, scales, strict=True)
            )
            return "sum " + " + ".join(terms)
        case ir.ReluBatchNorm(component=component, relu=relu, source=source, bypass=bypass):
            beside = [Rows(b.value, scale=operation.bypass_scale) for b in bypass]
            return f"apply {relu}(%{source.value}) | {component}{_bypass(beside)}"
        case ir.Apply(component=component, source=source):
            return f"apply {component}(%{source.value})"
        case ir.ApplyWindow(component=component, source=source):
            return f"apply {component}(%{source.value} in a window)"
        case ir.Logits(component=component, source=source):
            return f"log-likelihood {component}(%{source.value}), in the objective"
        case ir.Generate(component=component):
            return f"generate {component}"
        case ir.Carried(of=of):
            return f"carried %{of}"
        case ir.SplicedAffine():
            return _affine(operation)
    name, read = type(operation).__name__.lower(), ", ".join(map(_rows, operation.rows()))
    components = ", ".join(operation.components())
    return f"{name} {components}({read})" if components else f"{name} {read}"


def _affine(operation: ir.SplicedAffine) -> str:
    text = f"affine {operation.component}({', '.join(map(_rows, operation.terms))})"
    if operation.activation:
        text += f" | {operation.activation}"
    if operation.scale_offset:
        text += f" | {operation.scale_offset}"
    if isinstance(operation, ir.AffineBatchNorm):
        text += f" | {operation.relu} | {operation.batch_norm}"
    return text + _bypass(operation.bypass)


def _bypass(bypass: Sequence[Rows]) -> str:
    return "".join(f" | + {_rows(rows)}" for rows in bypass)


def _rows(rows: Rows) -> str:
    scale = "" if rows.scale == 1 else f"{rows.scale:g} "
    columns = f"[{rows.offset}:{rows.offset + rows.dim}]" if rows.offset else ""
    return f"{scale}%{rows.value}{columns}{_maps(rows.maps)}"


def _maps(maps: tuple[TimeMap, ...]) -> str:
    texts = []
    for step in maps:
        match step:
            case Shift(by=by):
                texts.append(f"@t{by:+d}")
            case RoundDown(modulus=modulus):
                texts.append(f"@t-t%{modulus}")
            case At(time=time):
                texts.append(f"@{time}")
    return "".join(texts)
