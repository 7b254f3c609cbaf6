"""What a training step keeps for the derivative, in half of the memory.

nnet3's memory-compression-level 2 keeps matrices that only the derivative needs as 16-bit numbers;
here they are kept in float16. It changes derivatives by rounding, the outputs not at all. Values
beyond the range of float16 (65504) are kept as its largest ones.
"""

from __future__ import annotations

import weakref
from collections.abc import Iterable

import torch
from torch import Tensor
from torch.autograd.graph import saved_tensors_hooks
from torch.multiprocessing.reductions import StorageWeakRef

from nnet.errors import NnetError

LOSSLESS, HALF = 1, 2
SMALLEST = 1 << 14
"""Tensors of fewer elements are kept as they are."""


def check_compression_level(level: int) -> int:
    """The level, if there is such a level.

    Raises:
        NnetError: there is not.
    """
    if level not in (0, LOSSLESS, HALF):
        raise NnetError(
            f"memory-compression-level is {level}, expected 0 or 1 (results do not change), or 2 "
            "(what only the derivative needs is kept in 16 bits)"
        )
    return level


class Halved:
    """A tensor's elements in float16, for as long as some derivative needs them."""

    def __init__(self, tensor: Tensor) -> None:
        largest = torch.finfo(torch.float16).max
        self.elements = tensor.detach().to(torch.float16).view(-1).clamp_(-largest, largest)


class HalvedView:
    """A shape of a `Halved`."""

    def __init__(self, halved: Halved, shape: torch.Size) -> None:
        self.halved = halved
        self.shape = shape

    def tensor(self) -> Tensor:
        """The elements in float32, in the shape that they had."""
        return self.halved.elements.float().view(self.shape)


Extent = tuple[int, int, int]
"""A storage, an offset in it, and a number of elements."""


class HalvedMemory(saved_tensors_hooks):
    """While it is entered, large float32 tensors that autograd keeps are kept in float16.

    What several derivatives need is kept once.

    Args:
        permanent: tensors that are there anyway, such as parameters; they stay as they are.
    """

    def __init__(self, permanent: Iterable[Tensor]) -> None:
        super().__init__(self._pack, self._unpack)
        self._permanent = {tensor.untyped_storage()._cdata for tensor in permanent}
        self._known: dict[Extent, tuple[StorageWeakRef, weakref.ref[Halved]]] = {}

    def _pack(self, tensor: Tensor) -> Tensor | HalvedView:
        storage = tensor.untyped_storage()
        small = tensor.numel() < SMALLEST or tensor.dtype != torch.float32
        if small or storage._cdata in self._permanent or not tensor.is_contiguous():
            return tensor
        place = (storage._cdata, int(tensor.storage_offset()), tensor.numel())
        halved = self._find(place)
        if halved is None:
            halved = Halved(tensor)
            self._known[place] = (StorageWeakRef(storage), weakref.ref(halved))
        return HalvedView(halved, tensor.shape)

    def _find(self, place: Extent) -> Halved | None:
        """What was made of the same place, if that was not let go in the meantime."""
        storage, halved = self._known.get(place, (None, None))
        return None if storage is None or storage.expired() or halved is None else halved()

    @staticmethod
    def _unpack(kept: Tensor | HalvedView) -> Tensor:
        return kept.tensor() if isinstance(kept, HalvedView) else kept
