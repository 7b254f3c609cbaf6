"""Recurrences in one launch give what they give step by step, and their derivatives are right."""

import pytest
import torch

from nnet.kernels.recurrence import program as ir
from nnet.kernels.recurrence.loop import Loop
from nnet.kernels.recurrence.program import Truncation
from nnet.kernels.recurrence.run import run
from tests.kernels.triton_cases import DEVICE, assert_close, nan_around
from tools.recurrence_layers import composed_lstm, gru, lstm, output_gru

FREE = Truncation(scale=0.9)
LIMITED = Truncation(scale=0.9, threshold=2.0, zeroing=3.0, boundaries="boundaries")


def layers(truncation):
    return {
        "lstm": lstm(7, 7, truncation=truncation),
        "lstm with projection": lstm(7, 3, 2, truncation=truncation),
        "lstm with dropout": lstm(19, 18, 4, dropout=True, truncation=truncation),
        "lstm of components": composed_lstm(9, 9, truncation=truncation),
        "lstm of components with projection": composed_lstm(20, 6, 5, truncation=truncation),
        "gru": gru(7, 7, truncation=truncation),
        "gru with projection": gru(35, 18, 3, truncation=truncation),
        "gru with renorm": gru(8, 3, 5, normalized=True, truncation=truncation),
        "gru with output gate": output_gru(19, 5, 7, truncation=truncation),
    }


NAMES = tuple(layers(FREE))
SHAPES = {"forward": (13, 5, False), "backward": (36, 17, True), "one step": (3, 5, True)}
"""Rows, rows of a step, and whether time runs backward."""
CASES = [(name, "forward") for name in NAMES]
CASES += [(name, "backward") for name in NAMES[1::3]] + [("gru", "one step")]


def random(*shape, seed=0, scale=1.0):
    generator = torch.Generator().manual_seed(seed + sum(shape))
    return scale * torch.randn(*shape, generator=generator)


def widths_of(layer, both):
    """Columns of all that comes from outside, and of all buffers."""
    forward, backward = both.forward.program.widths, both.backward.program.widths
    names = forward | backward
    found = {name: max(forward.get(name, 0), backward.get(name, 0)) for name in names}
    return {"x": found["x"], "of y": found["of y"]}, found


