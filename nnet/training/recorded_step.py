"""Steps that are recorded as graphs of the device's work, for minibatches of shapes that recur."""

from __future__ import annotations

import bisect
import logging
from collections import Counter
from collections.abc import Callable, Hashable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from nnet.data.minibatch import Minibatch
from nnet.errors import NnetError
from nnet.kernels.recording import Script, constants, recording
from nnet.modules.base import ComponentModule
from nnet.modules.statistics import CHOICES, chance, one_chance
from nnet.plan.groups import Loop
from nnet.runtime.compiled import CompiledNetwork
from nnet.training.steps import Launched, NaturalStep, Step
from nnet.training.tallies import ScoreNumbers

log = logging.getLogger(__name__)

WARM_UP = 2
"""Steps of a kind before it is recorded: kernels are compiled and tuned, first estimates and
buffers made, and memory is asked for."""

MOST_RECORDED = 64
"""Kinds of steps, each of which keeps the memory of its values."""


class Recorder(Protocol):
    """Records what a device does."""

    def running(self) -> AbstractContextManager[None]:
        """Where all steps run, recorded or not."""

    def record(self, function: Callable[[], Tensor]) -> tuple[Tensor, Callable[[], None]]:
        """Calls a function without its work on the device being done.

        Returns:
            What the function returned, and what does the work, each time that it is called, on the
            same memory.
        """


class CudaRecorder:
    """Records CUDA graphs.

    Args:
        device: a CUDA device.
    """

    def __init__(self, device: torch.device) -> None:
        self._stream = torch.cuda.Stream(device)
        self._pool = torch.cuda.graph_pool_handle()

    @contextmanager
    def running(self) -> Iterator[None]:
        outside = torch.cuda.current_stream()
        self._stream.wait_stream(outside)
        with torch.cuda.stream(self._stream):
            yield
        outside.wait_stream(self._stream)

    def record(self, function: Callable[[], Tensor]) -> tuple[Tensor, Callable[[], None]]:
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, pool=self._pool, stream=self._stream):
            result = function()
        return result, graph.replay


@dataclass(frozen=True, eq=False)
class _Recorded:
    """A kind of step: what the host does, where the minibatch lies, and the device's work."""

    script: Script
    minibatch: Minibatch
    scores: ScoreNumbers
    numbers: Tensor
    repeat: Callable[[], None]


class RecordedStep:
    """Takes a step as `NaturalStep` does, but those of a kind that came before as one graph.

    A kind of step is a request, the shapes of a minibatch, and which computations are made: those
    of natural gradient's schedule, and those that components choose by chance. All components'
    choices go by one random number in a step, so that there are few kinds.

    Args:
        step: takes the step otherwise.
        recorder: of graphs.
    """

    def __init__(self, step: NaturalStep, recorder: Recorder) -> None:
        self._step = step
        self._recorder = recorder
        module = step.scorer.module
        self._parameters = list(module.parameters())
        self._components = [m for m in module.modules() if isinstance(m, ComponentModule)]
        self._seen: Counter[Hashable] = Counter()
        self._recorded: dict[Hashable, _Recorded] = {}
        self._places: dict[Hashable, Minibatch] = {}

    def __call__(self, minibatch: Minibatch) -> Launched:
        """Takes one step.

        Raises:
            NnetError: this kind of step cannot be recorded.
        """
        drawn = chance()
        shapes = _shapes(minibatch)
        with one_chance(drawn), self._recorder.running():
            kind = (shapes, bisect.bisect(CHOICES, drawn), self._phase())
            known = self._recorded.get(kind)
            if known is not None:
                _copy(minibatch, known.minibatch)
                known.script.again()
                known.repeat()
                torch.autograd.graph.increment_version(self._parameters)
            elif self._is_due(kind):
                known = self._recorded[kind] = self._record(shapes, minibatch)
            numbers = (known.scores, known.numbers) if known else self._step.launch(minibatch)
            launched = Launched(*numbers)
            self._step.optimizer.finish()
        return launched

    def _phase(self) -> Hashable:
        return (*(module.phase for module in self._components), self._step.optimizer.phase)

    def _is_due(self, kind: Hashable) -> bool:
        """Whether a kind of step is to be recorded now."""
        self._seen[kind] += 1
        if self._seen[kind] <= WARM_UP:
            return False
        if len(self._recorded) < MOST_RECORDED:
            return True
        if self._seen[kind] == WARM_UP + 1:
            log.warning(
                "there are more than %d kinds of minibatches, by their shapes above all; those "
                "beyond are trained on without a CUDA graph. Fewer chunk widths make fewer kinds",
                MOST_RECORDED,
            )
        return False

    def _record(self, shapes: Hashable, minibatch: Minibatch) -> _Recorded:
        place = self._places.get(shapes)
        if place is None:
            place = self._places[shapes] = minibatch.each(torch.clone)
        _copy(minibatch, place)
        script = Script(next(iter(place.inputs.values())).device)
        found: list[ScoreNumbers] = []

        def launch() -> Tensor:
            scores, numbers = self._step.launch(place)
            found.append(scores)
            return numbers

        try:
            with recording(script):
                numbers, repeat = self._recorder.record(launch)
        except RuntimeError as error:
            constants.cache_clear()
            raise NnetError(
                "a training step of this network cannot be recorded as a CUDA graph; leave out "
                f"--cuda-graph\n{str(error).splitlines()[0]}"
            ) from error
        script.begin()
        repeat()
        return _Recorded(script, place, found[0], numbers, repeat)


def recorded(step: Step, recorder: Recorder | None = None) -> RecordedStep:
    """A step that is recorded.

    Args:
        recorder: of CUDA graphs by default.

    Raises:
        NnetError: it cannot be recorded.
    """
    if not isinstance(step, NaturalStep) or step.optimizer.reduce is not None:
        raise NnetError(
            "--cuda-graph is for --optimizer natural-gradient in one process; leave it out"
        )
    _check_module(step.scorer.module)
    if recorder is None:
        device = next(step.scorer.module.parameters()).device
        if device.type != "cuda":
            raise NnetError(
                f"--cuda-graph needs --device cuda, found --device {device}; leave it out"
            )
        recorder = CudaRecorder(device)
    return RecordedStep(step, recorder)


def _check_module(module: CompiledNetwork) -> None:
    """Raises NnetError if the host decides something in the midst of a module's steps."""
    loops = [group for group in module.plan.groups if isinstance(group, Loop)]
    unable = [
        name
        for name, component in module.components.items()
        if isinstance(component, ComponentModule) and not component.recordable
    ]
    if loops or unable:
        what = f"component '{unable[0]}'" if unable else "a recurrence"
        raise NnetError(
            f"the network has {what}, where the host decides in the midst of a step, so that it "
            "cannot be recorded as a CUDA graph; leave out --cuda-graph"
        )


def _tensors(minibatch: Minibatch) -> list[Tensor]:
    """All tensors of a minibatch, in order."""
    found: list[Tensor] = []

    def note(tensor: Tensor) -> Tensor:
        found.append(tensor)
        return tensor

    minibatch.each(note)
    return found


def _shapes(minibatch: Minibatch) -> Hashable:
    shapes = tuple((tuple(tensor.shape), tensor.dtype) for tensor in _tensors(minibatch))
    return minibatch.request, tuple(minibatch.targets), minibatch.sequences, shapes


def _copy(minibatch: Minibatch, place: Minibatch) -> None:
    for source, target in zip(_tensors(minibatch), _tensors(place), strict=True):
        target.copy_(source, non_blocking=True)
