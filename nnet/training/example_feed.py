"""Minibatches of examples on the device, made ahead by a thread."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice

import torch

from nnet.data.example_minibatch import example_minibatch
from nnet.data.example_set import ExampleSet
from nnet.data.minibatch import Minibatch
from nnet.data.prefetch import prefetch
from nnet.errors import NnetError
from nnet.graph.network import Network
from nnet.modelfile.examples import Example
from nnet.plan.request import Request


@dataclass(frozen=True)
class Slot:
    """Minibatch `number` of an epoch; None is the order of the archives."""

    epoch: int | None
    number: int


class ExampleFeed:
    """Where minibatches come from, as `nnet.training.feed.Feed`, but from archives of examples.

    Args:
        examples: the data.
        network: which they are for.
        output: the output that is trained.
        device: where minibatches are wanted.
    """

    def __init__(
        self, examples: ExampleSet, network: Network, output: str, device: torch.device
    ) -> None:
        self._examples = examples
        self._network = network
        self._output = output
        self._device = device

    def epoch(self, number: int) -> list[Slot]:
        """The minibatches of epoch `number`, in random order."""
        return [Slot(number, i) for i in range(len(self._examples))]

    def whole(self) -> list[Slot]:
        """The minibatches in the order of the archives."""
        return [Slot(None, i) for i in range(len(self._examples))]

    def frames(self, slot: Slot) -> int:
        """About how many input frames a minibatch has."""
        return round(self._examples.rows_per_minibatch)

    @contextmanager
    def minibatches(self, slots: Sequence[Slot]) -> Iterator[Iterator[Minibatch]]:
        """The minibatches at `slots`, which lie one after the other in one epoch."""
        if not slots:
            yield iter(())
            return
        stream = islice(self._examples.minibatches(slots[0].epoch), slots[0].number, None)
        with prefetch(lambda _: self._minibatch(next(stream)), slots) as made:
            yield (minibatch.to(self._device) for minibatch in made)

    def _minibatch(self, example: Example) -> Minibatch:
        made = example_minibatch(example, self._network)
        if set(made.targets) != {self._output}:
            raise NnetError(
                f"the examples have targets for {', '.join(sorted(made.targets))}; expected: for "
                f"'{self._output}' alone"
            )
        request = Request(made.request.inputs, made.request.outputs)
        result = Minibatch(request, made.inputs, made.targets[self._output], ())
        return result if self._device.type == "cpu" else result.pinned()
