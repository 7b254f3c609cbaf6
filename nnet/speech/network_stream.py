"""A network's outputs as frames of features come in, chunk by chunk."""

from __future__ import annotations

from collections.abc import Callable
from math import lcm

import numpy as np
import torch
from numpy.typing import NDArray

from nnet.errors import NnetError
from nnet.graph.context import modulus
from nnet.plan.request import Request, TimeRange
from nnet.runtime.compiled import CompiledNetwork

Floats = NDArray[np.float32]


class NetworkStream:
    """Computes outputs as soon as their context is there, or the end is.

    Each chunk is computed anew with its context, and with one i-vector, the newest, as Kaldi's
    online programs do; where these keep activations of the frames before, those were computed with
    older i-vectors, so that outputs differ a little from theirs.

    Args:
        module: compiled in test mode.
        subsampling: input frames for one of the output.
        frames_per_chunk: input frames of a chunk, about.
        output: the name of the output.
    """

    def __init__(
        self,
        module: CompiledNetwork,
        subsampling: int,
        frames_per_chunk: int,
        output: str = "output",
    ) -> None:
        self._module = module
        self._output = output
        self._factor = subsampling
        step = lcm(subsampling, modulus(module.network))
        self._frames = -(-frames_per_chunk // step) * step
        self._inputs = {node.name: node.dim for node in module.network.inputs()}
        self._features = np.zeros((0, self._inputs["input"]), np.float32)
        self._first = 0  # the frame that the features kept begin with
        self._done = 0  # frames whose outputs were given
        self._finished = False

    @property
    def uses_ivectors(self) -> bool:
        return "ivector" in self._inputs

    def accept(self, features: Floats) -> None:
        """The next frames, (frames, dim).

        Raises:
            NnetError: they have another dimension than the network's input.
        """
        if features.shape[1] != self._features.shape[1]:
            raise NnetError(
                f"the features have {features.shape[1]} numbers a frame, the network's input "
                f"{self._features.shape[1]}; expected: features and model of the same system"
            )
        self._features = np.concatenate((self._features, features))

    def finish(self) -> None:
        """There are no more frames."""
        self._finished = True

    def take(self, ivector: Callable[[int], Floats] | None) -> list[Floats]:
        """Outputs that can be computed now, a chunk of (frames, dim) each.

        Args:
            ivector: gives the i-vector for an input frame, the last that the chunk sees.
        """
        found = []
        while (count := self._ready()) > 0:
            found.append(self._chunk(count, ivector))
            self._done += count * self._factor
            keep = max(0, self._done - self._module.left_context - self._first)
            self._features = self._features[keep:]
            self._first += keep
        return found

    def _ready(self) -> int:
        """Output frames of the next chunk; 0: its context is not there yet."""
        frames = self._first + len(self._features)
        whole = self._frames // self._factor
        last = self._done + self._frames - self._factor
        if last + self._module.right_context < frames:
            return whole
        if not self._finished:
            return 0
        return min(whole, -(-(frames - self._done) // self._factor))

    def _chunk(self, count: int, ivector: Callable[[int], Floats] | None) -> Floats:
        left, right = self._module.left_context, self._module.right_context
        wanted = TimeRange(0, count, self._factor)
        given = TimeRange(-left, left + wanted.last + 1 + right)
        times = self._done + np.arange(given.start, given.start + given.count) - self._first
        features = self._features[np.clip(times, 0, len(self._features) - 1)]
        requested = {"input": given}
        inputs = {"input": torch.from_numpy(features)[None]}
        if self.uses_ivectors:
            if ivector is None:
                raise NnetError(
                    "the network needs i-vectors, and the folder has no i-vector extractor"
                )
            requested["ivector"] = TimeRange(0, 1)
            last = self._done + wanted.last + right
            inputs["ivector"] = torch.from_numpy(ivector(last))[None, None]
        request = Request.of({n: requested[n] for n in self._inputs}, {self._output: wanted})
        with torch.inference_mode():
            return self._module(inputs, request)[self._output][0].float().numpy()