def make(layer, both, rows, width, reverse, *, seed=0):
    """The loop forward and backward, with NaN around everything that is given, and in the rest."""
    given, all_widths = widths_of(layer, both)
    program = layer.source
    buffers = {name: random(rows, columns, seed=seed) for name, columns in given.items()}
    buffers["masks"] = (random(rows, 3, seed=9) > 0).float()
    for name, columns in all_widths.items():
        if name not in buffers:
            buffers[name] = torch.full((rows, columns), torch.nan)
    matrices = {n: random(*shape, seed=n, scale=0.5) for n, shape in program.matrices.items()}
    vectors = {n: random(1, dim, seed=n, scale=0.5) for n, dim in program.vectors.items()}
    pushes = {n: dim for n, dim in both.backward.program.vectors.items() if n not in vectors}
    vectors |= {n: random(-(-rows // width), dim, seed=n, scale=0.1) for n, dim in pushes.items()}
    boundaries = (torch.arange(rows) % 4 == 0).to(torch.uint8).unsqueeze(1)

    def loop(dtype, backward=False):
        def moved(tensor):
            there = tensor.to(DEVICE, dtype, copy=True)
            return nan_around(there) if dtype == torch.float32 else there

        own = shared.setdefault(dtype, {name: moved(b) for name, b in buffers.items()})
        own["boundaries"] = boundaries.to(DEVICE)
        many = [{n: moved(t) for n, t in tensors.items()} for tensors in (matrices, vectors)]
        return Loop(rows, width, reverse ^ backward, own, *many)

    shared = {}
    return loop


def check(program, implementation, *loops, tolerance=1e-5, skip=()):
    run(program, *[found for found, _ in loops], implementation=implementation)
    for found, expected in loops:
        run(program, expected)
        for name in {place.buffer for _, place in program.stores}:
            assert_close(found.buffers[name], expected.buffers[name], tolerance)


@pytest.mark.parametrize(("name", "shape"), CASES)
def test_both_ways(name, shape):
    layer = layers(LIMITED)[name]
    repaired = frozenset(o.repair for o in layer.source.operations if isinstance(o, ir.Function))
    both = layer.both(repaired - {-1})
    loop = make(layer, both, *SHAPES[shape])
    check(both.forward.program, "triton", (loop(torch.float32), loop(torch.float64)))
    backward = (loop(torch.float32, True), loop(torch.float64, True))
    check(both.backward.program, "triton", backward, tolerance=3e-5)


@pytest.mark.parametrize("name", ["lstm with projection", "gru"])
def test_two_loops_side_by_side(name):
    layer = layers(LIMITED)[name]
    both = layer.both()
    first = make(layer, both, 23, 5, False)
    second = make(layer, both, 36, 17, True, seed=1)
    pairs = [(loop(torch.float32), loop(torch.float64)) for loop in (first, second)]
    check(both.forward.program, "triton", *pairs)
    pairs = [(loop(torch.float32, True), loop(torch.float64, True)) for loop in (first, second)]
    check(both.backward.program, "triton", *pairs, tolerance=3e-5)


def through_autograd(layer, loop):
    """The outputs of a layer, by its definition, with a graph; time runs forward."""
    source = layer.source
    earlier, outputs = {}, []
    functions = {"sigmoid": torch.sigmoid, "tanh": torch.tanh}
    for rows in loop.steps():
        made = {}
        count = rows.stop - rows.start
        for value, operation in enumerate(source.operations):
            match operation:
                case ir.Given(dim=dim, buffer=buffer, column=column):
                    found = loop.buffers[buffer][rows, column : column + dim]
                case ir.RowGiven(buffer=buffer, column=column):
                    found = loop.buffers[buffer][rows, column : column + 1]
                case ir.Earlier(dim=dim, of=of):
                    found = earlier.get(of, torch.zeros(count, dim, dtype=torch.float64))[:count]
                case ir.Product(of=of, matrix=matrix):
                    found = made[of] @ loop.matrices[matrix].t()
                case ir.Total(terms=terms, constant=constant):
                    found = constant + sum(scale * made[term] for term, scale in terms)
                case ir.Multiply(of=of, second=second) | ir.Scaled(of=of, row=second):
                    found = made[of] * made[second]
                case ir.RowSum(of=of, second=second):
                    found = (made[of] * made[second]).sum(1, keepdim=True)
                case ir.Factor(sums=(total,), numbers=(size,)):
                    found = (made[total] / size).rsqrt()
                case ir.Function(of=of, name=name):
                    found = functions[name](made[of])
                case ir.Weighted(of=of, vector=vector):
                    found = made[of] * loop.vectors[vector]
                case ir.Offset(of=of, vector=vector):
                    found = made[of] + loop.vectors[vector]
                case ir.Truncated(of=of, truncation=number):
                    found = source.truncations[number].scale * made[of]
            made[value] = found
        earlier = made
        outputs.append(torch.cat([made[value] for value in layer.outputs], dim=1))
    return torch.cat(outputs)


@pytest.mark.parametrize("name", NAMES)
def test_the_derivative_is_that_of_the_definition(name):
    layer = layers(FREE)[name]
    both = layer.both()
    loop = make(layer, both, 13, 4, False)
    wide = loop(torch.float64)
    x = wide.buffers["x"].clone().requires_grad_()
    given = Loop(13, 4, False, {**wide.buffers, "x": x}, wide.matrices, wide.vectors)
    outputs = through_autograd(layer, given)
    (expected,) = torch.autograd.grad(outputs, x, wide.buffers["of y"])
    run(both.forward.program, wide)
    torch.testing.assert_close(wide.buffers["y"], outputs.detach())
    run(both.backward.program, loop(torch.float64, True))
    torch.testing.assert_close(wide.buffers["of x"], expected)


@pytest.mark.parametrize("loops", [1, 2])
def test_the_operator(loops):
    from nnet.kernels.recurrence.gpu import operator as operators

    layer = layers(LIMITED)["gru"]
    both = layer.both()
    makers = [make(layer, both, rows, 3, False) for rows in (5, 3)[:loops]]
    for runnable, backward in ((both.forward, False), (both.backward, True)):
        given = [maker(torch.float32, backward) for maker in makers]
        for loop in given:
            for buffer in loop.buffers.values():
                buffer.nan_to_num_()
        number = operators.number_of(runnable.program)
        arguments = (number, *operators.arguments_of(runnable.program, given))
        torch.library.opcheck(operators.recurrence, arguments)
