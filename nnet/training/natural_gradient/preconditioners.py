"""Which parameters of which components are trained with natural gradient, and how."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from nnet.kernels.affine.scatter import Projection, ScatterObserver, ScatterSums
from nnet.kernels.affine.terms import ScaledRows
from nnet.modules.base import ComponentModule
from nnet.training.natural_gradient.online import (
    OnlineNaturalGradient,
    Smoothing,
    find_factors,
    update_estimates,
)
from nnet.training.natural_gradient.vectors import Vectors


class Preconditioner:
    """Natural gradient of one component. Made, it sees what the module's gradient comes from.

    Attributes:
        estimates: of the scatter of vectors, in a fixed order.
    """

    estimates: list[OnlineNaturalGradient]

    def apply(self) -> dict[nn.Parameter, Tensor]:
        """Multiplies the gradients by the inverse scatters in place.

        Returns:
            For each parameter a factor, a scalar, by which it remains to be multiplied.
        """
        raise NotImplementedError

    def detach(self) -> None:
        """Stops watching the module."""
        raise NotImplementedError


Maker = Callable[[Any], Preconditioner | None]
_MAKERS: dict[str, Maker] = {}


def preconditions(*type_names: str) -> Callable[[Maker], Maker]:
    """Registers who makes the preconditioner of components of these types."""

    def register(maker: Maker) -> Maker:
        for name in type_names:
            _MAKERS[name] = maker
        return maker

    return register


def make_preconditioner(module: ComponentModule) -> Preconditioner | None:
    """The preconditioner of a module; None if it is not trained with natural gradient."""
    maker = _MAKERS.get(getattr(module.spec, "type_name", ""))
    return maker(module) if maker else None


class AffinePreconditioner(Preconditioner, ScatterObserver):
    """G = sum_n o_n x_n' is multiplied from both sides; x ends with 1 if there is a bias.

    Args:
        module: shows its `observer` the rows x and o, or gives it the sums that it wants of them.
        matrix: (rows, columns).
        bias: (rows,) or None.
        smoothing_in, smoothing_out: for x and o.
    """

    def __init__(
        self,
        module: Any,
        matrix: nn.Parameter,
        bias: nn.Parameter | None,
        smoothing_in: Smoothing,
        smoothing_out: Smoothing,
    ) -> None:
        rows, columns = matrix.shape
        self._module, self._matrix, self._bias = module, matrix, bias
        self._inputs = OnlineNaturalGradient(columns + (bias is not None), smoothing_in)
        self._outputs = OnlineNaturalGradient(rows, smoothing_out)
        self.estimates = [self._inputs, self._outputs]
        module.observer = self

    def __call__(self, rows: Sequence[ScaledRows], gradient: Tensor) -> None:
        self._inputs.observe(Vectors(rows, ones=self._bias is not None))
        self._outputs.observe(Vectors([(gradient, 1.0)]))

    def projections(self) -> tuple[Projection, Projection] | None:
        inputs = self._inputs.projection(ones=self._bias is not None)
        outputs = self._outputs.projection()
        return None if inputs is None or outputs is None else (inputs, outputs)

    def take(self, inputs: ScatterSums, derivatives: ScatterSums) -> None:
        self._inputs.take(inputs)
        self._outputs.take(derivatives)

    def apply(self) -> dict[nn.Parameter, Tensor]:
        matrix, bias = self._matrix, self._bias
        assert matrix.grad is not None
        factor = self._multiply(matrix.grad, None if bias is None else bias.grad)
        return {matrix: factor} if bias is None else {matrix: factor, bias: factor}

    def _multiply(self, matrix: Tensor, bias: Tensor | None) -> Tensor:
        """Multiplies a gradient; the factor that remains."""
        self._outputs.multiply(matrix.t())
        if bias is not None:
            self._outputs.multiply(bias.unsqueeze(0))
        self._inputs.multiply(matrix, bias)
        return self._inputs.factor() * self._outputs.factor()

    def detach(self) -> None:
        self._module.observer = None


class PartsPreconditioner(AffinePreconditioner):
    """The same where a minibatch comes in several calls, by each of which the estimates change
    before the next. (Not where a minibatch is summed up over processes.)"""

    _sums: list[Tensor] | None = None

    def projections(self) -> None:
        """Everything has to be seen."""

    def __call__(self, rows: Sequence[ScaledRows], gradient: Tensor) -> None:
        super().__call__(rows, gradient)
        if self._inputs.summed:
            return
        pieces = [(p * s).expand(gradient.shape[0], -1, -1).flatten(0, 1) for p, s in rows]
        derivatives = gradient.flatten(0, 1)
        matrix = derivatives.t() @ torch.cat(pieces, dim=1)
        bias = None if self._bias is None else derivatives.sum(0)
        factor = self._multiply(matrix, bias).to(matrix.dtype)
        parts = [part * factor for part in (matrix, bias) if part is not None]
        before = self._sums or [torch.zeros_like(part) for part in parts]
        self._sums = [total + part for total, part in zip(before, parts, strict=True)]
        update_estimates([estimate for estimate in self.estimates if estimate.updating])
        for estimate in self.estimates:
            estimate.finish()

    def apply(self) -> dict[nn.Parameter, Tensor]:
        if self._sums is None:
            return super().apply()
        parameters = [p for p in (self._matrix, self._bias) if p is not None]
        for parameter, total in zip(parameters, self._sums, strict=True):
            assert parameter.grad is not None
            parameter.grad.copy_(total)
        self._sums = None
        return {}


@preconditions("NaturalGradientAffineComponent", "LinearComponent")
def _affine(module: Any) -> Preconditioner:
    """nnet3 does not look at a LinearComponent's use-natural-gradient here, and nor do we."""
    spec = module.spec
    kind = PartsPreconditioner if module.in_parts else AffinePreconditioner
    return kind(
        module,
        module.linear,
        module.bias,
        Smoothing(spec.rank_in, spec.update_period, spec.num_samples_history, spec.alpha),
        Smoothing(spec.rank_out, spec.update_period, spec.num_samples_history, spec.alpha),
    )


