"""Pictures of what a network believes: a confusion matrix, and posteriors over time."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from examples.speech.features import BINS, FRAME_SECONDS, SHIFT_SECONDS, centre_frequencies

INK = "#1d2733"
FAINT = "#d5dbe3"
TRUTH = "#e4572e"
BLUES = LinearSegmentedColormap.from_list(
    "blues", ["#ffffff", "#cfe0f3", "#5b95cf", "#1f4f91", "#0b2447"]
)
DOTS_PER_INCH = 150
NOTICEABLE = 0.35  # a target that was not said gets a row if its posterior ever reaches this


@dataclass(frozen=True)
class Run:
    """Frames `start` up to `end` that have the same true target."""

    target: int
    start: int
    end: int


def runs(targets: np.ndarray) -> list[Run]:
    """`(frames,)` as the list of its constant stretches."""
    changes = (np.flatnonzero(np.diff(targets)) + 1).tolist()
    bounds = zip([0, *changes], [*changes, len(targets)], strict=True)
    return [Run(int(targets[start]), start, end) for start, end in bounds]


def draw_confusion(
    path: Path, matrix: np.ndarray, labels: Sequence[str], groups: dict[str, list[str]], title: str
) -> None:
    """Writes a picture of `matrix` `(count, count)`, frames by true and recognised target.

    Each row is shown in percent. labels: of the targets. groups: names and members, in the order
    in which to show them.
    """
    shown = [label for members in groups.values() for label in members]
    order = [labels.index(label) for label in shown]
    counts = matrix[np.ix_(order, order)].astype(float)
    percent = 100 * counts / np.maximum(matrix[order].sum(axis=1, keepdims=True), 1)
    figure = Figure(figsize=(11.5, 10.5), dpi=DOTS_PER_INCH, layout="constrained")
    axes = figure.add_subplot()
    image = axes.imshow(percent, cmap=BLUES, vmin=0, vmax=100, interpolation="nearest")
    axes.set_xticks(range(len(shown)), shown, rotation=90, fontsize=8)
    axes.set_yticks(range(len(shown)), shown, fontsize=8)
    axes.set_xlabel("recognised as", color=INK, fontsize=11)
    axes.set_ylabel("true", color=INK, fontsize=11)
    axes.set_title(title, color=INK, fontsize=14, loc="left", pad=28)
    _separate_groups(axes, groups)
    _plain_frame(axes)
    bar = figure.colorbar(image, ax=axes, shrink=0.5, aspect=30, pad=0.02)
    bar.set_label("% of the true label's frames", color=INK)
    bar.outline.set_visible(False)
    figure.savefig(path)


def draw_posteriors(
    path: Path,
    features: np.ndarray,
    rate: int,
    targets: np.ndarray,
    posteriors: dict[str, np.ndarray],
    labels: Sequence[str],
    title: str,
) -> None:
    """Writes a picture of one utterance: features, below them each network's posteriors.

    The truth is outlined. features: `(frames, 40)` log-mel of sound at `rate` Hz.
    targets: `(frames,)`. posteriors: probabilities by network, `(frames, len(labels))`.
    """
    rows = {name: _rows(targets, values) for name, values in posteriors.items()}
    heights = [2.2, *(0.16 * len(chosen) + 0.3 for chosen in rows.values())]
    width = float(np.clip(4.5 * len(targets) * SHIFT_SECONDS, 8, 16))
    figure = Figure(figsize=(width, sum(heights) + 1.6), dpi=DOTS_PER_INCH, layout="constrained")
    panels = figure.subplots(len(heights), 1, sharex=True, height_ratios=heights)
    figure.suptitle(title, color=INK, fontsize=14, x=0.01, ha="left")
    stretches = runs(targets)
    _draw_features(panels[0], features, rate)
    _write_labels(panels[0], stretches, labels)
    for panel, (name, values) in zip(panels[1:], posteriors.items(), strict=True):
        _draw_network(panel, name, values, rows[name], stretches, labels)
    panels[-1].set_xlabel("seconds", color=INK)
    figure.savefig(path)


def _rows(targets: np.ndarray, posteriors: np.ndarray) -> list[int]:
    """The true targets by first occurrence, then those that are believed in wrongly."""
    said = list(dict.fromkeys(targets.tolist()))
    intruders = np.flatnonzero(posteriors.max(axis=0) >= NOTICEABLE).tolist()
    return said + [target for target in intruders if target not in said]


def _extent(frames: int, height: int) -> tuple[float, float, float, float]:
    return (_seconds(0), _seconds(frames), height - 0.5, -0.5)


def _seconds(frame: int) -> float:
    """When the 10 ms around a frame's centre begin."""
    return frame * SHIFT_SECONDS + (FRAME_SECONDS - SHIFT_SECONDS) / 2


