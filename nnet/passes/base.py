"""What a pass is, and how passes are run."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import ClassVar, Protocol

from nnet.plan import ir
from nnet.plan.ir import Builder, Operation, Plan, Value


class Pass(Protocol):
    """Plan to plan, results unchanged. A frozen dataclass whose fields are its options."""

    name: ClassVar[str]

    def run(self, plan: Plan) -> Plan: ...


Watcher = Callable[[str, Plan], None]
"""Called with a pass's name and the plan it made."""


def run_passes(plan: Plan, passes: Sequence[Pass], watch: Watcher | None = None) -> Plan:
    """The plan after all passes, verified before the first and after each."""
    plan.verify()
    for step in passes:
        plan = step.run(plan)
        plan.verify()
        if watch is not None:
            watch(step.name, plan)
    return plan


Visit = Callable[[Operation, Builder], Value]
"""Gets an operation with its operands already renamed; emits what takes its place."""


def rewrite(plan: Plan, visit: Visit, *, share: bool = False) -> Plan:
    """A new plan in which every operation is replaced by what `visit` emits for it."""
    builder = Builder(plan.components, share=share)
    names: dict[Value, Value] = {}
    for value, operation in enumerate(plan.operations):
        names[value] = visit(operation.renamed(names), builder)
    return builder.plan(plan.results, names)


def keep(operation: Operation, builder: Builder) -> Value:
    """Emits the operation again, nested looks, appends and scales in their flat form."""
    match operation:
        case ir.Look(source=source, maps=maps, origin=origin):
            return builder.look(source.value, maps, origin)
        case ir.Append(sources=sources, origin=origin):
            return builder.append([s.value for s in sources], origin)
        case ir.Sum(sources=sources, scales=scales, origin=origin):
            terms = [(s.value, scale) for s, scale in zip(sources, scales, strict=True)]
            return builder.sum(terms, origin)
    return builder.emit(operation)