@preconditions("TdnnComponent")
def _tdnn(module: Any) -> Preconditioner | None:
    spec = module.spec
    if not spec.use_natural_gradient:
        return None
    period, history = spec.update_period, spec.num_samples_history
    return AffinePreconditioner(
        module,
        module.linear,
        module.bias,
        Smoothing(spec.rank_in, period, history, spec.alpha_in),
        Smoothing(spec.rank_out, period, history, spec.alpha_out),
    )


class GradientPreconditioner(Preconditioner):
    """For matrices where the rows of the gradient itself, and its columns, are the vectors.

    Args:
        matrix: (rows, columns).
        bias: (rows,), one more column, or None.
        smoothing_in: for the rows.
        smoothing_out: for the columns, if they are looked at.
    """

    def __init__(
        self,
        matrix: nn.Parameter,
        bias: nn.Parameter | None,
        smoothing_in: Smoothing,
        smoothing_out: Smoothing | None = None,
    ) -> None:
        self._matrix, self._bias = matrix, bias
        rows, columns = matrix.shape
        self._inputs = OnlineNaturalGradient(columns + (bias is not None), smoothing_in)
        self.estimates = [self._inputs]
        self._outputs = None
        if smoothing_out is not None:
            self._outputs = OnlineNaturalGradient(rows, smoothing_out)
            self.estimates.append(self._outputs)

    def apply(self) -> dict[nn.Parameter, Tensor]:
        parameters = [p for p in (self._matrix, self._bias) if p is not None]
        gradients = [p.grad for p in parameters if p.grad is not None]
        whole = torch.cat([g if g.dim() > 1 else g.unsqueeze(1) for g in gradients], dim=1)
        factor = _multiply_rows(self._inputs, whole)
        if self._outputs is not None:
            factor = factor * _multiply_rows(self._outputs, whole.t())
        columns = self._matrix.shape[1]
        for gradient, part in zip(
            gradients, whole.split([columns, 1][: len(gradients)], 1), strict=True
        ):
            gradient.copy_(part.reshape(gradient.shape))
        return dict.fromkeys(parameters, factor)

    def detach(self) -> None:
        return


def _multiply_rows(estimate: OnlineNaturalGradient, matrix: Tensor) -> Tensor:
    """Multiplies the rows that are also what the estimate is of; the factor that remains."""
    estimate.observe(Vectors([(matrix.clone().unsqueeze(0), 1.0)]))
    estimate.settle()
    estimate.multiply(matrix)
    return estimate.factor()


@preconditions("TimeHeightConvolutionComponent")
def _time_height(module: Any) -> Preconditioner | None:
    spec = module.spec
    if not spec.use_natural_gradient:
        return None
    history = spec.num_minibatches_history
    return GradientPreconditioner(
        module.linear,
        module.bias,
        Smoothing(spec.rank_in, 1, alpha=spec.alpha_in, num_minibatches_history=history),
        Smoothing(spec.rank_out, 1, alpha=spec.alpha_out, num_minibatches_history=history),
    )


