"""Which implementation carries out each operation of a plan: plain torch, or one of our kernels.

An operation as one kernel costs what `nnet.plan.cost` counts: every operand read once, the result
written once, one launch. Plain torch does the same in several passes, but its matrix products come
closer to the machine's peak. The cost model decides which is faster for the rows that there are.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

from nnet.errors import NnetError, nearest
from nnet.plan import ir
from nnet.plan.cost import FLOAT, VIEWS, Bound, Cost, operation_cost
from nnet.plan.derived import is_affine
from nnet.plan.ir import Plan, Value
from nnet.plan.layout import Layout
from nnet.plan.loops.loop import looping
from nnet.plan.machine import Machine, Precision

Kernels = Literal["auto", "reference", "triton"]
"""What may be asked for: all plain torch, our kernels wherever there is one, or the faster one."""

KERNELS: tuple[Kernels, ...] = ("auto", "reference", "triton")


@dataclass(frozen=True)
class Passes:
    """What plain torch does for a component of which there is a kernel.

    Attributes:
        launches: operations.
        rows: how often it reads or writes rows of the input or output, beyond the once each that
            anyone has to.
    """

    launches: int
    rows: int


KERNEL_OF: Mapping[str, Passes] = MappingProxyType(
    {
        "BatchNormComponent": Passes(launches=2, rows=1),
        "ConvolutionComponent": Passes(launches=2, rows=4),  # to images and back
        "FinishedConvolution": Passes(launches=3, rows=4),
        "LstmNonlinearityComponent": Passes(launches=8, rows=6),
        "GruNonlinearityComponent": Passes(launches=5, rows=3),
        "OutputGruNonlinearityComponent": Passes(launches=4, rows=3),
        "NormalizeComponent": Passes(launches=5, rows=4),
        "PooledStatistics": Passes(launches=4, rows=6),
        "RestrictedAttentionComponent": Passes(launches=50, rows=30),  # position by position
        "StatisticsExtractionComponent": Passes(launches=4, rows=6),  # in float64
        "StatisticsPoolingComponent": Passes(launches=4, rows=6),
        "TimeHeightConvolutionComponent": Passes(launches=3, rows=4),
    }
)
"""The component types that have a kernel, beside the affine ones, by type name."""

RELU_BATCH_NORM = Passes(launches=4, rows=5)
"""Of a rectified linear unit, batch-norm and a bypass, `ir.ReluBatchNorm`."""

LOG_LIKELIHOOD = Passes(launches=6, rows=3)
"""Of a log-softmax that is left to its objective, `ir.Logits`."""


@dataclass(frozen=True)
class Choice:
    """How an operation is carried out, and what it costs so."""

    implementation: Literal["reference", "triton"]
    cost: Cost
    seconds: float
    bound: Bound


def kernels(name: str) -> Kernels:
    """What `--kernels` says.

    Raises:
        NnetError: it says something else than `KERNELS`.
    """
    for known in KERNELS:
        if name == known:
            return known
    meant = nearest(name, KERNELS)
    hint = f"; did you mean {meant}?" if meant else ""
    raise NnetError(f"kernels are '{name}', expected one of {', '.join(KERNELS)}{hint}")


def choose(
    plan: Plan,
    layout: Layout,
    machine: Machine,
    *,
    asked: Kernels = "auto",
    batch: int = 1,
    precision: Precision = "fp32",
) -> dict[Value, Choice]:
    """The choice for every operation that is computed.

    Args:
        asked: `auto` takes the faster one by the cost model, and our kernels for a loop, which
            plain torch launches anew for each step; on a CPU, which our kernels are not made for,
            plain torch.
        batch: sequences in a minibatch.
    """
    choices = {}
    in_loops = looping(plan)
    for value, operation in enumerate(plan.operations):
        if not layout.times[value].count or isinstance(operation, VIEWS):
            continue
        plain = _plain(plan, layout, value, machine, batch, precision)
        choices[value] = plain
        if asked != "reference" and has_kernel(plan, operation):
            fused = _fused(plan, layout, value, machine, batch, precision)
            faster = value in in_loops or fused.seconds < plain.seconds
            if asked == "triton" or (machine.is_gpu and faster):
                choices[value] = fused
    return choices


def has_kernel(plan: Plan, operation: ir.Operation) -> bool:
    """Whether there is a kernel for an operation."""
    if isinstance(operation, ir.SplicedAffine | ir.Logits):
        return True
    if not isinstance(operation, ir.Apply | ir.ApplyWindow):
        return False
    spec = plan.components[operation.component]
    return is_affine(spec) or spec.type_name in KERNEL_OF


def _fused(
    plan: Plan, layout: Layout, value: Value, machine: Machine, batch: int, precision: Precision
) -> Choice:
    cost = operation_cost(plan, layout, value, batch)
    seconds = cost.seconds(machine, precision, machine.kernel_share)
    return Choice("triton", cost, seconds, cost.bound(machine, precision))


def _plain(
    plan: Plan, layout: Layout, value: Value, machine: Machine, batch: int, precision: Precision
) -> Choice:
    """Plain torch: passes that follow each other."""
    operation = plan.operations[value]
    first = operation_cost(plan, layout, value, batch)
    more = _more(plan, layout, value, operation, batch)
    cost = first + more
    seconds = first.seconds(machine, precision, machine.library_share)
    seconds += more.seconds(machine, precision)
    return Choice("reference", cost, seconds, cost.bound(machine, precision))


def _more(plan: Plan, layout: Layout, value: Value, operation: ir.Operation, batch: int) -> Cost:
    """What plain torch does beyond what it has to: results read and written again."""
    rows = FLOAT * batch * layout.times[value].count * operation.dim
    if isinstance(operation, ir.SplicedAffine):
        terms = len(operation.terms) - 1
        epilogue = bool(operation.activation) + 2 * bool(operation.scale_offset)
        passes = 2 * (terms + epilogue + len(operation.bypass))
        passes -= len(operation.bypass)  # the bypass itself is counted anyway
        return Cost(0, rows * passes, terms + epilogue + len(operation.bypass))
    passes_of = LOG_LIKELIHOOD if isinstance(operation, ir.Logits) else None
    if isinstance(operation, ir.Apply | ir.ApplyWindow):
        passes_of = KERNEL_OF.get(plan.components[operation.component].type_name)
    if isinstance(operation, ir.ReluBatchNorm):
        passes_of = RELU_BATCH_NORM
    if passes_of is None:
        return Cost()
    return Cost(0, rows * passes_of.rows, passes_of.launches - 1)
