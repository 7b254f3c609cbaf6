"""Where the time of a training step goes: forward, backward, natural gradient, update, data."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from unittest.mock import patch

import torch
from torch import Tensor
from torch.nn import functional

import nnet
from nnet.kernels.affine.scatter import ScatterSums
from nnet.runtime.compiled import CompiledNetwork
from nnet.training.natural_gradient import optimizer as natural_sgd
from nnet.training.natural_gradient import preconditioners
from nnet.training.natural_gradient.online import INITIAL_UPDATES, OnlineNaturalGradient
from nnet.training.natural_gradient.optimizer import NaturalGradientSGD

Make = Callable[[], tuple[dict[str, Tensor], Tensor]]


class Clock:
    """Seconds by part. A part inside another counts in its own alone."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._open: list[list[float]] = []

    @contextmanager
    def part(self, name: str) -> Iterator[None]:
        """Counts what is done inside."""
        inner = [0.0]
        self._open.append(inner)
        start = time.perf_counter()
        yield
        spent = time.perf_counter() - start
        self._open.pop()
        self.seconds[name] = self.seconds.get(name, 0.0) + spent - inner[0]
        if self._open:
            self._open[-1][0] += spent

    def timed(self, name: str, function: Callable[..., object]) -> Callable[..., object]:
        """The function, counted as a part."""

        def run(*arguments: object, **options: object) -> object:
            with self.part(name):
                return function(*arguments, **options)

        return run


def parts(
    module: CompiledNetwork, request: nnet.Request, make: Make, steps: int
) -> dict[str, float]:
    """Seconds of each part of a step, the mean over `steps` after natural gradient's first ones.

    Products of natural gradient that are columns of the network's own count as forward or backward.

    Args:
        make: inputs and targets (batch, time) of a minibatch; counts as data.
        steps: a multiple of natural gradient's update period.
    """
    optimizer = NaturalGradientSGD(module)
    clock = Clock()

    def step() -> None:
        with clock.part("data"):
            inputs, targets = make()
        optimizer.zero_grad()
        with clock.part("forward"):
            outputs = module(inputs, request)["output"]
            loss = functional.nll_loss(outputs.flatten(0, 1), targets.flatten(), reduction="sum")
        with clock.part("backward"):
            loss.backward()
        with clock.part("update"):
            optimizer.step()

    watched = [
        (OnlineNaturalGradient, "observe"),
        (ScatterSums, "add"),
        (OnlineNaturalGradient, "multiply"),
        (natural_sgd, "update_estimates"),
        (preconditioners, "find_factors"),
    ]
    for _ in range(INITIAL_UPDATES + 1):
        step()
    clock.seconds.clear()
    with torch.autograd.set_multithreading_enabled(False):
        patches = [
            patch.object(owner, name, _method(clock, getattr(owner, name)))
            for owner, name in watched
        ]
        for change in patches:
            change.start()
        for _ in range(steps):
            step()
        for change in patches:
            change.stop()
    return {name: seconds / steps for name, seconds in clock.seconds.items()}


def _method(clock: Clock, function: Callable[..., object]) -> Callable[..., object]:
    return clock.timed("preconditioner", function)