@preconditions("NaturalGradientRepeatedAffineComponent")
def _repeated_affine(module: Any) -> Preconditioner:
    rank = max(1, min(40, module.linear.shape[1] // 2))
    return GradientPreconditioner(module.linear, module.bias, Smoothing(rank))


@preconditions("GruNonlinearityComponent")
def _gru(module: Any) -> Preconditioner:
    spec = module.spec
    return AffinePreconditioner(
        module,
        module.w_h,
        None,
        Smoothing(spec.rank_in, spec.update_period, alpha=spec.alpha),
        Smoothing(spec.rank_out, spec.update_period, alpha=spec.alpha),
    )


@preconditions("OutputGruNonlinearityComponent")
def _output_gru(module: Any) -> Preconditioner:
    spec = module.spec
    smoothing = Smoothing(spec.rank, spec.update_period, alpha=spec.alpha)
    return VectorPreconditioner(module, {"w_h": smoothing})


@preconditions("LstmNonlinearityComponent")
def _lstm(module: Any) -> Preconditioner:
    """The rows are the three kinds of peephole weights."""
    return GradientPreconditioner(module.weights, None, Smoothing(20, 2, 1000.0))


class VectorPreconditioner(Preconditioner):
    """For vectors whose gradient is a sum of rows.

    Args:
        module: shows the rows of these parameters to its row observers.
        smoothings: by parameter.
    """

    def __init__(self, module: ComponentModule, smoothings: dict[str, Smoothing]) -> None:
        self._module = module
        self._estimates = {
            name: OnlineNaturalGradient(getattr(module, name).numel(), smoothing)
            for name, smoothing in smoothings.items()
        }
        self.estimates = list(self._estimates.values())
        module.row_observers = {name: _observer(e) for name, e in self._estimates.items()}

    def apply(self) -> dict[nn.Parameter, Tensor]:
        factors: dict[nn.Parameter, Tensor] = {}
        for name, estimate in self._estimates.items():
            parameter = getattr(self._module, name)
            estimate.multiply(parameter.grad.reshape(1, -1))
            factors[parameter] = estimate.factor()
        return factors

    def detach(self) -> None:
        self._module.row_observers = {}


def _observer(estimate: OnlineNaturalGradient) -> Callable[[Tensor], None]:
    return lambda rows: estimate.observe(Vectors([(rows.unsqueeze(0), 1.0)]))


@preconditions("NaturalGradientPerElementScaleComponent")
def _scale(module: Any) -> Preconditioner:
    spec = module.spec
    smoothing = Smoothing(spec.rank, spec.update_period, spec.num_samples_history, spec.alpha)
    return VectorPreconditioner(module, {"scales": smoothing})


@preconditions("PerElementOffsetComponent")
def _offset(module: Any) -> Preconditioner | None:
    if not module.spec.use_natural_gradient:
        return None
    return VectorPreconditioner(module, {"offsets": Smoothing(20)})


@preconditions("ConstantComponent", "ConstantFunctionComponent")
def _constant(module: Any) -> Preconditioner | None:
    """nnet3 leaves its natural gradient at the settings that it has without any."""
    if not (module.spec.use_natural_gradient and module.spec.is_updatable):
        return None
    return VectorPreconditioner(module, {"output": Smoothing(40, update_period=1)})


@preconditions("ScaleAndOffsetComponent")
def _scale_and_offset(module: Any) -> Preconditioner | None:
    spec = module.spec
    if not spec.use_natural_gradient:
        return None
    return VectorPreconditioner(
        module, {"scales": Smoothing(spec.rank, 1), "offsets": Smoothing(spec.rank, 1)}
    )


def preconditioned(
    modules: Iterator[tuple[str, ComponentModule]],
) -> dict[str, Preconditioner]:
    """The preconditioners of modules by name."""
    made = ((name, make_preconditioner(module)) for name, module in modules)
    return {name: found for name, found in made if found is not None}


@torch.no_grad()
def settle(preconditioners: Sequence[Preconditioner]) -> None:
    """Makes first estimates where they wait for all vectors, and finds all factors together."""
    observing = [e for p in preconditioners for e in p.estimates if e.observation is not None]
    for estimate in observing:
        estimate.settle()
    find_factors(observing)
