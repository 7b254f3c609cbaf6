"""The GRU cell in C++ against plain torch in float64."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from nnet.kernels.cells.gru_cpu import LIBRARY, GruParts, NativeGru, NativeGruDerivative
from nnet.kernels.native_rows import runs_natively

TIMES, SEQUENCES = 5, 3

pytestmark = pytest.mark.usefixtures("instruction_set")


def apart(*shape: int) -> Tensor:
    """NaN in rows that lie apart in memory."""
    times, sequences, dim = shape
    return torch.full((times, sequences + 1, dim + 7), math.nan)[:, :sequences, 2 : 2 + dim]


def parts(cells: int, states: int) -> GruParts:
    """Random input; without states there is no reset gate, with as many as cells, s' is c'."""
    torch.manual_seed(cells)
    dims = (cells, cells, cells, *((states, states) if states else ()))
    made = [apart(TIMES, SEQUENCES, dim).copy_(torch.randn(TIMES, SEQUENCES, dim)) for dim in dims]
    made[0].sigmoid_()
    if states == cells:
        made[4] = made[2]
    return GruParts(*made)


def cell(z: Tensor, inner: Tensor, previous: Tensor, feedback: Tensor) -> Tensor:
    """[h, c] by definition."""
    h = torch.tanh(inner + feedback)
    return torch.cat((h, (1 - z) * h + z * previous), dim=-1)


def exact(given: GruParts, weights: Tensor, gradient: Tensor) -> tuple[Tensor, GruParts, Tensor]:
    """The output and the gradients for the input and the weights, in float64."""
    z, inner, previous, r, s = (
        None if part is None else part.double().requires_grad_() for part in given
    )
    if given.state is given.previous:
        s = previous
    w = weights.double().requires_grad_()
    feedback = w * previous if r is None else (r * s) @ w.t()
    y = cell(z, inner, previous, feedback)
    inputs = [tensor for tensor in (z, inner, previous, r, s) if tensor is not None]
    *found, of_weights = torch.autograd.grad(y, (*inputs, w), gradient.double())
    return y.detach(), GruParts(*found), of_weights


def run(given: GruParts, out: Tensor, weights: Tensor) -> tuple[NativeGru, Tensor | None]:
    """All steps forward, and r s'."""
    if given.reset is None:
        native, product = NativeGru(given, out, weights=weights), None
    else:
        product = torch.full(given.reset.shape, math.nan)
        native = NativeGru(given, out, product=product)
    for first, end in ((0, 1), (1, 5)):
        if product is not None:
            native.reset(first, end)
            out[first:end, :, : weights.shape[0]] = product[first:end] @ weights.t()
        native.forward(first, end)
    return native, product


@pytest.mark.parametrize("added", [False, True])
@pytest.mark.parametrize(
    ("cells", "states"),
    [(1, 0), (63, 0), (130, 0), (1, 1), (16, 16), (63, 63), (63, 17), (130, 64)],
)
def test_values_and_derivatives(cells: int, states: int, added: bool) -> None:
    given, out = parts(cells, states), apart(TIMES, SEQUENCES, 2 * cells)
    weights = torch.randn(cells, states) / states**0.5 if states else torch.randn(cells)
    assert runs_natively(LIBRARY, out, *given[:3])
    native, product = run(given, out, weights)
    gradient = torch.randn(TIMES, SEQUENCES, 2 * cells)
    expected, gradients, of_weights = exact(given, weights, gradient)
    torch.testing.assert_close(out.double(), expected, rtol=2e-6, atol=2e-6)

    targets = [None if part is None else apart(*part.shape) for part in given]
    if given.state is given.previous:
        targets[4] = targets[2]
    adds = [added, added, added, False, added or given.state is given.previous]
    for target, adds_here in zip(targets, adds, strict=True):
        if target is not None and added and adds_here:
            target.fill_(0.5)
    before_tanh = torch.full(given.inner.shape, math.nan) if added else targets[1]
    back = NativeGruDerivative(native, gradient, GruParts(*targets), adds, before_tanh, None)
    for first, end in ((2, 5), (0, 2)):
        back.backward(first, end)
        if product is not None:
            targets[3][first:end] = before_tanh[first:end] @ weights
            back.spread(first, end)
    close = {"rtol": 2e-5, "atol": 2e-5}
    for target, found, adds_here in zip(targets, gradients, adds, strict=True):
        if found is not None:
            start = 0.5 if added and adds_here else 0.0
            torch.testing.assert_close(target.double() - start, found, **close)
    if product is None:
        torch.testing.assert_close(back.sums, of_weights, **close)
    else:
        of_matrix = before_tanh.flatten(0, 1).t() @ product.flatten(0, 1)
        torch.testing.assert_close(of_matrix.double(), of_weights, **close)


def test_self_repair_is_added_before_the_tanh() -> None:
    given, out, weights = parts(33, 0), torch.empty(TIMES, SEQUENCES, 66), torch.randn(33)
    native, _ = run(given, out, weights)
    targets = [torch.empty(TIMES, SEQUENCES, 33) for _ in range(3)]
    repair = torch.rand(33)
    adds = [False] * 5
    arguments = (GruParts(*targets), adds, targets[1], repair)
    NativeGruDerivative(native, torch.zeros_like(out), *arguments).backward(0, TIMES)
    torch.testing.assert_close(targets[1], repair * out[..., :33])
    torch.testing.assert_close(targets[2], targets[1] * weights)
    assert not targets[0].any()


def test_threads_change_nothing_but_the_order_of_sums() -> None:
    inputs = [torch.randn(6, 32, 200) for _ in range(3)]
    weights, gradient = torch.randn(200), torch.randn(6, 32, 400)
    results = []
    before = torch.get_num_threads()
    for threads in (1, 3):
        torch.set_num_threads(threads)
        out, targets = torch.empty(6, 32, 400), [torch.empty(6, 32, 200) for _ in range(3)]
        native = NativeGru(GruParts(*inputs), out, weights=weights)
        native.forward(0, 6)
        arguments = (GruParts(*targets), [False] * 5, targets[1], None)
        back = NativeGruDerivative(native, gradient, *arguments)
        back.backward(0, 6)
        results.append((out, *targets, back.sums))
    torch.set_num_threads(before)
    (*rows, sums), (*other_rows, other_sums) = results
    assert all(map(torch.equal, rows, other_rows))
    torch.testing.assert_close(sums, other_sums, rtol=1e-4, atol=1e-4)


def test_saturated_units_are_not_nan_and_nan_stays_nan() -> None:
    z, inner, previous = (150 * torch.randn(TIMES, SEQUENCES, 64) for _ in range(3))
    z.sigmoid_()
    inner[1, 2, 3] = math.nan
    out = torch.zeros(TIMES, SEQUENCES, 128)
    run(GruParts(z, inner, previous), out, torch.randn(64))
    assert out[1, 2, 3].isnan()
    assert out[1, 2, 67].isnan()
    assert out.isnan().sum() == 2
