"""Which implementation carries out each operation of a plan: the one table of what is legal, and
what it costs.

Three implementations have names. `reference` is plain torch and nothing else; `native` is our C++
on a CPU; `triton` is our kernels on a GPU. A line of the table says of an operation, or of the type
of the component that it applies, what there is beside plain torch and where that is legal. An
operation as one kernel costs what `nnet.plan.cost` counts: every operand read once, the result
written once, one launch. Plain torch does the same in several passes, but its matrix products come
closer to a GPU's peak, so the cost model decides there. On a CPU native code is faster wherever it
is legal.

What is chosen is handed to the step when it is built; nothing chooses again later.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from nnet.errors import NnetError, nearest
from nnet.kernels.affine.sizes import PACKED_ROWS, suit_units
from nnet.plan import ir
from nnet.plan.cost import FLOAT, Bound, Cost, is_view, operation_cost
from nnet.plan.derived import is_affine, is_fixed_affine
from nnet.plan.groups import Loop
from nnet.plan.ir import Operation, Plan, Value
from nnet.plan.layout import Layout
from nnet.plan.machine import Machine, Precision
from nnet.plan.reach import looping

Implementation = Literal["reference", "native", "triton"]

Kernels = Literal["auto", "reference", "native", "triton"]
"""What may be asked for: the fastest by this table, plain torch alone, or one of ours wherever it
is legal."""

KERNELS: tuple[Kernels, ...] = ("auto", "reference", "native", "triton")

TRITON_TYPES = ("float32", "bfloat16", "float16")
"""What our kernels for a GPU compute with; sums are always made in float32."""

PACKED_ACTIVATIONS = ("", "relu")
"""What native code finishes rows of an affine transform with, without a derivative."""


@dataclass(frozen=True)
class Abilities:
    """What there is where a plan runs.

    Attributes:
        native: whether our C++ is at hand.
        matrix_units: whether it can use the processor's matrix units (x86's AMX).
    """

    native: bool = True
    matrix_units: bool = False


@dataclass(frozen=True)
class Situation:
    """The circumstances in which a plan is carried out, by which `TABLE` chooses."""

    device: str = "cpu"
    dtype: str = "float32"
    gradient: bool = False
    batch: int = 1
    precision: Precision = "fp32"
    traced: bool = False
    abilities: Abilities = Abilities()


@dataclass(frozen=True)
class Case:
    """One operation under a layout, and the situation in which it is carried out."""

    plan: Plan
    layout: Layout
    value: Value
    looping: bool
    situation: Situation

    @property
    def operation(self) -> Operation:
        return self.plan.operations[self.value]


Legal = Callable[[Case], str]
"""Why an implementation is not legal in a case, '' if it is."""


def always(case: Case) -> str:
    """Legal wherever the implementation is."""
    return ""


@dataclass(frozen=True)
class Line:
    """What there is for an operation or a component type beside plain torch.

    Attributes:
        triton: whether there is a kernel for a GPU.
        native: where native code is legal, beyond `float32` on a CPU; None if there is none.
        launches: operations that plain torch launches for it.
        rows: how often plain torch reads or writes rows of the input or output, beyond the once
            each that anyone has to.
    """

    triton: bool = False
    native: Legal | None = None
    launches: int = 1
    rows: int = 0


def _without_derivative(case: Case) -> str:
    return "with a derivative: plain torch" if case.situation.gradient else ""


def _in_a_loop(case: Case) -> str:
    return "" if case.looping else "outside a loop: plain torch"


def _affine(case: Case) -> str:
    """On packed weights where they are fixed or steps are long; else products by matrix units."""
    plan, operation, situation = case.plan, case.operation, case.situation
    fixed = is_fixed_affine(plan.components[operation.component_applied])
    if fixed and not (situation.gradient or case.looping):
        return _packed(case)
    rows = rows_of_a_step(case) if case.looping else 0
    if rows >= PACKED_ROWS:
        return ""
    if case.looping and not situation.gradient:
        return f"{rows} rows a step: plain torch"
    if not situation.abilities.matrix_units:
        return "no matrix units: plain torch"
    return "" if suits_matrix_units(case) else "too small for matrix units: plain torch"


def suits_matrix_units(case: Case) -> bool:
    """Whether a product of all rows is so large that matrix units are faster.

    The gradients' products have the same three sizes in another order.
    """
    count = case.situation.batch * case.layout.times[case.value].count
    columns = sum(rows.dim for rows in case.plan.reads(case.value) if rows.into is None)
    sizes = sorted((count, case.operation.dim, columns))
    return suit_units(sizes[1], sizes[2], sizes[0])


def rows_of_a_step(case: Case) -> int:
    """The most rows that a step of the loop that an operation is in makes of it."""
    loops = (group for group in case.plan.groups if isinstance(group, Loop))
    block = next(loop.block for loop in loops if case.value in loop.phases)
    times = case.layout.times[case.value]
    apart = times.step if times.regular else 1
    return case.situation.batch * min(times.count, -(-block // apart))


def runs_packed(plan: Plan, layout: Layout, value: Value, situation: Situation) -> bool:
    """Whether an operation that is native and outside a loop runs on packed weights."""
    operation = plan.operations[value]
    if not isinstance(operation, ir.SplicedAffine) or isinstance(operation, ir.AffineBatchNorm):
        return False
    fixed = is_fixed_affine(plan.components[operation.component])
    case = Case(plan, layout, value, False, situation)
    return fixed and not situation.gradient and not _packed(case)


def _packed(case: Case) -> str:
    """Why an affine operation with fixed weights cannot run on packed ones, '' if it can."""
    operation = case.operation
    if not isinstance(operation, ir.SplicedAffine):
        return "not spliced: plain torch"
    if operation.activation not in PACKED_ACTIVATIONS:
        return f"activation {operation.activation}: plain torch"
    if any(piece.rows.index is not None for piece in case.layout.reads[case.value]):
        return "rows at irregular distances: plain torch"
    return ""


TABLE: dict[str, Line] = {
    "affine": Line(triton=True, native=_affine),
    "AffineBatchNorm": Line(triton=True, native=always),
    "ReluBatchNorm": Line(triton=True, native=always, launches=4, rows=5),
    "Logits": Line(triton=True, launches=6, rows=3),
    "BackpropTruncationComponent": Line(native=_in_a_loop),
    "BatchNormComponent": Line(triton=True, launches=2, rows=1),
    "ConvolutionComponent": Line(triton=True, launches=2, rows=4),  # to images and back
    "FinishedConvolution": Line(triton=True, launches=3, rows=4),
    "LstmNonlinearityComponent": Line(True, _in_a_loop, launches=8, rows=6),
    "GruNonlinearityComponent": Line(True, _in_a_loop, launches=5, rows=3),
    "OutputGruNonlinearityComponent": Line(True, _in_a_loop, launches=4, rows=3),
    "NormalizeComponent": Line(triton=True, launches=5, rows=4),
    "PooledStatistics": Line(True, _without_derivative, launches=4, rows=6),
    "RestrictedAttentionComponent": Line(triton=True, launches=50, rows=30),  # by positions
    "StatisticsExtractionComponent": Line(True, _without_derivative, launches=4, rows=6),
    "StatisticsPoolingComponent": Line(True, _without_derivative, launches=4, rows=6),
    "TimeHeightConvolutionComponent": Line(triton=True, launches=3, rows=4),
}
"""By the name of an operation's class, `affine`, or the type of the component that is applied."""

