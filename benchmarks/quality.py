"""How well networks are trained by natural gradient, AdamW and SGD in equal epochs.

A TDNN-F learns the phones of speech that is made on the spot, and, with --recordings, the states of
recorded words (`LABEL_SPEAKER_INDEX.wav`, as examples/speech takes them). Every optimizer has the
defaults of `nnet train`. Measured is what no one was trained on: voices and sentences that were
never heard, or a held-out speaker. Each run is repeated with several seeds, of initial parameters
and of the order of data.

    python -m benchmarks.quality [--recordings FOLDER] [--seeds 0 1 2] [--jobs 2]

Writes results/quality.json, quality.md and quality.png.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import torch

import nnet
from benchmarks.harness import RESULTS, machine
from examples.speech.experiment import synthetic
from examples.speech.networks import TDNNF, with_output_dim
from examples.speech.recordings import read_recordings
from examples.speech.tables import DataFolder, write_data
from nnet.training.feeds.tables import Tables
from nnet.training.options import TrainingOptions
from nnet.training.session import train

OPTIMIZERS = ("natural-gradient", "adamw", "sgd")
COLORS = {"natural-gradient": "#4063D8", "adamw": "#D8572A", "sgd": "#389826"}


@dataclass(frozen=True)
class Run:
    """One training: what, how, and on which data."""

    task: str
    optimizer: str
    seed: int
    xconfig: str
    tables: Tables
    epochs: int
    minibatch_size: int
    chunk_width: tuple[int, ...]


@dataclass(frozen=True)
class Result:
    """Objective and accuracy per frame after each epoch, on what was never heard."""

    task: str
    optimizer: str
    seed: int
    objectives: tuple[float, ...]
    accuracies: tuple[float, ...]
    seconds: float


def main() -> None:
    """Trains everything and writes the results."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--recordings", type=Path, help="folder of LABEL_SPEAKER_INDEX.wav")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--sentences", type=int, default=3, help="from each of 50 voices")
    parser.add_argument("--jobs", type=int, default=2, help="trainings at a time, a thread each")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        runs = [
            Run(task, optimizer, seed, xconfig(data), tables(data), arguments.epochs, size, widths)
            for task, data, size, widths in tasks(Path(name), arguments)
            for seed in arguments.seeds
            for optimizer in OPTIMIZERS
        ]
        with get_context("spawn").Pool(arguments.jobs) as pool:
            results = []
            for result in pool.imap_unordered(measure, runs):
                print(
                    f"{result.task}, {result.optimizer}, seed {result.seed}: "
                    f"{result.accuracies[-1]:.2%} of the frames right, {result.seconds:.0f} s"
                )
                results.append(result)
    write(sorted(results, key=lambda result: (result.task, result.optimizer, result.seed)))


def tasks(
    folder: Path, arguments: argparse.Namespace
) -> Iterator[tuple[str, DataFolder, int, tuple[int, ...]]]:
    """What is learnt: a name, the data, chunks in a minibatch, and their frames."""
    speech = synthetic(folder / "speech", arguments.sentences, 0, arguments.jobs)
    yield "phones of synthetic speech", speech.data, 16, (150, 110, 100)
    if arguments.recordings:
        words = read_recordings(arguments.recordings)
        data = write_data(folder / "words", words.splits, words.labels)
        yield "states of recorded words", data, 32, (60, 40)


def xconfig(data: DataFolder) -> str:
    """The TDNN-F of the example for these data."""
    return with_output_dim(TDNNF.xconfig.read_text(), len(data.labels))


def tables(data: DataFolder) -> Tables:
    """What is trained on, and for validation what nobody has heard."""
    return Tables(
        feats=data.features("train"),
        targets=data.targets("train"),
        valid_feats=data.features("test"),
        valid_targets=data.targets("test"),
    )


def measure(run: Run) -> Result:
    """Trains and reads what the log says about the data that were never heard."""
    torch.set_num_threads(1)
    network = nnet.build(run.xconfig, rng=np.random.default_rng(run.seed))
    options = TrainingOptions(
        optimizer=run.optimizer,
        num_epochs=run.epochs,
        minibatch_size=run.minibatch_size,
        chunk_width=run.chunk_width,
        seed=run.seed,
        num_threads=1,
        tensorboard=False,
    )
    started = time.monotonic()
    with tempfile.TemporaryDirectory() as name:
        train(nnet.Model(network), Path(name) / "out", run.tables, options)
        seconds = time.monotonic() - started
        lines = (Path(name) / "out/train.jsonl").read_text().splitlines()
    events = [event for event in map(json.loads, lines) if event["event"] == "validation"]
    objectives = tuple(event["objective"] for event in events)
    accuracies = tuple(event["accuracy"] for event in events)
    return Result(run.task, run.optimizer, run.seed, objectives, accuracies, seconds)


def write(results: Sequence[Result]) -> None:
    """The three files of results."""
    content = {"machine": machine(), "runs": [asdict(result) for result in results]}
    (RESULTS / "quality.json").write_text(json.dumps(content, indent=2) + "\n")
    text = "\n".join(table(results)) + "\n"
    (RESULTS / "quality.md").write_text(text)
    print(text)
    draw(results, RESULTS / "quality.png")


def table(results: Sequence[Result]) -> Iterator[str]:
    """Markdown: means over seeds, with standard deviations."""
    yield "| | epochs | optimizer | objective per frame | frames right |"
    yield "|---|---|---|---|---|"
    for task in dict.fromkeys(result.task for result in results):
        for optimizer in OPTIMIZERS:
            chosen = [r for r in results if (r.task, r.optimizer) == (task, optimizer)]
            objective = mean_and_deviation([r.objectives[-1] for r in chosen], "{:.3f}")
            right = mean_and_deviation([100 * r.accuracies[-1] for r in chosen], "{:.2f}")
            epochs = len(chosen[0].objectives)
            yield f"| {task} | {epochs} | {optimizer} | {objective} | {right} % |"


def mean_and_deviation(values: Sequence[float], form: str) -> str:
    """`MEAN ± DEVIATION`, the latter with two values or more."""
    mean = form.format(statistics.mean(values))
    return f"{mean} ± {form.format(statistics.stdev(values))}" if len(values) > 1 else mean


def draw(results: Sequence[Result], path: Path) -> None:
    """A panel for each task: accuracy over epochs, the mean of the seeds and their range."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    tasks = list(dict.fromkeys(result.task for result in results))
    figure = Figure(figsize=(5.2 * len(tasks), 4), dpi=150, layout="constrained")
    for axes, task in zip(figure.subplots(1, len(tasks), squeeze=False)[0], tasks, strict=True):
        axes.set_title(task, loc="left", fontsize=10)
        axes.set_xlabel("epochs")
        axes.set_ylabel("frames right (%), never heard")
        for optimizer in OPTIMIZERS:
            chosen = [r for r in results if (r.task, r.optimizer) == (task, optimizer)]
            curves = 100 * np.array([r.accuracies for r in chosen])
            epochs = np.arange(1, curves.shape[1] + 1)
            color = COLORS[optimizer]
            axes.fill_between(epochs, curves.min(0), curves.max(0), color=color, alpha=0.2, lw=0)
            axes.plot(epochs, curves.mean(0), color=color, marker="o", ms=4, label=optimizer)
        axes.set_xticks(epochs)
        axes.spines[["top", "right"]].set_visible(False)
        axes.legend(frameon=False)
    with path.open("wb") as file:
        FigureCanvasAgg(figure).print_png(file)


if __name__ == "__main__":
    main()
