"""An operation that only this test knows runs through layout, loops, cost, dump, compile and
gradient: it touches the intermediate representation, its step and its line in the table."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import ClassVar

import pytest
import torch

import nnet
from nnet.passes.base import Pass, rewrite
from nnet.plan import ir
from nnet.plan.builder import Builder
from nnet.plan.cost import operation_cost
from nnet.plan.dump import dump
from nnet.plan.implementations import TABLE, Abilities, Line, Situation, choose
from nnet.plan.ir import Plan, Rows, Source, Value
from nnet.plan.layout import bind
from nnet.plan.machine import MACHINES
from nnet.plan.operation import Operation
from nnet.plan.reach import period, total_reach
from nnet.plan.request import Request, TimeRange
from nnet.plan.times import Shift
from nnet.runtime.compiled import compile_network
from nnet.runtime.steps import Bound, Step, step_of
from nnet.runtime.tiles import Tiling

TEXT = """
input-node name=input dim=4
component name=a type=NaturalGradientAffineComponent input-dim=4 output-dim=4
component-node name=a component=a input=input
component-node name=b component=b input=a
component name=b type=NoOpComponent dim=4
output-node name=output input=b
"""
REQUEST = Request.of({"input": TimeRange(-2, 9)}, {"output": TimeRange(0, 5)})


@dataclass(frozen=True)
class Difference(Operation):
    """Row t of `source` less row t - 2."""

    reads: ClassVar[tuple[str, ...]] = ("source",)

    source: Source

    def rows(self) -> tuple[Rows, ...]:
        now, before = Rows(self.source.value), Rows(self.source.value, (Shift(-2),), scale=-1.0)
        return now, before

    def elementwise(self) -> int:
        return 1


@step_of.register
def _difference(operation: Difference, bound: Bound, value: Value) -> Step:
    now, before = bound.takes(operation, value)
    halved = bound.implementation(value) == "native"  # so that the test sees what it was handed
    return lambda values: (now(values) - before(values)) * (0.5 if halved else 1.0)


@dataclass(frozen=True)
class PutDifferences:
    """Differences in place of components that do nothing."""

    name: ClassVar[str] = "put-differences"

    def run(self, plan: Plan) -> Plan:
        def visit(operation: Operation, builder: Builder) -> Value:
            if isinstance(operation, ir.Apply) and operation.component == "b":
                operation = Difference(source=operation.source, dim=4, origin="difference")
            return builder.emit(operation)

        return rewrite(plan, visit)


PASSES: tuple[Pass, ...] = (PutDifferences(),)


@pytest.fixture
def in_the_table() -> Iterator[None]:
    TABLE["Difference"] = Line(native=lambda case: "a gradient" * case.situation.gradient)
    yield
    del TABLE["Difference"]


@pytest.fixture
def plan() -> Plan:
    return compile_network(nnet.build(TEXT), passes=PASSES).plan


def value_of(plan: Plan) -> Value:
    return next(v for v, o in enumerate(plan.operations) if isinstance(o, Difference))


def test_layout(plan: Plan) -> None:
    layout = bind(plan, REQUEST)
    source = plan.operations[value_of(plan)].operands[0]
    assert list(layout.times[source].array()) == list(range(-2, 5))
    assert [piece.rows.start for piece in layout.reads[value_of(plan)]] == [2, 0]
    assert (total_reach(plan), period(plan)) == (2, 1)
    assert Tiling.of(plan, 2, 0).in_time


def test_cost_and_dump(plan: Plan, in_the_table: None) -> None:
    layout, value = bind(plan, REQUEST), value_of(plan)
    cost = operation_cost(plan, layout, value, batch=2)
    assert (cost.flops, cost.bytes) == (2 * 5 * 4, 4 * 2 * 4 * (5 + 5 + 5))
    for gradient, ending in ((False, "native"), (True, "reference (a gradient)")):
        situation = Situation(gradient=gradient, abilities=Abilities(native=True))
        text = dump(plan, layout, choose(plan, layout, MACHINES["cpu"], situation=situation))
        (line,) = (line for line in text.splitlines() if "difference" in line)
        assert "difference %1, -1 %1@t-2" in line
        assert ending in line


def test_compile_and_gradient(in_the_table: None) -> None:
    module = compile_network(nnet.build(TEXT), passes=PASSES)
    x = torch.randn(3, 9, 4, requires_grad=True)
    y = x @ module.components["a"].linear.t()
    expected = y[:, 2:7] - y[:, :5]
    result = module({"input": x}, REQUEST)["output"]
    torch.testing.assert_close(result, expected)
    found = torch.autograd.grad(result.square().sum(), x)[0]
    torch.testing.assert_close(found, torch.autograd.grad(expected.square().sum(), x)[0])
    with torch.no_grad():
        torch.testing.assert_close(module({"input": x}, REQUEST)["output"], 0.5 * expected)


def test_passes_move_and_rename_it(plan: Plan) -> None:
    operation = plan.operations[value_of(plan)]
    assert operation.renamed({1: 7}) == replace(operation, source=Source(7))
    assert operation.components() == ()
    assert plan.uses()[1] == 2