NOTHING = Line()


@dataclass(frozen=True)
class Choice:
    """How an operation is carried out, and what it costs so.

    Attributes:
        reason: why a faster implementation that there is was not legal, '' if none was.
    """

    implementation: Implementation
    cost: Cost
    seconds: float
    bound: Bound
    reason: str = ""


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


def line_of(plan: Plan, operation: Operation) -> Line:
    """The line of the table for an operation."""
    name = type(operation).__name__
    if name in TABLE:
        return TABLE[name]
    spec = plan.components.get(operation.component_applied)
    if spec is None:
        return NOTHING
    return TABLE["affine"] if is_affine(spec) else TABLE.get(spec.type_name, NOTHING)


def choose(
    plan: Plan,
    layout: Layout,
    machine: Machine,
    *,
    asked: Kernels = "auto",
    situation: Situation | None = None,
) -> dict[Value, Choice]:
    """The choice for every operation that is computed.

    Args:
        asked: `auto` takes native code on a CPU; on a GPU the faster one by the cost model, and
            our kernels for a loop, which plain torch launches anew for each step.
        situation: by default float32 without a derivative, on the machine.
    """
    given = situation or Situation(device="cuda" if machine.is_gpu else "cpu")
    choices = {}
    in_loops = looping(plan)
    for value, operation in enumerate(plan.operations):
        if not layout.times[value].count or is_view(operation):
            continue
        case = Case(plan, layout, value, value in in_loops, given)
        choices[value] = _choice(case, machine, asked)
    return choices


