"""What a pass is, and how passes are run."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import ClassVar, Protocol, TypeVar

from nnet.plan import ir
from nnet.plan.builder import Builder
from nnet.plan.ir import Operation, Plan, Value
from nnet.plan.reach import looping

AnyOperation = TypeVar("AnyOperation", bound=Operation)


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


def join(
    plan: Plan, kind: type[AnyOperation], joined: Callable[[AnyOperation, Builder], Operation]
) -> Plan:
    """A new plan in which operations of a kind are joined to what their first operand is made by,
    where nobody else reads that and they are in no loop.

    Args:
        joined: gets an operation with its operands already renamed; gives what takes its place.
    """
    builder = Builder(plan.components)
    uses, in_loop = plan.uses(), looping(plan)
    names: dict[Value, Value] = {}
    for value, operation in enumerate(plan.operations):
        renamed = operation.renamed(names)
        if isinstance(renamed, kind) and value not in in_loop and uses[operation.operands[0]] == 1:
            renamed = joined(renamed, builder)
        names[value] = keep(renamed, builder)
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
