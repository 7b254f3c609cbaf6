"""Pictures: phone errors of each system, and what the networks say about one utterance."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from examples.chain.phones import PhoneTables
from examples.chain.systems import Recognised
from examples.speech.features import SHIFT_SECONDS
from examples.speech.pictures import BLUES, DOTS_PER_INCH, FAINT, INK, TRUTH
from nnet.data.phone_alignments import read_phone_alignment
from nnet.data.tables import read_table

COLORS = ("#9fb3c8", "#1f4f91", "#e4572e")
TYPICAL_FRAMES = range(160, 300)


def draw_errors(path: Path, results: Sequence[Recognised]) -> None:
    """Writes a picture of the phone error rates, of each test speaker and of all."""
    speakers = [*results[0].speakers, "all"]
    figure = Figure(figsize=(9, 4), dpi=DOTS_PER_INCH, layout="constrained")
    axes = figure.add_subplot()
    width = 0.8 / len(results)
    for place, (result, color) in enumerate(zip(results, COLORS, strict=False)):
        rates = [*(e.percent for e in result.speakers.values()), result.errors.percent]
        left = np.arange(len(speakers)) + (place - (len(results) - 1) / 2) * width
        bars = axes.bar(left, rates, width, color=color, label=result.system.title)
        axes.bar_label(bars, fmt="%.1f", fontsize=7, color=INK)
    axes.set_xticks(range(len(speakers)), speakers)
    axes.set_ylabel("phone error rate, %", color=INK)
    axes.set_title("Phones recognised in voices never heard", color=INK, loc="left")
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(
        frameon=False, ncols=len(results), loc="lower right", bbox_to_anchor=(1, 1), fontsize=8
    )
    figure.savefig(path)


def draw_utterance(path: Path, results: Sequence[Recognised], tables: PhoneTables) -> None:
    """Writes a picture of how likely each phone is to each system in the course of an utterance,
    with the phones that were spoken, and those that were recognised."""
    alignments = dict(read_table(tables.aligned("test"), read_phone_alignment))
    name = next((n for n, a in alignments.items() if len(a) in TYPICAL_FRAMES), min(alignments))
    alignment = alignments[name]
    rows = sorted(set(alignment.phones.tolist()))
    figure = Figure(figsize=(11, 3.2 * len(results)), dpi=DOTS_PER_INCH, layout="constrained")
    panels = figure.subplots(len(results), 1, sharex=True, squeeze=False)[:, 0]
    for axes, result in zip(panels, results, strict=True):
        _draw_panel(axes, result, name, rows, tables)
        ends = np.cumsum(alignment.durations) * SHIFT_SECONDS
        for phone, end, frames in zip(alignment.phones, ends, alignment.durations, strict=True):
            row = rows.index(phone)
            axes.plot([end - frames * SHIFT_SECONDS, end], [row, row], color=TRUTH, linewidth=1)
    panels[-1].set_xlabel("seconds; the lines are the phones that were spoken", color=INK)
    figure.savefig(path)


def _draw_panel(
    axes: Axes, result: Recognised, name: str, rows: list[int], tables: PhoneTables
) -> None:
    labels = tables.data.labels
    seconds = len(result.outputs[name]) * result.system.frames_per_output * SHIFT_SECONDS
    shown = phone_probabilities(result, name)[:, [phone - 1 for phone in rows]]
    axes.imshow(
        shown.T, cmap=BLUES, aspect="auto", vmin=0, vmax=1, interpolation="nearest",
        extent=(0, seconds, len(rows) - 0.5, -0.5),
    )  # fmt: skip
    axes.set_yticks(range(len(rows)), [labels[phone - 1] for phone in rows], fontsize=6)
    found = " ".join(labels[phone - 1] for phone in result.phones[name] if phone != tables.silence)
    axes.set_title(f"{result.system.title}: {found}", color=INK, loc="left", fontsize=8)
    for spine in axes.spines.values():
        spine.set_color(FAINT)


def phone_probabilities(result: Recognised, name: str) -> np.ndarray:
    """How likely each phone is in each output frame, `(output frames, phones)`.

    The outputs of all its pdfs, made to sum up to one over all phones.
    """
    outputs = result.outputs[name].astype(np.float64)
    likelihoods = np.exp(outputs - outputs.max(axis=1, keepdims=True))
    phone_of = {p: phone for phone, _, *pdfs in result.system.transition_model.tuples for p in pdfs}
    phones = np.array([phone_of[pdf] - 1 for pdf in range(outputs.shape[1])])
    sums = np.zeros((len(outputs), int(phones.max()) + 1))
    np.add.at(sums.T, phones, likelihoods.T)
    return sums / sums.sum(axis=1, keepdims=True)
