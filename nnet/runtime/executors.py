"""The executors of a plan: made when they are first needed, and never those of other modules.

An executor holds the modules of components. They may be replaced, changed in place, shared with
another network or computed from other tensors (`torch.nn.utils.parametrize`) at any time; what was
made of them before is then made anew.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Iterator, Mapping

from torch import Tensor, nn

from nnet.modules.affine import FixedAffine
from nnet.modules.base import ComponentModule
from nnet.modules.elementwise import ScaleOffset
from nnet.plan.implementations import Kernels, Situation, choose, runs_packed
from nnet.plan.ir import Plan
from nnet.plan.layout import Layout, bind
from nnet.plan.loops.loop import looping
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
        self._fixed = Unchanged(())
        self._is_fixed = not exact and not looping(plan)
        self._layouts: OrderedDict[Request, Layout] = OrderedDict()
        self._made: OrderedDict[tuple[Request, Situation], Executor] = OrderedDict()

    def follow(self, modules: dict[str, ComponentModule]) -> bool:
        """Takes the components as they are now, before a run.

        Returns:
            Whether what was made before had to be forgotten.
        """
        before, now = self._modules.values(), modules.values()
        same = len(before) == len(now) and all(
            one is other for one, other in zip(before, now, strict=True)
        )
        fixed = tuple(_fixed_tensors(now))
        parametrized = any(map(is_parametrized, now))
        if same and not parametrized and self._fixed.are(fixed):
            return False
        if not same or parametrized:
            self._modules = {name: as_computed(module) for name, module in modules.items()}
            self._made.clear()
        for module in self._modules.values():
            if isinstance(module, FixedAffine):
                module.forget()
        self._fixed = Unchanged(fixed)
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


def _fixed_tensors(modules: Iterable[ComponentModule]) -> Iterator[Tensor | None]:
    """The tensors that something is made of and kept."""
    for module in modules:
        if isinstance(module, FixedAffine | ScaleOffset):
            yield from module._buffers.values()


class Unchanged:
    """Tensors as they were, by identity, place in memory and version; they live as long as this.

    What changes the elements through `.data` leaves no trace here.
    """

    def __init__(self, tensors: tuple[Tensor | None, ...]) -> None:
        self._tensors = tensors
        self._states = [_state(tensor) for tensor in tensors]

    def are(self, tensors: tuple[Tensor | None, ...]) -> bool:
        """Whether tensors are those, and as they were."""
        return len(tensors) == len(self._tensors) and all(
            one is other and _state(one) == state
            for one, other, state in zip(tensors, self._tensors, self._states, strict=True)
        )


def _state(tensor: Tensor | None) -> tuple[int, int] | None:
    if tensor is None:
        return None
    return tensor.data_ptr(), 0 if tensor.is_inference() else tensor._version


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
    made = modules.pop("parametrizations")
    assert isinstance(made, nn.ModuleDict)
    twin._modules, twin._parameters, twin._buffers = (
        modules,
        dict(module._parameters),
        dict(module._buffers),
    )
    for name, computed in made.items():
        trained = isinstance(computed.original, nn.Parameter)
        place = twin._parameters if trained else twin._buffers
        place[name] = getattr(module, name)
    return twin
