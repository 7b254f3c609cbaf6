"""A picture of a training run: objective and accuracy over epochs."""

from __future__ import annotations

import importlib.util
import logging
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nnet.atomic import atomic_write
from nnet.training.reports.records import History, Point

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.typing import RcKeyType

log = logging.getLogger(__name__)

TRAIN = "#4063D8"
VALID = "#D8572A"
INK = "#2B2B33"
FAINT = "#E4E4EA"
STYLE: dict[RcKeyType, Any] = {
    "font.family": "DejaVu Sans",
    "font.size": 10,
    "text.color": INK,
    "axes.edgecolor": FAINT,
    "axes.labelcolor": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": FAINT,
    "grid.linewidth": 0.8,
    "xtick.color": INK,
    "ytick.color": INK,
    "xtick.major.size": 0,
    "ytick.major.size": 0,
}
WINDOW = 5  # points that the smooth line averages, on each side


def draw_curves(history: History, path: Path, title: str) -> None:
    """Writes a PNG with training and validation objective and, if there is one, accuracy.

    Without matplotlib (the extra `plots`) there is a warning instead.
    """
    if importlib.util.find_spec("matplotlib") is None:
        log.warning("no %s: matplotlib is not installed; run: pip install matplotlib", path.name)
        return
    import matplotlib as mpl
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    has_accuracy = any(p.accuracy is not None for p in (*history.train, *history.valid))
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(10.5 if has_accuracy else 6, 4.2), dpi=150, layout="constrained")
        panels = figure.subplots(1, 2 if has_accuracy else 1, squeeze=False)[0]
        _panel(panels[0], history, "objective per frame", lambda p: p.objective)
        if has_accuracy:
            _panel(panels[1], history, "frame accuracy (%)", _percent)
        figure.suptitle(title, x=0.01, ha="left", fontsize=12, fontweight="bold")
        with atomic_write(path) as stream:
            FigureCanvasAgg(figure).print_png(stream)


def _percent(point: Point) -> float | None:
    return None if point.accuracy is None else 100.0 * point.accuracy


def _panel(axes: Axes, history: History, name: str, value: Callable[[Point], float | None]) -> None:
    axes.set_title(name, loc="left", fontsize=10)
    axes.set_xlabel("epochs")
    train, valid = _series(history.train, value), _series(history.valid, value)
    ends: list[tuple[float, float, str, str]] = []
    if train[0]:
        smooth = _smoothed(train[1])
        axes.plot(*train, color=TRAIN, alpha=0.25, linewidth=1)
        axes.plot(train[0], smooth, color=TRAIN, linewidth=2)
        ends.append((smooth[-1], train[0][-1], "training", TRAIN))
    if valid[0]:
        axes.plot(*valid, color=VALID, linewidth=2, marker="o", markersize=4)
        ends.append((valid[1][-1], valid[0][-1], "validation", VALID))
    _label_ends(axes, ends)
    axes.margins(x=0.02)
    if train[0] or valid[0]:
        last = max(*train[0], *valid[0], 0.0)
        axes.set_xticks([tick for tick in axes.get_xticks() if 0 <= tick <= last])
        axes.set_xlim(0.0, last * 1.22)
        axes.set_ylim(bottom=_useful_bottom(train[1], valid[1]))


def _series(
    points: Sequence[Point], value: Callable[[Point], float | None]
) -> tuple[list[float], list[float]]:
    pairs = [(p.epochs, value(p)) for p in points]
    known = [(x, y) for x, y in pairs if y is not None and math.isfinite(y)]
    return [x for x, _ in known], [y for _, y in known]


def _smoothed(values: Sequence[float]) -> list[float]:
    windows = (values[max(0, i - WINDOW) : i + WINDOW + 1] for i in range(len(values)))
    return [sum(window) / len(window) for window in windows]


def _label_ends(axes: Axes, ends: Sequence[tuple[float, float, str, str]]) -> None:
    """Names each curve at its last point (y, x, name, color); the lower name hangs below."""
    for place, (y, x, name, color) in enumerate(sorted(ends)):
        axes.annotate(
            f"{name}\n{y:.4g}",
            (x, y),
            xytext=(7, 1 if place else -1),
            textcoords="offset points",
            va="bottom" if place or len(ends) == 1 else "top",
            color=color,
            fontsize=9,
        )


def _useful_bottom(*curves: Sequence[float]) -> float:
    """Low enough for all but the steep start, which would flatten the rest."""
    values = sorted(value for curve in curves for value in curve)
    low, high = values[len(values) // 20], values[-1]
    return low - 0.05 * max(high - low, 1e-6)
