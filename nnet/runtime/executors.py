"""The executors of a plan: made when they are first needed, and never those of other modules.

An executor holds the modules of components. They may be replaced, changed in place, shared with
another network or computed from other tensors (`torch.nn.utils.parametrize`) at any time; what was
made of them before is then made anew.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Iterator

from torch import Tensor, nn

from nnet.modules.affine import FixedAffine
from nnet.modules.base import ComponentModule
from nnet.modules.elementwise import ScaleOffset
from nnet.plan.implementations import Kernels
from nnet.plan.ir import Plan
from nnet.plan.layout import Layout, bind
from nnet.plan.request import Request
from nnet.runtime.choosing import Chooser
from nnet.runtime.device import machine_here
from nnet.runtime.executor import Executor

KEPT = 64
"""Requests whose executors are kept."""


class Executors:
    """The executors of a plan by request.

    Args:
        exact: see `nnet.plan.layout.bind`.
    """

    def __init__(self, plan: Plan, kernels: Kernels, *, exact: bool) -> None:
        self.plan, self.kernels, self.exact = plan, kernels, exact
        self._modules: dict[str, ComponentModule] = {}
        self._fixed = Unchanged(())
        self._made: OrderedDict[Request, Executor] = OrderedDict()

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

    def __call__(self, request: Request) -> Executor:
        """The executor for a request, with the components of the last `follow`."""
        executor = self._made.get(request)
        if executor is None:
            executor = self.make(self.plan, request, exact=self.exact)
            self._made[request] = executor
            if len(self._made) > KEPT:
                self._made.popitem(last=False)
        else:
            self._made.move_to_end(request)
        return executor

    def make(self, plan: Plan, request: Request, *, exact: bool) -> Executor:
        """A new executor, of a plan with the same components."""
        layout = bind(plan, request, exact=exact)
        if self.kernels == "reference" or (self.kernels == "auto" and not machine_here().is_gpu):
            return Executor(plan, layout, self._modules)
        return Executor(plan, layout, self._modules, Chooser(plan, layout, self.kernels))

    def layout(self, request: Request) -> Layout:
        """The layout for a request."""
        return self(request).layout


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
