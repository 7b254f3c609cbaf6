"""Minibatches of examples on the device, made ahead."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch

from nnet.data.chain.minibatch import chain_minibatch
from nnet.data.example_minibatch import example_minibatch
from nnet.data.example_set import AnyExample, ExampleSet
from nnet.data.merging import joined
from nnet.data.minibatch import Minibatch
from nnet.graph.network import Network
from nnet.modelfile.chain_examples import ChainExample
from nnet.training.feeds.corpus import on_device


@dataclass(frozen=True)
class Slot:
    """Minibatch `number` of an epoch, or a half of it; epoch None is the order of the archives."""

    epoch: int | None
    number: int
    half: int | None = None


class ExampleFeed:
    """Where minibatches come from, as `nnet.training.feeds.corpus.Feed`, from archives of examples.

    Args:
        examples: the data.
        network: which they are for.
        device: where minibatches are wanted.
        with_xent: whether chain examples are for the outputs named `-xent` too.
        workers: processes that make minibatches ahead; 0: a thread.
    """

    def __init__(
        self,
        examples: ExampleSet,
        network: Network,
        device: torch.device,
        *,
        with_xent: bool = False,
        workers: int = 0,
    ) -> None:
        self._examples = examples
        self._network = network
        self._device = device
        self._with_xent = with_xent
        self._workers = workers

    def epoch(self, number: int) -> list[Slot]:
        """The minibatches of epoch `number`, in random order."""
        return [Slot(number, i) for i in range(len(self._examples))]

    def halves(self, slot: Slot) -> list[Slot]:
        """A minibatch in two parts; one of a single example (merged ones are one) is used twice."""
        return [Slot(slot.epoch, slot.number, half) for half in (0, 1)]

    def whole(self) -> list[Slot]:
        """The minibatches in the order of the archives."""
        return [Slot(None, i) for i in range(self._examples.minibatches_unshifted)]

    def frames(self, slot: Slot) -> int:
        """About how many input frames a minibatch has."""
        return round(self._examples.rows_per_minibatch)

    @contextmanager
    def minibatches(self, slots: Sequence[Slot]) -> Iterator[Iterator[Minibatch]]:
        """The minibatches at `slots` of one epoch, whose numbers rise; others are passed over."""
        with on_device(lambda: self._maker(slots), slots, self._device, self._workers) as made:
            yield made

    def _maker(self, slots: Sequence[Slot]) -> Callable[[Slot], Minibatch]:
        """Reads through the epoch, and makes those minibatches that are wanted."""
        stream = enumerate(self._examples.groups(slots[0].epoch))
        number, group = next(stream)

        def make(slot: Slot) -> Minibatch:
            nonlocal number, group
            while number < slot.number:
                number, group = next(stream)
            part = group if slot.half is None else group[slot.half :: 2] or group
            return self._minibatch(joined(part))

        return make

    def _minibatch(self, example: AnyExample) -> Minibatch:
        if isinstance(example, ChainExample):
            return chain_minibatch(example, self._network, with_xent=self._with_xent)
        return example_minibatch(example, self._network)
