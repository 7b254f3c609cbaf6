"""Optimizers and the parameter groups that they get."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from nnet.errors import NnetError
from nnet.plan.implementations import kernels
from nnet.training.components import Part, parts

if TYPE_CHECKING:  # options are checked before torch is loaded
    from torch import nn
    from torch.optim import Optimizer


class OptimizerOptions(Protocol):
    """What optimizers read of `nnet.training.options.TrainingOptions`."""

    @property
    def minibatch_size(self) -> int: ...
    @property
    def full_weight(self) -> float: ...
    @property
    def weight_decay(self) -> float | None: ...
    @property
    def momentum(self) -> float | None: ...
    @property
    def kernels(self) -> str: ...
    @property
    def max_param_change(self) -> float: ...
    @property
    def l2_regularize_factor(self) -> float: ...
    @property
    def backstitch_training_scale(self) -> float: ...
    @property
    def backstitch_training_interval(self) -> int: ...
    @property
    def seed(self) -> int: ...


@dataclass(frozen=True)
class OptimizerKind:
    """An optimizer by name: how it is made, and what it takes where the user says nothing.

    `linear` says that a change is the learning rate times something that a minibatch gives, so that
    an average over n processes moves as one process with an n-th of the rate.
    """

    make: Callable[[nn.Module, OptimizerOptions], Optimizer]
    defaults: Mapping[str, Any]
    linear: bool


OPTIMIZERS: dict[str, OptimizerKind] = {}


def optimizer(name: str, *, linear: bool, **defaults: Any) -> Callable[[Any], Any]:
    """Registers an optimizer under the name that `--optimizer` takes.

    Args:
        name: the name.
        linear: see OptimizerKind.
        defaults: values of options that are left open.
    """

    def register(make: Callable[[nn.Module, OptimizerOptions], Optimizer]) -> Any:
        OPTIMIZERS[name] = OptimizerKind(make, defaults, linear)
        return make

    return register


@optimizer(
    "adamw",
    linear=False,
    initial_effective_lrate=2e-3,
    final_effective_lrate=2e-5,
    schedule="cosine",
    warmup=0.05,
    weight_decay=0.05,
    momentum=0.0,
)
def adamw(module: nn.Module, options: OptimizerOptions) -> Optimizer:
    """Adam with decoupled weight decay (Loshchilov & Hutter 2019), which spares vectors.

    A component's l2-regularize is not used: divided by Adam's second moment it would not mean what
    nnet3 means by it.
    """
    import torch

    groups = list(parameter_groups(module, lambda part, matrix: _decay(options, matrix)))
    return torch.optim.AdamW(groups, lr=0.0, fused=True)


@optimizer(
    "sgd",
    linear=True,
    initial_effective_lrate=0.3,
    final_effective_lrate=0.03,
    schedule="exponential",
    warmup=0.0,
    weight_decay=0.0,
    momentum=0.9,
)
def sgd(module: nn.Module, options: OptimizerOptions) -> Optimizer:
    """Stochastic gradient descent; as in nnet3, momentum does not change the effective rate.

    The components' l2-regularize counts once for each chunk, as in nnet3.
    """
    import torch

    chunks_per_frame = options.minibatch_size / options.full_weight

    def decay(part: Part, matrix: bool) -> float:
        return 2.0 * part.l2_regularize * chunks_per_frame + _decay(options, matrix)

    groups = list(parameter_groups(module, decay))
    momentum = options.momentum or 0.0
    return torch.optim.SGD(groups, lr=0.0, momentum=momentum, dampening=momentum)


@optimizer(
    "natural-gradient",
    linear=True,
    initial_effective_lrate=1.5e-3,
    final_effective_lrate=1.5e-4,
    schedule="exponential",
    warmup=0.0,
    weight_decay=0.0,
    momentum=0.0,
)
def natural_gradient(module: nn.Module, options: OptimizerOptions) -> Optimizer:
    """nnet3-train's; learning rates are for the gradient of the objective summed over frames.

    The components' l2-regularize counts once for each chunk; --weight-decay is not used.
    """
    from nnet.training.natural_gradient.optimizer import NaturalGradientSGD

    asked = kernels(options.kernels)
    return NaturalGradientSGD(
        module,
        implementation=None if asked == "auto" else asked,
        max_param_change=options.max_param_change,
        momentum=options.momentum or 0.0,
        l2_regularize_factor=options.l2_regularize_factor,
        batchnorm_stats_scale=1.0,  # the trainer sees to it that statistics are recent
        backstitch_training_scale=options.backstitch_training_scale,
        backstitch_training_interval=options.backstitch_training_interval,
        seed=options.seed,
    )


def parameter_groups(
    module: nn.Module, weight_decay: Callable[[Part, bool], float]
) -> Iterator[dict[str, Any]]:
    """Groups of parameters that share `lrate_factor` and `weight_decay`.

    Parameters of components whose learning-rate-factor is 0 are frozen and in no group.

    Args:
        module: its submodules may have a `spec`, the component that they stand for.
        weight_decay: from a component and whether the parameter is a matrix.

    Raises:
        NnetError: there is no parameter to train.
    """
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    for part in parts(module):
        factor = part.learning_rate_factor
        for parameter in part.module.parameters(recurse=False):
            if factor == 0.0:
                parameter.requires_grad_(False)
            else:
                key = (factor, weight_decay(part, parameter.dim() > 1))
                groups.setdefault(key, []).append(parameter)
    if not groups:
        raise NnetError(
            "the network has nothing to train: all its components are fixed or have "
            "learning-rate-factor=0"
        )
    for (factor, decay), parameters in groups.items():
        yield {"params": parameters, "lrate_factor": factor, "weight_decay": decay}


def set_learning_rate(chosen: Optimizer, rate: float) -> None:
    """Sets the rate of every group to `rate` times the group's learning-rate factor."""
    for group in chosen.param_groups:
        group["lr"] = rate * group["lrate_factor"]


def _decay(options: OptimizerOptions, matrix: bool) -> float:
    return (options.weight_decay or 0.0) if matrix else 0.0