def _choice(case: Case, machine: Machine, asked: Kernels) -> Choice:
    line = line_of(case.plan, case.operation)
    plain = _plain(case, line, machine)
    if asked == "reference":
        return plain
    reason = ""
    if line.triton and asked != "native" and (machine.is_gpu or asked == "triton"):
        reason = "" if asked == "triton" else _no_triton(case.situation)
        ours = _fused(case, "triton", machine, machine.kernel_share)
        if not reason and (asked == "triton" or case.looping or ours.seconds < plain.seconds):
            return ours
    elif line.native is not None and asked != "triton":
        reason = _no_native(case.situation) or line.native(case)
        if not reason:
            return _fused(case, "native", machine, machine.library_share)
    return _with_reason(plain, reason)


def _with_reason(choice: Choice, reason: str) -> Choice:
    return Choice(choice.implementation, choice.cost, choice.seconds, choice.bound, reason)


def _no_native(situation: Situation) -> str:
    """Why native code is legal nowhere."""
    if not situation.abilities.native:
        return "no native library: plain torch"
    if situation.device != "cpu":
        return f"on {situation.device}: plain torch"
    if situation.dtype != "float32":
        return f"{situation.dtype}: plain torch"
    return "traced: plain torch" if situation.traced else ""


def _no_triton(situation: Situation) -> str:
    """Why our kernels for a GPU are legal nowhere."""
    if situation.device != "cuda":
        return "no CUDA device: plain torch"
    return "" if situation.dtype in TRITON_TYPES else f"{situation.dtype}: plain torch"


def _fused(case: Case, implementation: Implementation, machine: Machine, share: float) -> Choice:
    situation = case.situation
    cost = operation_cost(case.plan, case.layout, case.value, situation.batch)
    seconds = cost.seconds(machine, situation.precision, share)
    return Choice(implementation, cost, seconds, cost.bound(machine, situation.precision))


def _plain(case: Case, line: Line, machine: Machine) -> Choice:
    """Plain torch: passes that follow each other."""
    situation = case.situation
    first = operation_cost(case.plan, case.layout, case.value, situation.batch)
    more = _more(case, line)
    cost = first + more
    seconds = first.seconds(machine, situation.precision, machine.library_share)
    seconds += more.seconds(machine, situation.precision)
    return Choice("reference", cost, seconds, cost.bound(machine, situation.precision))


def _more(case: Case, line: Line) -> Cost:
    """What plain torch does beyond what it has to: results read and written again."""
    operation = case.operation
    rows = FLOAT * case.situation.batch * case.layout.times[case.value].count * operation.dim
    if isinstance(operation, ir.SplicedAffine):
        terms = len(operation.terms) - 1
        epilogue = bool(operation.activation) + 2 * bool(operation.scale_offset)
        passes = 2 * (terms + epilogue + len(operation.bypass))
        passes -= len(operation.bypass)  # the bypass itself is counted anyway
        return Cost(0, rows * passes, terms + epilogue + len(operation.bypass))
    return Cost(0, rows * line.rows, line.launches - 1)
