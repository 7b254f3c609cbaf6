"""What nnet3 stores about nonlinearities in training, and self-repair, which is guided by it."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.autograd import Function

from nnet.components.nonlinearity import UNSET_THRESHOLD
from nnet.components.nonlinearity import Nonlinearity as NonlinearitySpec
from nnet.kernels.recording import also, number
from nnet.modules.base import ComponentModule
from nnet.plan.times import Times

COUNTS = (
    "nonlinearity_count",
    "oderiv_count",
    "num_dims_self_repaired",
    "num_dims_processed",
)
AVERAGES = NonlinearitySpec.averaged_over
"""Stored averages and the counts that they are over."""

REPAIR_PROBABILITY = 0.5
STORE_PROBABILITY = 0.5
STORE_DERIVATIVE_PROBABILITY = 0.75


class StatisticsModule(ComponentModule):
    """A component that, in training with `store_statistics`, stores statistics as nnet3 does."""

    store_statistics = False

    @property
    def storing(self) -> bool:
        """Whether statistics are stored, and units that they show to be saturated self-repaired."""
        return self.store_statistics and self.training

    def zero_stats(self) -> None:
        """Forgets the stored statistics."""
        raise NotImplementedError


class SumsModule(StatisticsModule):
    """A component whose statistics are sums of fixed shape, kept as float64 buffers."""

    def __init__(self, spec: Any) -> None:
        super().__init__(spec)
        self._sums: list[str] = []
        self._changed = False

    def keep_sum(self, name: str, value: Any) -> None:
        """Makes a buffer `name` of the sum so far."""
        self.register_buffer(name, torch.as_tensor(value, dtype=torch.float64).clone())
        self._sums.append(name)

    @torch.no_grad()
    def add_to_sums(self, **values: Tensor | float) -> None:
        """Adds to sums by name."""
        for name, value in values.items():
            getattr(self, name).add_(value)
        self._changed = True

    def stored(self) -> dict[str, Any]:
        """The statistics as the specification's fields."""
        raise NotImplementedError

    def zero_stats(self) -> None:
        for name in self._sums:
            getattr(self, name).zero_()
        self._changed = True

    def _load_from_state_dict(self, *args: Any, **kwargs: Any) -> None:
        self._changed = True
        super()._load_from_state_dict(*args, **kwargs)

    def to_spec(self) -> Any:
        """The specification with the statistics so far; unchanged ones keep the file's bits."""
        spec = super().to_spec()
        return dataclasses.replace(spec, **self.stored()) if self._changed else spec

    @staticmethod
    def average(total: Tensor, count: Tensor | float) -> np.ndarray:
        """A sum over a count, as nnet3 stores it."""
        values = total.detach().cpu().float()
        return (values * (1.0 / float(count)) if float(count) else values).numpy()


