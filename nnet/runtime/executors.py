"""The executors of a plan: made when they are first needed, and never those of other modules.

An executor holds the modules of components. They may be replaced, changed in place, shared with
another network or computed from other tensors (`torch.nn.utils.parametrize`) at any time; what was
made of them before is then made anew.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Mapping, Sequence

from torch import Tensor, nn
from torch.nn import Parameter

from nnet.modules.affine import FixedAffine
from nnet.modules.base import ComponentModule
from nnet.modules.elementwise import ScaleOffset
from nnet.plan.implementations import Kernels, Situation, choose, runs_packed
from nnet.plan.ir import Plan
from nnet.plan.layout import Layout, bind
from nnet.plan.reach import looping
from nnet.plan.request import Request
from nnet.runtime.choosing import machine_of, situation_of
from nnet.runtime.executor import Executor

KEPT = 64
"""Requests whose executors are kept."""


class Executors:
    """The executors of a plan, by request and by what it is carried out with.

    Args:
        exact: see `nnet.plan.layout.bind`.
    """

    def __init__(self, plan: Plan, kernels: Kernels, *, exact: bool) -> None:
        self.plan, self.kernels, self.exact = plan, kernels, exact
        self._modules: dict[str, ComponentModule] = {}
        self._seen: list[nn.Module] = []
        self._kinds: list[type] = []
        self._is_parametrized = False
        self._fixed = Fixed([])
        self._is_fixed = not exact and not looping(plan)
        self._layouts: OrderedDict[Request, Layout] = OrderedDict()
        self._made: OrderedDict[tuple[Request, Situation], Executor] = OrderedDict()

    def follow(self, components: nn.ModuleDict) -> bool:
        """Takes the components as they are now, before a run.

        Args:
            components: of the plan, in its order.

        Returns:
            Whether what was made before had to be forgotten.
        """
        now = list(components._modules.values())
        kinds = [module.__class__ for module in now]  # a parametrization changes a module's class
        same = now == self._seen and kinds == self._kinds and not self._is_parametrized
        if same and self._fixed.is_unchanged():
            return False
        if not same:
            modules = [module for module in now if isinstance(module, ComponentModule)]
            self._seen, self._kinds = list(modules), kinds
            self._is_parametrized = any(map(is_parametrized, modules))
            computed = map(as_computed, modules)
            self._modules = dict(zip(self.plan.components, computed, strict=True))
            self._made.clear()
        self._fixed = Fixed(self._modules.values())
        self._fixed.forget()
        return True

    def __call__(self, request: Request, rows: Mapping[str, Tensor]) -> Executor:
        """The executor for a request, with the components of the last `follow`.

        Args:
            rows: inputs (time, batch, dim) like those that it will get.
        """
        situation = situation_of(rows, fixed=self._is_fixed)
        key = (request, situation)
        executor = self._made.get(key)
        if executor is None:
            executor = self._bind(self.plan, self.layout(request), situation)
            self._made[key] = executor
            if len(self._made) > KEPT:
                self._made.popitem(last=False)
        else:
            self._made.move_to_end(key)
        return executor

    def make(self, plan: Plan, request: Request, rows: Mapping[str, Tensor]) -> Executor:
        """A new executor of a plan with the same components, for exactly the rows needed."""
        situation = situation_of(rows, fixed=self._is_fixed)
        return self._bind(plan, bind(plan, request, exact=True), situation)

    def _bind(self, plan: Plan, layout: Layout, situation: Situation) -> Executor:
        machine = machine_of(situation)
        choices = choose(plan, layout, machine, asked=self.kernels, situation=situation)
        implementations = {value: choice.implementation for value, choice in choices.items()}
        packed = {
            value
            for value, implementation in implementations.items()
            if implementation == "native" and runs_packed(plan, layout, value, situation)
        }
        return Executor(plan, layout, self._modules, implementations, packed)

    def layout(self, request: Request) -> Layout:
        """The layout for a request."""
        layout = self._layouts.get(request)
        if layout is None:
            layout = self._layouts[request] = bind(self.plan, request, exact=self.exact)
            if len(self._layouts) > KEPT:
                self._layouts.popitem(last=False)
        return layout


class Fixed:
    """The tensors of components that something is made of and kept, as they were: by identity,
    place in memory and version. What changes their elements through `.data` leaves no trace here.
    """

    def __init__(self, modules: Iterable[ComponentModule]) -> None:
        self._modules = [m for m in modules if isinstance(m, FixedAffine | ScaleOffset)]
        self._places = [
            (module._buffers, name)
            for module in self._modules
            for name, tensor in module._buffers.items()
            if tensor is not None
        ]
        self._tensors = self._now()
        self._states = _states(self._tensors)

    def _now(self) -> list[Tensor]:
        return [tensor for held, name in self._places if (tensor := held[name]) is not None]

    def is_unchanged(self) -> bool:
        """Whether there are the same tensors as they were."""
        return _states(self._now()) == self._states

    def forget(self) -> None:
        """Lets components let go of what they keep."""
        for module in self._modules:
            if isinstance(module, FixedAffine):
                module.forget()


def _states(tensors: Sequence[Tensor]) -> tuple[list[int], ...]:
    """Identities, places in memory and versions; of what torch traces with, identities alone."""
    names = [id(tensor) for tensor in tensors]
    if tensors and type(tensors[0]) not in (Tensor, Parameter):
        return (names,)
    versions = [tensor._version for tensor in tensors if not tensor.is_inference()]
    return names, [tensor.data_ptr() for tensor in tensors], versions


def is_parametrized(module: nn.Module) -> bool:
    """Whether a parameter of a module is computed whenever it is read."""
    return "parametrizations" in module._modules


def as_computed(module: ComponentModule) -> ComponentModule:
    """A twin of a parametrized module whose parameters are what they are computed to be now.

    They are ordinary tensors, to which a derivative flows; everything else is shared.
    """
    if not is_parametrized(module):
        return module
    kind = next(c for c in type(module).__mro__[1:] if issubclass(c, ComponentModule))
    twin = kind.__new__(kind)
    twin.__dict__.update(module.__dict__)
    modules = dict(module._modules)
    parametrizations = modules.pop("parametrizations")
    assert isinstance(parametrizations, nn.ModuleDict)
    twin._modules, twin._parameters, twin._buffers = (
        modules,
        dict(module._parameters),
        dict(module._buffers),
    )
    for name, computed in parametrizations.items():
        trained = isinstance(computed.original, nn.Parameter)
        place = twin._parameters if trained else twin._buffers
        place[name] = getattr(module, name)
    return twin
