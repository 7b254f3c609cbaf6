"""nnet3's update of the parameters as one torch optimizer."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from nnet.errors import NnetError
from nnet.kernels.implementation import Implementation, triton_is_installed
from nnet.kernels.recording import may_look
from nnet.modules.affine import AnyAffine
from nnet.modules.base import ComponentModule
from nnet.modules.batchnorm import BatchNorm
from nnet.modules.statistics import StatisticsModule
from nnet.training.components import Part, parts
from nnet.training.natural_gradient.changes import Changes
from nnet.training.natural_gradient.max_change import MaxChange, MaxChangeStats
from nnet.training.natural_gradient.online import OnlineNaturalGradient, update_estimates
from nnet.training.natural_gradient.orthonormal import constrain_all
from nnet.training.natural_gradient.preconditioners import Preconditioner, preconditioned, settle
from nnet.training.random_state import random_state, set_random_state

Group = dict[str, Any]


@dataclass(frozen=True)
class UpdateOptions:
    """Options of nnet3-train, with its names and defaults.

    Args:
        max_param_change: largest 2-norm of a minibatch's change of all parameters; 0: no limit.
        momentum: share of the last change that is added to this one; the effective learning rate
            stays the same.
        l2_regularize_factor: multiplies every component's l2-regularize.
        batchnorm_stats_scale: by which stored batch-norm statistics are scaled after each
            minibatch.
        backstitch_training_scale: how far to step back before the step ahead; 0: not at all.
        backstitch_training_interval: backstitch in every so many minibatches.
        natural_gradient: whether it is used where components ask for it.
        store_component_stats: whether nonlinearities store statistics, which guide self-repair.
        seed: of what is random in the update.
    """

    max_param_change: float = 2.0
    momentum: float = 0.0
    l2_regularize_factor: float = 1.0
    batchnorm_stats_scale: float = 0.8
    backstitch_training_scale: float = 0.0
    backstitch_training_interval: int = 1
    natural_gradient: bool = True
    store_component_stats: bool = True
    seed: int = 0

    def __post_init__(self) -> None:
        if self.backstitch_training_scale > 0 and self.momentum > 0:
            raise NnetError(
                f"--momentum is {self.momentum} and --backstitch-training-scale "
                f"{self.backstitch_training_scale}; expected: one of them 0"
            )
        if not 0 <= self.momentum < 1 or self.backstitch_training_interval < 1:
            raise NnetError(
                f"--momentum is {self.momentum}, --backstitch-training-interval "
                f"{self.backstitch_training_interval}; expected: 0 to 1 (without it), and 1 or more"
            )


class NaturalGradientSGD(Optimizer):
    """Stochastic gradient descent as nnet3 does it: natural gradient, l2, max-change, momentum,
    backstitch, orthonormal constraint, batch-norm statistics.

    There is one parameter group for each component, with its `lr` (from the model file),
    `lrate_factor`, `max_change` and `l2_regularize`; of a CompositeComponent, one for each part
    inside, with a max-change for all of them together. The loss has to be minus the objective
    summed over the frames of the minibatch, not its mean. Made, it lets the module's components
    observe what natural gradient needs; `detach` ends that.

    Example:
        >>> import nnet, torch
        >>> from nnet.training.natural_gradient.optimizer import NaturalGradientSGD
        >>> module = nnet.compile(nnet.load("init.raw")).train()
        >>> optimizer = NaturalGradientSGD(module, max_param_change=2.0, momentum=0.9)
        >>> for features, targets in data:  # (batch, time, dim), (batch, time)
        ...     optimizer.zero_grad()
        ...     log_probs = module({"input": features})["output"]
        ...     loss = torch.nn.functional.nll_loss(log_probs.mT, targets, reduction="sum")
        ...     loss.backward()
        ...     optimizer.step(sequences=len(features))
        >>> nnet.save(nnet.Model(module.to_network()), "trained.raw")

    Args:
        module: a compiled network, or any module with such components in it.
        implementation: of the update's kernels; by default Triton's where the parameters are on a
            CUDA device.
        options: fields of UpdateOptions.

    Raises:
        NnetError: there is nothing to train, or options contradict each other.
    """

    def __init__(
        self,
        module: nn.Module,
        *,
        implementation: Implementation | None = None,
        **options: Any,
    ) -> None:
        self.options = UpdateOptions(**options)
        found = list(parts(module))
        self._modules = {p.name: p.module for p in found if isinstance(p.module, ComponentModule)}
        groups = [
            _group(part) for part in found if part.name in self._modules and _is_trained(part)
        ]
        if not groups:
            raise NnetError(
                "the network has nothing to train: all its components are fixed or have "
                "learning-rate-factor=0"
            )
        super().__init__(groups, {})
        self.implementation = implementation or _usual_implementation(self.param_groups)
        self.minibatches = 0
        self.max_change: MaxChange | None = None
        self.max_param_change_scale = 1.0
        self.max_change_stats = MaxChangeStats([*self._limits()])
        self._reduce: Callable[[Sequence[Tensor]], None] | None = None
        self._generator = torch.Generator().manual_seed(self.options.seed)
        self._preconditioners: dict[str, Preconditioner] = {}
        if self.options.natural_gradient:
            trained = {g["name"] for g in self.param_groups}
            chosen = ((n, m) for n, m in self._modules.items() if n in trained)
            self._preconditioners = preconditioned(chosen)
        for storing in self._of_type(StatisticsModule):
            storing.store_statistics = self.options.store_component_stats

    @property
    def reduce(self) -> Callable[[Sequence[Tensor]], None] | None:
        """Adds tensors up over processes, for training by several of them in step: each makes the
        gradient of its part of the minibatch, and all make the same update."""
        return self._reduce

    @reduce.setter
    def reduce(self, reduce: Callable[[Sequence[Tensor]], None] | None) -> None:
        self._reduce = reduce
        for estimate in self._estimates():
            estimate.summed = reduce is not None

    def detach(self) -> None:
        """Ends the observation of the module's components."""
        for preconditioner in self._preconditioners.values():
            preconditioner.detach()
        for module in self._of_type(StatisticsModule):
            module.store_statistics = False

    def backstitches_next(self) -> bool:
        """Whether the next step will call its closure twice."""
        interval = self.options.backstitch_training_interval
        due = self.minibatches % interval == self.options.seed % interval
        return self.options.backstitch_training_scale > 0 and due

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None, *, sequences: int = 1) -> Any:
        """Updates the parameters by their gradients.

        Args:
            closure: clears the gradients, computes the loss and its gradients and returns
                anything. Backstitch needs it, as it calls it twice.
            sequences: of the minibatch; the l2 penalty counts once for each.

        Returns:
            What the closure returned (at its second call, if there were two).

        Raises:
            NnetError: this minibatch is to be backstitched and there is no closure.
        """
        result = None
        if self.backstitches_next():
            result = self._backstitch(closure, sequences * self.options.l2_regularize_factor)
        else:
            if closure is not None:
                with torch.enable_grad():
                    result = closure()
            self.update(sequences)
            self.finish()
        return result

    @torch.no_grad()
    def update(self, sequences: int) -> None:
        """What a step without backstitch does by the gradients, but for `finish`; it can be
        recorded (see `nnet.kernels.recording`)."""
        l2 = sequences * self.options.l2_regularize_factor
        applied = self._update(1.0 - self.options.momentum, 1.0, l2)
        self._scale_batchnorm()
        self._fade_momentum(applied)

    def finish(self) -> None:
        """The rest of a step, which the host decides on."""
        self._constrain_orthonormal()
        self.minibatches += 1

    @property
    def phase(self) -> tuple[bool, ...]:
        """Which estimates the next step changes: steps of one phase make the same computations."""
        return tuple(estimate.updating for estimate in self._estimates())

    def _backstitch(self, closure: Callable[[], Any] | None, l2: float) -> Any:
        """A step back with the scale, then from there one ahead with the scale plus 1."""
        if closure is None:
            raise NnetError("backstitch training needs a closure for NaturalGradientSGD.step")
        scale = self.options.backstitch_training_scale
        state = random_state()
        self._freeze(True)
        with torch.enable_grad():
            closure()
        self._update(-scale, scale, 0.0)
        self._constrain_orthonormal()
        self._freeze(False)
        set_random_state(state)
        with torch.enable_grad():
            result = closure()
        self._update(1.0 + scale, 1.0 + scale, l2 / (1.0 + scale))
        self._scale_batchnorm()
        self.minibatches += 1
        return result

    def _update(self, scale: float, max_change_scale: float, l2: float) -> Tensor:
        """Changes the parameters; whether it did (not if a change is not finite)."""
        found = [self._preconditioners[n] for n in self._names() if n in self._preconditioners]
        if self.reduce is not None:
            l2 = self._add_up(found, l2)
        settle(found)
        factors: dict[nn.Parameter, Tensor] = {}
        for preconditioner in found:
            factors.update(preconditioner.apply())
        limits = self._limits()
        changes = self._changes(factors, l2, [*limits])
        change = MaxChange.of(
            [*limits],
            changes.make(len(limits)),
            [*limits.values()],
            self.options.max_param_change * self.max_param_change_scale,
            scale,
            max_change_scale,
        )
        self.max_change = change
        self.max_change_stats.add(change)
        changes.add(change.multipliers)
        estimates = [e for p in found for e in p.estimates if e.updating]
        update_estimates(estimates, self.implementation)
        for preconditioner in found:
            for estimate in preconditioner.estimates:
                estimate.finish()
        return change.applied

    def _add_up(self, found: Sequence[Preconditioner], l2: float) -> float:
        """Sums gradients and what was observed over processes; the l2 scale of all together."""
        assert self.reduce is not None
        parameters = [p for group in self.param_groups for p in group["params"]]
        gradients = [p.grad for p in parameters if p.grad is not None]
        seen = [e.observation for p in found for e in p.estimates if e.observation is not None]
        numbers = [l2, *(observation.count for observation in seen)]
        counts = torch.tensor(numbers, dtype=torch.float64, device=parameters[0].device)
        self.reduce([*gradients, counts, *(t for o in seen for t in o.tensors())])
        total, *rows = counts.tolist()
        for observation, count in zip(seen, rows, strict=True):
            observation.count = round(count)
        return float(total)

    def _names(self) -> Iterator[str]:
        """Components whose parameters have gradients."""
        for group in self.param_groups:
            if any(parameter.grad is not None for parameter in group["params"]):
                yield group["name"]

    def _limits(self) -> dict[str, float]:
        """The max-change of each component, in order; a composite one has several groups."""
        return {group["component"]: group["max_change"] for group in self.param_groups}

    def _changes(
        self, factors: dict[nn.Parameter, Tensor], l2: float, components: list[str]
    ) -> Changes:
        """The changes before max-change and `scale`; with momentum they are added to what is left
        of the changes before."""
        changes = Changes(self.implementation)
        for group in self.param_groups:
            number = components.index(group["component"])
            shrinks = 2.0 * l2 * group["l2_regularize"]
            rate = functools.partial(_times_rate, group, -1.0)
            penalty = functools.partial(_times_rate, group, shrinks)
            for parameter in group["params"]:
                gradient = parameter.grad
                if gradient is None:  # nothing that is trained depends on it: the penalty remains
                    if not shrinks:
                        continue
                    gradient = torch.zeros_like(parameter)
                buffer, factor = self._momentum_buffer(parameter), factors.get(parameter)
                changes.append(number, parameter, gradient, buffer, factor, rate, penalty)
        return changes

    def _momentum_buffer(self, parameter: nn.Parameter) -> Tensor | None:
        if not self.options.momentum:
            return None
        state = self.state[parameter]
        if "momentum_buffer" not in state:
            state["momentum_buffer"] = torch.zeros_like(parameter)
        buffer: Tensor = state["momentum_buffer"]
        return buffer

    def _fade_momentum(self, applied: Tensor) -> None:
        buffers = [state["momentum_buffer"] for state in self.state.values()]
        if buffers:
            torch._foreach_mul_(buffers, self.options.momentum)
        for buffer in buffers:
            if not may_look(applied) or not applied:
                buffer.copy_(torch.where(applied, buffer, 0.0))

    def _scale_batchnorm(self) -> None:
        scale = self.options.batchnorm_stats_scale
        if scale != 1.0:
            for module in self._of_type(BatchNorm):
                module.count.mul_(scale)

    def _constrain_orthonormal(self) -> None:
        """As in nnet3, each component's constraint is applied in a quarter of the minibatches."""
        chosen: list[tuple[Tensor, float]] = []
        for name, module in self._modules.items():
            constraint = getattr(module.spec, "orthonormal_constraint", 0.0)
            if constraint and isinstance(module, AnyAffine) and self._is_constrained(name):
                chosen.append((module.linear, constraint))
        constrain_all(chosen)

    def _is_constrained(self, name: str) -> bool:
        """Whether a component with a constraint is constrained in this minibatch."""
        return bool(torch.rand((), generator=self._generator) < 0.25)

    def _freeze(self, frozen: bool) -> None:
        for estimate in self._estimates():
            estimate.frozen = frozen

    def _estimates(self) -> Iterator[OnlineNaturalGradient]:
        for preconditioner in self._preconditioners.values():
            yield from preconditioner.estimates

    def _of_type(self, kind: type[Any]) -> Iterator[Any]:
        return (module for module in self._modules.values() if isinstance(module, kind))

    def state_dict(self) -> dict[str, Any]:
        """All that later steps depend on, besides the module."""
        return {
            **super().state_dict(),
            "natural_gradient": [estimate.state() for estimate in self._estimates()],
            "minibatches": self.minibatches,
            "random": self._generator.get_state(),
            "max_change_stats": self.max_change_stats.state(),
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Goes on from what `state_dict` gave."""
        state = dict(state_dict)
        device = self.param_groups[0]["params"][0].device
        for estimate, stored in zip(self._estimates(), state.pop("natural_gradient"), strict=True):
            estimate.set_state(stored, device)
        self.minibatches = int(state.pop("minibatches"))
        self._generator.set_state(state.pop("random"))
        self.max_change_stats.set_state(state.pop("max_change_stats"))
        super().load_state_dict(state)


def _times_rate(group: Group, number: float) -> float:
    return number * float(group["lr"])


def _usual_implementation(groups: Sequence[Group]) -> Implementation:
    on_gpu = all(p.device.type == "cuda" for group in groups for p in group["params"])
    return "triton" if on_gpu and triton_is_installed() else "reference"


def _is_trained(part: Part) -> bool:
    """Whether it has parameters of its own; those of a component with factor 0 are frozen."""
    parameters = list(part.module.parameters(recurse=False))
    if part.learning_rate_factor == 0.0:
        for parameter in parameters:
            parameter.requires_grad_(False)
        return False
    return bool(parameters)


def _group(part: Part) -> Group:
    return {
        "params": list(part.module.parameters(recurse=False)),
        "name": part.name,
        "component": part.whole,
        "lr": part.learning_rate,
        "lrate_factor": part.learning_rate_factor,
        "max_change": part.max_change,
        "l2_regularize": part.l2_regularize,
    }
