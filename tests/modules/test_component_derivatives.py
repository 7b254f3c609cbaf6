"""Derivatives of component modules: of values, step by step, and without a graph."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from nnet.components.config import component_from_line
from nnet.components.initial import Initializer
from nnet.components.window import TimeWindow
from nnet.modules.base import ComponentModule
from nnet.modules.registry import make_module
from nnet.plan.times import Times
from nnet.plan.windows import WindowRows
from nnet.runtime import compiled  # noqa: F401
from nnet.text.parse import parse_config

GRU_STEP = "cell-dim=3 param-stddev=0.7"
ROWWISE = {
    "affine": "Affine input-dim=4 output-dim=3",
    "block_affine": "BlockAffine input-dim=6 output-dim=4 num-blocks=2",
    "composite": "Composite num-components=2 component1='type=TanhComponent dim=4' "
    "component2='type=AffineComponent input-dim=4 output-dim=2'",
    "convolution": "Convolution input-x-dim=5 input-y-dim=4 input-z-dim=2 filt-x-dim=3 "
    "filt-y-dim=2 filt-x-step=2 filt-y-step=1 num-filters=3",
    "convolution_yzx": "Convolution input-x-dim=5 input-y-dim=4 input-z-dim=2 filt-x-dim=3 "
    "filt-y-dim=2 filt-x-step=1 filt-y-step=2 num-filters=3 input-vectorization-order=yzx",
    "elementwise_product": "ElementwiseProduct input-dim=9 output-dim=3",
    "fixed_bias": "FixedBias dim=3",
    "fixed_scale": "FixedScale dim=3",
    "gru": f"GruNonlinearity {GRU_STEP}",
    "gru_projected": f"GruNonlinearity {GRU_STEP} recurrent-dim=2",
    "log_softmax": "LogSoftmax dim=5",
    "lstm": "LstmNonlinearity cell-dim=3",
    "maxpooling": "Maxpooling input-x-dim=4 input-y-dim=3 input-z-dim=2 pool-x-size=2 "
    "pool-y-size=2 pool-z-size=1 pool-x-step=2 pool-y-step=1 pool-z-step=1",
    "noop": "NoOp dim=3",
    "normalize": "Normalize dim=6 target-rms=0.5",
    "normalize_block": "Normalize dim=6 block-dim=3 add-log-stddev=true",
    "output_gru": f"OutputGruNonlinearity {GRU_STEP}",
    "per_element_offset": "PerElementOffset dim=4 block-dim=2",
    "per_element_scale": "PerElementScale dim=4 param-stddev=1",
    "pnorm": "Pnorm input-dim=6 output-dim=2",
    "repeated_affine": "RepeatedAffine input-dim=6 output-dim=4 num-repeats=2",
    "relu": "RectifiedLinear dim=5",
    "scale_and_offset": "ScaleAndOffset dim=4 block-dim=2",
    "sigmoid": "Sigmoid dim=5",
    "softmax": "Softmax dim=5",
    "sum_block": "SumBlock input-dim=6 output-dim=2 scale=0.5",
    "sum_group": "SumGroup sizes=1,3",
    "tanh": "Tanh dim=5",
    "truncation": "BackpropTruncation dim=3 scale=0.8 clipping-threshold=0 zeroing-threshold=0",
}
TIMES = Times(-2, 1, 3)
BATCH = 2


def module_of(text: str, seed: int = 0) -> ComponentModule:
    """The module of a component in double precision, in evaluation mode."""
    kind, _, settings = text.partition(" ")
    (line,) = parse_config(f"component name=c type={kind}Component {settings}").lines
    spec = component_from_line(line, Initializer(np.random.default_rng(seed)))
    return make_module(spec).double().eval()


def rows(dim: int, seed: int = 1, count: int = TIMES.count) -> torch.Tensor:
    """Random rows that are a part of something wider, as those of loops are."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(count, BATCH, dim + 2, generator=generator).double()[..., 1:-1]


