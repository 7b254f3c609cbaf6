"""A recorder that does on a CPU what CUDA graphs do on a GPU."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

LOOKS = ("_local_scalar_dense", "nonzero", "masked_select", "equal", "is_nonzero", "_unique2")
"""Operations whose result, or its size, the host has to know."""
NOT_REPEATED = (
    *("empty", "empty_like", "empty_strided", "new_empty", "new_empty_strided"),
    *("squeeze_", "unsqueeze_", "transpose_", "t_", "as_strided_"),
)
"""Operations that write nothing."""
HOST_METHODS = ("item", "tolist", "numpy", "cpu", "__bool__", "__float__", "__int__", "__index__")
HOST_FUNCTIONS = {torch.from_numpy, *(getattr(Tensor, name) for name in HOST_METHODS)}


class NoHost(TorchFunctionMode):
    """Within this nobody looks at what a tensor holds, or makes one from numpy's memory."""

    def __torch_function__(self, func, types, args=(), kwargs=None):
        if func in HOST_FUNCTIONS:
            raise RuntimeError(f"a recorded step calls {func.__name__}")
        return func(*args, **(kwargs or {}))


class _Writing(TorchDispatchMode):
    """Writes down the operations, and what memory held before they changed it."""

    def __init__(self) -> None:
        super().__init__()
        self.operations: list[tuple[Any, tuple[Any, ...], dict[str, Any], Any]] = []
        self.before: dict[int, tuple[torch.UntypedStorage, torch.UntypedStorage]] = {}

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        name = func.__name__.partition(".")[0]
        if name in LOOKS:
            raise RuntimeError(f"a recorded step has the operation {name}")
        for tensor in _written(func, args, kwargs):
            storage = tensor.untyped_storage()
            if storage.data_ptr() not in self.before:
                self.before[storage.data_ptr()] = storage, storage.clone()
        given = aliases(args), aliases(kwargs)  # as they are now: strides may change in place
        result = func(*args, **kwargs)
        if name not in NOT_REPEATED:
            self.operations.append((func, *given, aliases(result)))
        return result

    def undo(self) -> None:
        for storage, before in self.before.values():
            storage.copy_(before)


def _written(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Iterator[Tensor]:
    """The tensors that an operation changes."""
    for number, argument in enumerate(func._schema.arguments):
        if argument.alias_info is not None and argument.alias_info.is_write:
            value = args[number] if number < len(args) else kwargs.get(argument.name)
            yield from tensors(value)


def aliases(values: Any) -> Any:
    """The same with other tensors on the same memory."""
    if isinstance(values, Tensor):
        return values.detach()
    if isinstance(values, dict):
        return {name: aliases(value) for name, value in values.items()}
    return type(values)(map(aliases, values)) if isinstance(values, list | tuple) else values


def tensors(values: object) -> Iterator[Tensor]:
    """The tensors in nested lists and tuples."""
    if isinstance(values, Tensor):
        yield values
    elif isinstance(values, list | tuple):
        for value in values:
            yield from tensors(value)


class TapeRecorder:
    """Records operations, undoes them, and repeats them on the same memory.

    Attributes:
        recorded, repeated: how often.

    Args:
        strict: check Python's calls too, which Triton's interpreter does not stand.
    """

    def __init__(self, *, strict: bool) -> None:
        self.recorded = self.repeated = 0
        self._guard: Callable[[], AbstractContextManager[Any]] = NoHost if strict else nullcontext

    def running(self) -> AbstractContextManager[None]:
        return nullcontext()

    def record(self, function: Callable[[], Tensor]) -> tuple[Tensor, Callable[[], None]]:
        self.recorded += 1
        state, writing = torch.get_rng_state(), _Writing()
        with self._guard(), writing:
            result = function()
        writing.undo()
        torch.set_rng_state(state)

        @torch.no_grad()
        def repeat() -> None:
            self.repeated += 1
            for func, args, kwargs, made in writing.operations:
                given = {t.untyped_storage().data_ptr() for t in tensors((args, *kwargs.values()))}
                again = func(*args, **kwargs)
                for old, new in zip(tensors((made,)), tensors((again,)), strict=True):
                    if old.untyped_storage().data_ptr() not in given:
                        old.copy_(new)

        return result, repeat
