"""Statistics over time: stats-layer."""

from __future__ import annotations

import re
from dataclasses import dataclass

from nnet.text.syntax import Line, NodeName, Round
from nnet.text.values import BadValue, integer
from nnet.xconfig.layer import Layer, LayerWithInput
from nnet.xconfig.option import POSITIVE, REQUIRED, Option
from nnet.xconfig.registry import register
from nnet.xconfig.scope import Output

_WINDOW = re.compile(r"mean(\+stddev)?(\+count)?\((-?\d{1,9}):(\d{1,9}):(\d{1,9}):(-?\d{1,9})\)")
_FORM = (
    "mean(LEFT:INPUT-PERIOD:PERIOD:RIGHT) in frames, such as mean(-99:3:9:99), "
    "or mean+stddev(...), mean+count(...), mean+stddev+count(...)"
)


@dataclass(frozen=True)
class Window:
    """Which statistics, and of which frames.

    Attributes:
        text: the window as it is written.
        stddev: whether standard deviations follow the means.
        count: whether the log of the number of frames is the last column.
        left: frames of left context.
        input_period: frames between two frames that are read.
        period: frames between two frames where statistics are taken.
        right: frames of right context.
    """

    text: str
    stddev: bool
    count: bool
    left: int
    input_period: int
    period: int
    right: int

    def __str__(self) -> str:
        return self.text


def read_window(text: str) -> Window:
    """A window such as `mean+stddev(-99:3:9:99)`."""
    match = _WINDOW.fullmatch(text.replace(" ", ""))
    if match is None:
        raise BadValue(_FORM)
    stddev, count, *numbers = match.groups()
    first, input_period, period, right = map(int, numbers)
    return Window(text.strip(), bool(stddev), bool(count), -first, input_period, period, right)


def _statistics_dim(layer: Layer) -> int:
    """worked out from the input"""
    if not isinstance(layer, StatsLayer):
        raise TypeError(f"{layer} has no statistics")
    return layer.statistics_dim


@register("stats-layer")
class StatsLayer(LayerWithInput):
    """Means, and standard deviations, of the frames in a window around each frame.

    With a window as long as the utterance, `mean+stddev(0:1:1:10000)`, this is the pooling of
    x-vectors (Snyder et al., "X-vectors: robust DNN embeddings for speaker recognition", 2018).
    """

    example = "name=stats config=mean+stddev(-99:3:9:99)"
    window = Option(read_window, REQUIRED, "which statistics, and of which frames", key="config")
    dim = Option(
        integer, _statistics_dim, "number of columns of the output", unset=-1, check=POSITIVE
    )

    @property
    def statistics_dim(self) -> int:
        """Columns of the output."""
        parts = 2 if self.window.stddev else 1
        return parts * self.input.dim + self.window.count

    def check(self) -> None:
        window = self.window
        if window.left < 0 or window.right < 0:
            raise self.wrong(
                "config",
                f"the window from {-window.left} to {window.right} does not hold the frame itself",
                expected="a first frame of zero or less and a last one of zero or more",
            )
        if window.period == 0 or window.input_period == 0 or window.period % window.input_period:
            raise self.wrong(
                "config",
                f"the period (={window.period}) must be a multiple of the input period "
                f"(={window.input_period}), both positive",
            )
        if window.left % window.period or window.right % window.period:
            raise self.wrong(
                "config",
                f"the window from {-window.left} to {window.right} must begin and end at "
                f"multiples of the period (={window.period})",
            )
        if self.dim != self.statistics_dim:
            raise self.wrong(
                "dim",
                f"dim (={self.dim}) differs from the {self.statistics_dim} columns of the "
                f"statistics of '{self.input.text}', which has dim {self.input.dim}",
                hint="leave dim out",
            )

    def outputs(self) -> dict[str, Output]:
        span = self.line.span
        pooled = NodeName(self._node("pooling"), span=span)
        return {"": Output(Round(pooled, self.window.period, span=span), self.dim)}

    def config(self) -> list[Line]:
        window = self.window
        chain = self.chain()
        chain.add(
            self._node("extraction"),
            "StatisticsExtractionComponent",
            {"input-dim": self.input.dim, "input-period": window.input_period},
            {"output-period": window.period, "include-variance": window.stddev},
        )
        sums = 1 + self.input.dim * (2 if window.stddev else 1)
        chain.add(
            self._node("pooling"),
            "StatisticsPoolingComponent",
            {"input-dim": sums, "input-period": window.period},
            {"left-context": window.left, "right-context": window.right},
            {"num-log-count-features": int(window.count), "output-stddevs": window.stddev},
        )
        return chain.lines

    def _node(self, part: str) -> str:
        return f"{self.name}-{part}-{self.window.left}-{self.window.right}"