class Nonlinearity(StatisticsModule):
    """A function of single rows that can store statistics of its values and derivatives.

    With `store_statistics`, in training, a random half of the minibatches is added to the averages
    of values and derivatives and three quarters to that of the objective's derivatives, always the
    first; then units whose average derivative is out of bounds are self-repaired in half of the
    minibatches, if the component has a self-repair-scale. Sums are kept in float64.

    Subclasses define `function` and, if its derivatives are stored, `slope`, by the function's
    outputs or by what `kept` says.
    """

    lower_threshold = UNSET_THRESHOLD
    slope: Callable[[Tensor], Tensor] | None = None
    """From what is kept to the derivatives there; None if they are not stored."""
    _stores_values = False
    """Whether values are stored although derivatives are not."""

    def __init__(self, spec: Any) -> None:
        super().__init__(spec)
        self.counts = {name: float(getattr(spec, name)) for name in COUNTS}
        self._changed = False
        self._repaired: Tensor | None = None
        for name, count in AVERAGES.items():
            average = torch.tensor(getattr(spec, name), dtype=torch.float64)
            power = average.square() if name == "oderiv_rms" else average
            self.register_buffer(_buffer(name), power * self.counts[count], persistent=False)

    def function(self, x: Tensor) -> Tensor:
        """The nonlinearity of each element of `x`, without statistics."""
        raise NotImplementedError

    def kept(self, x: Tensor, y: Tensor) -> Tensor:
        """What `slope` reads: the output `y`, or the input `x`."""
        return y

    def input_gradient(self, kept: Tensor, gradient: Tensor) -> Tensor:
        """The derivative with respect to the input, from that with respect to the output, without
        self-repair."""
        assert self.slope is not None
        return gradient * self.slope(kept)

    def repair(self, kept: Tensor) -> Tensor | None:
        """Towards which input self-repair pushes, by element, before scaling; None for nothing."""
        return None

    def forward(self, x: Tensor, times: Times) -> Tensor:
        if not (self.storing and torch.is_grad_enabled()):
            return self.function(x)
        result: Tensor = _Repaired.apply(x, self) if self.repairs else self.function(x)
        self._store(x.detach(), result.detach())
        if result.requires_grad:
            result.register_hook(self._store_derivative)
        return result

    def forward_into(self, x: Tensor, times: Times, out: Tensor) -> None:
        out.copy_(self.function(x))

    def derivative_factors(self, x: Tensor, y: Tensor, times: Times) -> Tensor | None:
        if self.storing or self.slope is None:
            return None
        return self.slope(self.kept(x, y))

    def derivative_from(self, factors: Tensor, x: Tensor, gradient: Tensor) -> Tensor:
        return gradient * factors

    def derivative(self, x: Tensor, y: Tensor, gradient: Tensor, times: Times) -> Tensor:
        """In a loop, as in nnet3, statistics are stored and units repaired step by step."""
        if self.slope is None:
            return super().derivative(x, y, gradient, times)
        result = self.input_gradient(self.kept(x, y), gradient)
        return self.observed(result, x, y, gradient) if self.storing else result

    def observed(self, result: Tensor, x: Tensor, y: Tensor, gradient: Tensor) -> Tensor:
        """The derivative with respect to the input with self-repair; stores statistics before and
        after."""
        self._store(x, y)
        result = self.repaired(result, self.kept(x, y)) if self.repairs else result
        self._store_derivative(gradient)
        return result

    @property
    def phase(self) -> tuple[bool, bool]:
        """What is stored of the first minibatch in any case is chosen by chance later."""
        return bool(self.counts["nonlinearity_count"]), bool(self.counts["oderiv_count"])

    def sums(self, name: str) -> Tensor:
        """The sum, float64 (dim,) or empty, that a stored average is made of."""
        return getattr(self, _buffer(name))

    @property
    def repairs(self) -> bool:
        """Whether saturated units are self-repaired."""
        return bool(self.spec.self_repair_scale) and self.lower_threshold != UNSET_THRESHOLD

    @torch.no_grad()
    def _store(self, x: Tensor, y: Tensor) -> None:
        slope = self.slope
        if slope is None and not self._stores_values:
            return
        if not self.picks_values():
            return
        rows = y.reshape(-1, y.shape[-1])
        slopes = None if slope is None else _column_sums(slope(self.kept(x, y).reshape(rows.shape)))
        self.store_values(_column_sums(rows), slopes, len(rows))

    def picks_values(self) -> bool:
        """Whether this minibatch is chosen to be added to the averages of values."""
        return not self.counts["nonlinearity_count"] or chance() < STORE_PROBABILITY

    def store_values(self, values: Tensor, slopes: Tensor | None, rows: int) -> None:
        """Adds a minibatch to the averages of values and of the function's derivatives.

        Args:
            values, slopes: their sums over `rows` rows, (dim,).
        """
        self._add("value_avg", values, rows)
        if slopes is not None:
            self._add("deriv_avg", slopes, 0)

    def _store_derivative(self, gradient: Tensor) -> None:
        rows = gradient.reshape(-1, gradient.shape[-1])
        self.store_squares(lambda: _column_sums(rows.square()), len(rows))

    @torch.no_grad()
    def store_squares(self, squares: Callable[[], Tensor], rows: int) -> None:
        """Adds a minibatch, if it is chosen, to the squares of the objective's derivatives.

        Args:
            squares: gives their sums over `rows` rows, (dim,).
        """
        if self.picks_derivatives():
            self.store_derivatives(squares(), rows)

    def store_derivatives(self, squares: Tensor, rows: int) -> None:
        """Adds a minibatch to the squares of derivatives, given their sums over rows, (dim,)."""
        self._add("oderiv_rms", squares, rows)

    def picks_derivatives(self) -> bool:
        """Whether this minibatch is chosen to be added to the squares of derivatives."""
        return not self.counts["oderiv_count"] or chance() < STORE_DERIVATIVE_PROBABILITY

    def _add(self, name: str, total: Tensor, rows: int) -> None:
        sums = self.sums(name)
        if sums.numel() != total.numel():
            sums = torch.zeros(total.shape, dtype=torch.float64, device=total.device)
            setattr(self, _buffer(name), sums)
        sums += total
        self._count(AVERAGES[name], rows)
        self._changed = True

    def _count(self, name: str, more: int) -> None:
        """Adds to a count, in a recorded step each time."""

        def add() -> None:
            self.counts[name] += more

        also(add)

    @torch.no_grad()
    def repaired(self, gradient: Tensor, kept: Tensor) -> Tensor:
        """The gradient of minus the objective by the input, with self-repair."""
        term = self.repair_term()
        if term is None:
            return gradient
        push, term = self.repair(kept), term.to(gradient.dtype)
        return gradient + (term if push is None else term * push)

    @torch.no_grad()
    def repair_term(self) -> Tensor | None:
        """What self-repair adds, where it pushes by 1, to the derivatives of a minibatch: float64
        (dim,); None if there is no repair in this one."""
        sums, count = self.sums("deriv_avg"), self.counts["nonlinearity_count"]
        if not count or not sums.numel():
            return None
        self._count("num_dims_processed", self._processed(before=True))
        if chance() > REPAIR_PROBABILITY:
            return None
        self._count("num_dims_processed", self._processed(before=False))
        wrong = self._wrong(sums / number(lambda: self.counts["nonlinearity_count"]))
        if self._repaired is None:
            self._repaired = sums.new_zeros(())
        self._repaired += wrong.abs().sum()
        return wrong * (self.spec.self_repair_scale / REPAIR_PROBABILITY)

    def _processed(self, *, before: bool) -> int:
        """The units counted as processed, before it is known whether there will be a repair."""
        return self.spec.dim if before else 0

    def _wrong(self, slope: Tensor) -> Tensor:
        """1 for the units whose average derivative is too small."""
        lower = self.spec.self_repair_lower_threshold
        lower = self.lower_threshold if lower == UNSET_THRESHOLD else lower
        return (slope < lower).to(slope.dtype)

    def zero_stats(self) -> None:
        """Forgets the stored statistics: averages and counts become zero."""
        for name in AVERAGES:
            self.sums(name).zero_()
        self._count_repaired()
        self.counts = dict.fromkeys(COUNTS, 0.0)
        self._changed = True

    def get_extra_state(self) -> dict[str, Any]:
        """Sums and counts; before there are any, sums are empty."""
        self._count_repaired()
        return {"counts": dict(self.counts), "sums": {n: self.sums(n).clone() for n in AVERAGES}}

    def set_extra_state(self, state: dict[str, Any]) -> None:
        self._count_repaired()
        self.counts = dict(state["counts"])
        for name, value in state["sums"].items():
            sums = self.sums(name)
            if sums.shape == value.shape:  # in place: a recorded step finds them there again
                sums.copy_(value)
            else:
                setattr(self, _buffer(name), value.to(sums.device).clone())
        self._changed = True

    def _count_repaired(self) -> None:
        if self._repaired is not None:
            self.counts["num_dims_self_repaired"] += self._repaired.item()
            self._repaired.zero_()

    def to_spec(self) -> Any:
        """The specification with the statistics so far; unchanged ones keep the file's bits."""
        if not self._changed:
            return self.spec
        self._count_repaired()
        averages = {}
        for name, count in AVERAGES.items():
            total = self.sums(name).cpu().float()
            average = total * (1.0 / self.counts[count]) if self.counts[count] else total
            average = average.clamp_min(0).sqrt() if name == "oderiv_rms" else average
            averages[name] = average.numpy()
        return dataclasses.replace(self.spec, **averages, **self.counts)


class _Repaired(Function):
    """The function of a nonlinearity, with self-repair of the derivative."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, module: Nonlinearity) -> Tensor:
        y = module.function(x)
        ctx.module = module
        ctx.save_for_backward(module.kept(x, y))
        return y

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        (kept,) = ctx.saved_tensors
        return ctx.module.repaired(ctx.module.input_gradient(kept, gradient), kept), None


def _column_sums(rows: Tensor) -> Tensor:
    """Sums over rows; as a product with ones this is much faster on a CPU."""
    return rows.new_ones(len(rows)) @ rows


def _buffer(name: str) -> str:
    return f"{name}_sum"


CHOICES = (REPAIR_PROBABILITY, STORE_DERIVATIVE_PROBABILITY)
"""The probabilities of all that is chosen by chance, in order."""

_chance: float | None = None


def chance() -> float:
    """A random number from 0 to 1, of the CPU's generator so that no device is waited for."""
    return float(torch.rand(())) if _chance is None else _chance


@contextmanager
def one_chance(drawn: float) -> Iterator[None]:
    """Within this, all choices of all components go by one random number.

    Steps with numbers on the same side of all `CHOICES` make the same computations.
    """
    global _chance
    _chance = drawn
    try:
        yield
    finally:
        _chance = None