def _draw_features(axes: Axes, features: np.ndarray, rate: int) -> None:
    low, high = np.percentile(features, [2, 99.5])
    axes.imshow(
        features.T[::-1],
        aspect="auto",
        cmap="magma",
        vmin=low,
        vmax=high,
        extent=_extent(len(features), BINS),
    )
    hertz = [250, 500, 1000, 2000, 4000, 7000]
    hertz = [value for value in hertz if value < rate / 2]
    bins = np.interp(hertz, centre_frequencies(rate), np.arange(BINS))
    axes.set_yticks(BINS - 1 - bins, [f"{value / 1000:g}" for value in hertz], fontsize=8)
    axes.set_ylabel("kHz (mel)", color=INK)
    _plain_frame(axes)


def _write_labels(axes: Axes, stretches: list[Run], labels: Sequence[str]) -> None:
    """The true labels over the panel, in two heights so that short neighbours do not collide."""
    for place, stretch in enumerate(stretches):
        start, end = _seconds(stretch.start), _seconds(stretch.end)
        axes.axvline(start, color="white", linewidth=0.5, alpha=0.5)
        height = 1.02 if place % 2 == 0 else 1.09
        axes.text(
            (start + end) / 2,
            height,
            labels[stretch.target],
            transform=axes.get_xaxis_transform(),
            ha="center",
            va="bottom",
            fontsize=8,
            color=INK,
        )


def _draw_network(
    axes: Axes,
    name: str,
    posteriors: np.ndarray,
    rows: list[int],
    stretches: list[Run],
    labels: Sequence[str],
) -> None:
    image = posteriors[:, rows].T
    axes.imshow(
        image,
        aspect="auto",
        cmap=BLUES,
        vmin=0,
        vmax=1,
        interpolation="nearest",
        extent=_extent(len(posteriors), len(rows)),
    )
    for stretch in stretches:
        corner = (_seconds(stretch.start), rows.index(stretch.target) - 0.5)
        size = ((stretch.end - stretch.start) * SHIFT_SECONDS, 1)
        axes.add_patch(Rectangle(corner, *size, fill=False, edgecolor=TRUTH, linewidth=0.9))
    axes.set_yticks(range(len(rows)), [labels[row] for row in rows], fontsize=7)
    axes.set_ylabel(name, color=INK)
    axes.grid(axis="x", color=FAINT, linewidth=0.4)
    _plain_frame(axes)


def _separate_groups(axes: Axes, groups: dict[str, list[str]]) -> None:
    place = -0.5
    for name, members in groups.items():
        centre = place + len(members) / 2
        axes.text(centre, -1.2, name, ha="center", va="bottom", fontsize=9, color=INK)
        place += len(members)
        axes.axhline(place, color=FAINT, linewidth=0.8)
        axes.axvline(place, color=FAINT, linewidth=0.8)


def _plain_frame(axes: Axes) -> None:
    axes.tick_params(colors=INK, length=2)
    for spine in axes.spines.values():
        spine.set_color(FAINT)
