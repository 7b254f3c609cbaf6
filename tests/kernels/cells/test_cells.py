"""Cells as plain torch, C++ and Triton, against their formulas in float64."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import pytest
import torch
from torch import Tensor

from nnet.kernels import native, native_choice
from nnet.kernels.cells import cell as cells
from nnet.kernels.cells.cell import FED, INNER, KEPT, OUTPUT, REPAIRS, Cell, gradient_of
from nnet.kernels.cells.run import CellRun, Memory, way_for
from nnet.kernels.implementation import Implementation
from tests.kernels.triton_cases import DEVICE
from tools import render_cells

TIMES, SEQUENCES = 5, 3
PRODUCT = "product 0"


@pytest.fixture(params=["reference", "triton", *native_choice.available()])
def way(request: pytest.FixtureRequest) -> Iterator[Implementation]:
    """Each implementation in turn; native code in each library that this machine can run."""
    if request.param in ("reference", "triton"):
        yield request.param
    else:
        with native.forced(request.param):
            yield "native"


def device_of(way: Implementation) -> str:
    """Where rows have to be."""
    return DEVICE if way == "triton" else "cpu"


def apart(dim: int, way: Implementation = "reference") -> Tensor:
    """Rows (time, batch, dim) that lie apart in memory, between NaN."""
    whole = torch.full((TIMES, SEQUENCES + 1, dim + 7), math.nan, device=device_of(way))
    return whole[:, :SEQUENCES, 2 : 2 + dim]


def formula(kind: str, x: Mapping[str, Tensor], w: Tensor) -> tuple[Tensor, list[Tensor]]:
    """The output, and the results of the nonlinearities, by definition."""
    if kind.startswith("lstm"):
        i, f, g, o = x["gates"].chunk(4, dim=-1)
        previous, (d_i, d_f, d_o) = x["previous"], x.get("masks", w.new_ones(3)).split(1, dim=-1)
        i, f, g = torch.sigmoid(i + w[0] * previous), torch.sigmoid(f + w[1] * previous), g.tanh()
        c = d_f * f * previous + d_i * i * g
        o, m = torch.sigmoid(o + w[2] * c), c.tanh()
        return torch.cat((c, d_o * o * m), dim=-1), [i, f, g, o, m]
    previous = x["previous"]
    fed = (x["reset"] * x["state"]) @ w.t() if kind == "gru" else w * previous
    h = torch.tanh(x["inner"] + fed)
    return torch.cat((h, (1 - x["update"]) * h + x["update"] * previous), dim=-1), [h]


@dataclass
class Case:
    """A cell with random rows and weights."""

    kind: str
    cell: Cell
    rows: dict[str, Tensor]
    weights: Tensor

    @property
    def units(self) -> int:
        return self.cell.source.dim(self.cell.outputs[0])

    def memory(self, out: Tensor, kept: Tensor | None) -> Memory:
        buffers = {**self.rows, OUTPUT: out}
        buffers |= {} if kept is None else {KEPT: kept}
        if self.kind != "gru":
            vectors = self.weights.view(-1, self.units).unsqueeze(1).unbind()
            return Memory(buffers, dict(enumerate(vectors)), {})
        buffers |= {FED: torch.full_like(self.rows["reset"], math.nan)}
        return Memory(buffers | {PRODUCT: out[..., : self.units]}, {}, {0: self.weights})


def case(
    kind: str, units: int, states: int = 0, size: float = 2.0, way: Implementation = "reference"
) -> Case:
    torch.manual_seed(units)
    device = device_of(way)
    cell = {
        "lstm": lambda: cells.lstm_cell(units),
        "lstm_dropout": lambda: cells.lstm_cell(units, dropout=True),
        "output_gru": lambda: cells.output_gru_cell(units),
        "gru": lambda: cells.gru_cell(units, states),
    }[kind]()
    dims = {"gates": 4 * units, "masks": 3, "reset": states, "state": states}
    rows = {}
    for name in cell.inputs:
        dim = dims.get(name, units)
        rows[name] = apart(dim, way).copy_(size * torch.randn(TIMES, SEQUENCES, dim))
    if "masks" in rows:
        rows["masks"].copy_(
            torch.tensor([0.0, 1.25, 0.5], device=device).expand(TIMES, SEQUENCES, 3)
        )
    if "update" in rows:
        rows["update"].sigmoid_()
    if kind == "gru":
        weights = torch.randn(units, states) / states**0.5
    else:
        weights = torch.randn(3, units) if kind.startswith("lstm") else torch.randn(units)
    return Case(kind, cell, rows, weights.to(device))


CASES = [
    (kind, units, 0)
    for kind in ("lstm", "lstm_dropout", "output_gru")
    for units in (1, 16, 63, 130)
] + [("gru", 1, 1), ("gru", 16, 16), ("gru", 63, 17), ("gru", 130, 64)]


def forward(given: Case, way: Implementation, out: Tensor, kept: Tensor | None = None) -> CellRun:
    run = CellRun(given.cell.forward(keeps=kept is not None), given.memory(out, kept), way)
    for step in run.steps([(0, 1), (1, TIMES)]):
        step()
    return run


@pytest.mark.parametrize("in_place", [False, True])
@pytest.mark.parametrize(("kind", "units", "states"), CASES)
def test_values_and_gradients(
    kind: str, units: int, states: int, in_place: bool, way: Implementation
) -> None:
    """In place, what is kept, and then the gradient for the gates, takes the gates' place; without
    it, the derivative computes it again."""
    given = case(kind, units, states, way=way)
    exact = {name: rows.double().requires_grad_() for name, rows in given.rows.items()}
    exact_weights = given.weights.double().requires_grad_()
    expected, _ = formula(kind, exact, exact_weights)
    out = apart(2 * units, way)
    assert way != "native" or way_for(way, out, *given.rows.values()) == "native"
    kept = given.rows.get("gates") if in_place else None
    run = forward(given, way, out, kept)
    close = {"rtol": 3e-6, "atol": 3e-6}
    torch.testing.assert_close(out.double(), expected.detach(), **close)

    gradient = torch.randn(TIMES, SEQUENCES, 2 * units).to(out)
    names = [name for name in given.cell.inputs if name != "masks"]
    *found, of_weights = torch.autograd.grad(
        expected, (*(exact[name] for name in names), exact_weights), gradient.double()
    )
    targets = {gradient_of(name): apart(given.rows[name].shape[2], way) for name in names}
    added = frozenset()
    if kind in ("gru", "output_gru") and not in_place:
        added = frozenset([gradient_of("previous"), gradient_of("update")])
        for name in added:
            targets[name].fill_(0.5)
    buffers = {**run.memory.buffers, **targets, gradient_of(OUTPUT): gradient}
    if "inner" in names:
        buffers[INNER] = targets[gradient_of("inner")]
    if kept is not None:
        buffers[gradient_of("gates")] = targets[gradient_of("gates")] = kept
    if kind == "gru":
        buffers[PRODUCT] = targets[gradient_of("reset")]
    memory = Memory(buffers, run.memory.vectors, run.memory.matrices, added)
    back = CellRun(given.cell.backward(kept=kept is not None), memory, way)
    for step in back.steps([(2, TIMES), (0, 2)]):
        step()
    close = {"rtol": 2e-5, "atol": 2e-5}
    for name, wanted in zip(names, found, strict=True):
        start = 0.5 if gradient_of(name) in added else 0.0
        torch.testing.assert_close(targets[gradient_of(name)].double() - start, wanted, **close)
    if kind == "gru":
        inner, fed = targets[gradient_of("inner")], buffers[FED]
        sums = inner.flatten(0, 1).t() @ fed.flatten(0, 1)
    else:
        sums = torch.stack([back.sum_of("weights", n) for n in sorted(given.cell.weights)])
    torch.testing.assert_close(sums.view(of_weights.shape).double(), of_weights, **close)


@pytest.mark.parametrize("kept", [False, True])
@pytest.mark.parametrize("kind", ["lstm", "lstm_dropout", "output_gru", "gru"])
def test_self_repair_is_added_before_each_nonlinearity(
    kind: str, kept: bool, way: Implementation
) -> None:
    """As a push to the middle of its input; LSTMs count results too."""
    units = 33
    given = case(kind, units, 7, way=way)
    out, keeps = (torch.empty(TIMES, SEQUENCES, n * units).to(given.weights) for n in (2, 4))
    keeps = keeps if kept and given.cell.kept else None
    gradient = torch.zeros_like(out)
    run = forward(given, way, out, keeps)
    repair = torch.rand(len(given.cell.repairs), 1, units).to(out)
    targets = {gradient_of(name): torch.full_like(x, math.nan) for name, x in given.rows.items()}
    buffers = {**run.memory.buffers, **targets, gradient_of(OUTPUT): gradient}
    if not kind.startswith("lstm"):
        buffers[INNER] = torch.empty_like(targets[gradient_of("inner")])
    if kind == "gru":
        buffers[PRODUCT] = targets[gradient_of("reset")]
    vectors = run.memory.vectors | {REPAIRS + n: row for n, row in enumerate(repair)}
    program = given.cell.backward(kept=keeps is not None, repaired=True)
    back = CellRun(program, Memory(buffers, vectors, run.memory.matrices), way)
    back(0, TIMES)
    _, results = formula(kind, given.rows, given.weights)
    close = {"rtol": 1e-5, "atol": 1e-5}
    if not kind.startswith("lstm"):
        torch.testing.assert_close(targets[gradient_of("inner")], repair[0] * results[0], **close)
        return
    i, _, g, o, m = results
    rows = torch.stack(results, dim=2).flatten(0, 1).double()
    for name, values in (("values", rows), ("squares", rows.square())):
        found = torch.stack([back.sum_of(name, REPAIRS + n) for n in range(5)])
        torch.testing.assert_close(found, values.sum(0), **close)
    of_gates = targets[gradient_of("gates")].chunk(4, dim=-1)
    of_o = (2 * o - 1) * repair[3]
    torch.testing.assert_close(of_gates[3], of_o, **close)
    of_cell = of_o * given.weights[2] + repair[4] * m
    mask = given.rows["masks"][..., :1] if kind == "lstm_dropout" else 1.0
    of_g = of_cell * mask * i * (1 - g * g) + repair[2] * g
    torch.testing.assert_close(of_gates[2], of_g, **close)


@pytest.mark.parametrize(
    ("way", "dtype"),
    [("reference", torch.bfloat16), ("reference", torch.float64), ("triton", torch.bfloat16)],
)
def test_rows_of_other_types(way: Implementation, dtype: torch.dtype) -> None:
    given = case("lstm", 33, way=way)
    expected, _ = formula("lstm", {k: v.double() for k, v in given.rows.items()}, given.weights)
    given.rows = {name: rows.to(dtype) for name, rows in given.rows.items()}
    out = torch.empty(TIMES, SEQUENCES, 66, dtype=dtype, device=device_of(way))
    forward(given, way, out)
    tolerance = 2e-2 if dtype == torch.bfloat16 else 1e-7
    torch.testing.assert_close(out.double(), expected.double(), rtol=tolerance, atol=tolerance)


@pytest.mark.usefixtures("instruction_set")
def test_threads_change_nothing_but_the_order_of_sums() -> None:
    rows = {"gates": torch.randn(6, 32, 800), "previous": torch.randn(6, 32, 200)}
    given = Case("lstm", cells.lstm_cell(200), rows, torch.randn(3, 200))
    gradient, results = torch.randn(6, 32, 400), []
    before = torch.get_num_threads()
    for threads in (1, 3):
        torch.set_num_threads(threads)
        out, target, kept = (torch.empty(6, 32, dim) for dim in (400, 800, 800))
        memory = given.memory(out, kept)
        CellRun(given.cell.forward(keeps=True), memory, "native")(0, 6)
        buffers = {**memory.buffers, gradient_of(OUTPUT): gradient, gradient_of("gates"): target}
        buffers[gradient_of("previous")] = torch.empty(6, 32, 200)
        program = given.cell.backward(kept=True)
        back = CellRun(program, Memory(buffers, memory.vectors, {}), "native")
        back(0, 6)
        results.append((out, target, back.sum_of("weights", 0)))
    torch.set_num_threads(before)
    (out, target, sums), (other_out, other_target, other_sums) = results
    assert torch.equal(out, other_out)
    assert torch.equal(target, other_target)
    torch.testing.assert_close(sums, other_sums, rtol=1e-4, atol=1e-4)


@pytest.mark.usefixtures("instruction_set")
def test_saturated_units_are_neither_nan_nor_denormal() -> None:
    given = case("lstm", 64, size=150.0)
    out, kept = torch.empty(TIMES, SEQUENCES, 128), torch.empty(TIMES, SEQUENCES, 256)
    forward(given, "native", out, kept)
    expected, _ = formula("lstm", {k: v.double() for k, v in given.rows.items()}, given.weights)
    torch.testing.assert_close(out.double(), expected, rtol=1e-5, atol=1e-6)
    tiny = torch.finfo(torch.float32).tiny
    for values in (out, kept):
        assert not ((values != 0) & (values.abs() < tiny)).any()


@pytest.mark.parametrize(("kind", "buffer"), [("lstm", "gates"), ("output_gru", "inner")])
def test_nan_stays_nan(kind: str, buffer: str) -> None:
    given = case(kind, 16)
    given.rows[buffer][1, 2, 3] = math.nan
    out = torch.zeros(TIMES, SEQUENCES, 32)
    forward(given, "native", out)
    assert out[1, 2, 3].isnan()
    assert out.isnan().sum() == 2


def test_the_text_in_c_is_current() -> None:
    """`python -m tools.render_cells` writes it."""
    assert render_cells.FILE.read_text() == render_cells.render()