@pytest.mark.parametrize("case", ROWWISE)
def test_derivatives_are_those_of_the_values(case: str) -> None:
    module = module_of(ROWWISE[case])
    x = rows(module.spec.input_dim).requires_grad_()
    parameters = tuple(module.parameters())

    def function(x: torch.Tensor, *_: torch.Tensor) -> torch.Tensor:
        return module(x, TIMES)

    assert torch.autograd.gradcheck(function, (x, *parameters), eps=1e-6, atol=1e-6)


@pytest.mark.parametrize("case", ROWWISE)
def test_derivatives_without_a_graph_are_the_same(case: str) -> None:
    module = module_of(ROWWISE[case])
    x = rows(module.spec.input_dim).requires_grad_()
    y = module(x, TIMES)
    gradient = rows(y.shape[-1], seed=2)
    parameters = list(module.parameters())
    expected, *by_parameters = torch.autograd.grad(y, [x, *parameters], gradient)
    x, y = x.detach(), y.detach()
    found = module.derivative(x, y, gradient, TIMES)
    torch.testing.assert_close(found, expected)
    factors = module.derivative_factors(x, y, TIMES)
    if factors is not None:
        step = module.derivative_from(factors[1:2], x[1:2], gradient[1:2])
        torch.testing.assert_close(step, expected[1:2])
    if parameters:
        all_at_once = module.parameter_derivatives(x, y, gradient, TIMES)
        torch.testing.assert_close(list(all_at_once), by_parameters)


@pytest.mark.parametrize("case", ROWWISE)
def test_values_are_written_into_place(case: str) -> None:
    module = module_of(ROWWISE[case])
    x = rows(module.spec.input_dim)
    expected = module(x, TIMES).detach()
    place = torch.full((TIMES.count, BATCH, expected.shape[-1] + 3), torch.nan).double()
    with torch.no_grad():
        module.forward_into(x, TIMES, place[..., 2:-1])
    torch.testing.assert_close(place[..., 2:-1], expected)
    assert place[..., :2].isnan().all()


@pytest.mark.parametrize("case", ["lstm", "gru", "gru_projected", "output_gru"])
def test_cells_take_rows_of_less_precision(case: str) -> None:
    module = module_of(ROWWISE[case]).float()
    x = rows(module.spec.input_dim).float().requires_grad_()
    expected = module(x, TIMES)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        result = module(x.bfloat16(), TIMES)
    torch.testing.assert_close(result.float(), expected, rtol=0.05, atol=0.05)
    result.float().sum().backward()
    assert all(p.grad is not None and p.grad.dtype == p.dtype for p in module.parameters())


def test_an_lstm_does_not_derive_by_its_dropout_masks() -> None:
    module = module_of("LstmNonlinearity cell-dim=3 use-dropout=true")
    x, masks = rows(15).requires_grad_(), rows(3, seed=3)

    def function(x: torch.Tensor, *_: torch.Tensor) -> torch.Tensor:
        return module(torch.cat((x, masks), dim=-1), TIMES)

    assert torch.autograd.gradcheck(function, (x, *module.parameters()), eps=1e-6, atol=1e-6)
    whole = torch.cat((x.detach(), masks), dim=-1).requires_grad_()
    module(whole, TIMES).sum().backward()
    assert whole.grad is not None
    assert not whole.grad[..., 15:].any()


WINDOWED = {
    "attention": "RestrictedAttention num-heads=2 key-dim=2 value-dim=3 num-left-inputs=2 "
    "num-right-inputs=1 time-stride=2 num-left-inputs-required=1 num-right-inputs-required=0",
    "attention_without_context": "RestrictedAttention key-dim=2 value-dim=3 num-left-inputs=1 "
    "num-right-inputs=1 output-context=false num-left-inputs-required=0",
    "convolution": "TimeHeightConvolution num-filters-in=2 num-filters-out=3 height-in=5 "
    "height-out=5 time-offsets=-1,0,1 height-offsets=-1,0,1 required-time-offsets=0",
    "convolution_sparse": "TimeHeightConvolution num-filters-in=2 num-filters-out=2 height-in=6 "
    "height-out=3 height-subsample-out=2 offsets=-6,0;-6,1;0,-2;0,2;1,1 required-time-offsets=0",
    "extraction": "StatisticsExtraction input-dim=3 output-period=3",
    "extraction_coarse": "StatisticsExtraction input-dim=3 input-period=2 output-period=4 "
    "include-variance=false",
    "pooling": "StatisticsPooling input-dim=5 left-context=4 right-context=2 output-stddevs=true "
    "num-log-count-features=2",
    "pooling_coarse": "StatisticsPooling input-dim=5 left-context=4 right-context=2 input-period=2",
}
STORED = {
    "every frame": Times(-3, 1, 12),
    "cut at the left": Times(0, 1, 9),
    "every second frame": Times(-4, 2, 8),
    "irregular": Times.of(np.array([-3, -2, 0, 1, 2, 4, 5, 7, 8])),
}
WANTED = {"in a row": range(10), "some": (0, 4, 8), "irregular": (-2, 0, 1, 2, 4, 8)}


def computable(window: TimeWindow, stored: Times, wanted: object) -> Times:
    """Those of the wanted times at which there is an output."""
    given = set(stored.array().tolist())

    def there(t: int) -> bool:
        base = t - t % window.modulus
        required = all(base + offset in given for offset in window.required)
        some = any(base + offset in given for offset in window.offsets)
        return t % window.every == 0 and required and some

    return Times.of(np.array([t for t in wanted if there(t)], dtype=np.int64))


def one_by_one(module: ComponentModule, x: torch.Tensor, rows: WindowRows) -> torch.Tensor:
    """The same output row by row, each from all frames around it, missing ones being left out."""
    times = rows.stored.array().tolist()
    results = []
    for t in rows.own.array().tolist():
        near = [i for i, s in enumerate(times) if abs(s - t) < 20]
        part = WindowRows(rows.window, Times.of(np.array([times[i] for i in near])), Times(t, 1, 1))
        results.append(module(x[near], part.own, part))
    return torch.cat(results)


@pytest.mark.parametrize("wanted", WANTED)
@pytest.mark.parametrize("stored", STORED)
@pytest.mark.parametrize("case", WINDOWED)
def test_windows_of_any_times(case: str, stored: str, wanted: str) -> None:
    module = module_of(WINDOWED[case])
    window = module.spec.window
    own = computable(window, STORED[stored], WANTED[wanted])
    if own.count == 0:
        return
    places = WindowRows(window, STORED[stored], own)
    x = rows(module.spec.input_dim, count=STORED[stored].count)
    x = x.abs() + 1 if case.startswith("pooling") else x
    result = module(x, own, places)
    assert result.shape == (own.count, BATCH, module.spec.output_dim)
    torch.testing.assert_close(result, one_by_one(module, x, places))


@pytest.mark.parametrize("case", WINDOWED)
def test_derivatives_through_windows(case: str) -> None:
    module = module_of(WINDOWED[case])
    stored = Times(0, 1, 6)
    own = computable(module.spec.window, stored, range(6))
    places = WindowRows(module.spec.window, stored, own)
    x = rows(module.spec.input_dim, count=6)
    fixed = x[..., :0]
    if case.startswith("pooling"):  # counts, which have no derivative; sums of squares that fit
        fixed, x = torch.ones_like(x[..., :1]), torch.cat((x[..., :2], x[..., :2] ** 2 + 1), dim=-1)
    x = x.requires_grad_()

    def function(x: torch.Tensor, *_: torch.Tensor) -> torch.Tensor:
        return module(torch.cat((fixed, x), dim=-1), own, places)

    assert torch.autograd.gradcheck(function, (x, *module.parameters()), eps=1e-6, atol=1e-6)
