"""What came out: pictures in a folder, a summary on the terminal."""

from pathlib import Path

import kaldiio
import numpy as np
from rich import box
from rich.console import Console
from rich.table import Table

from examples.speech.evaluation import Result
from examples.speech.experiment import Experiment
from examples.speech.pictures import draw_confusion, draw_posteriors
from examples.speech.scores import confusion, typical_utterance
from examples.speech.tables import SPLITS


def draw(experiment: Experiment, results: list[Result], folder: Path) -> list[Path]:
    """Draws the confusion matrix of the last result, and one utterance as all results see it."""
    best, data = results[-1], experiment.data
    labels, alignments = data.labels, data.alignments("test")
    files = [folder / "confusion.png", folder / "posteriors.png"]
    draw_confusion(
        files[0],
        confusion(best.posteriors, alignments, len(labels)),
        labels,
        experiment.groups,
        f"{best.title}: {best.frames.percent:.1f} % of frames right on {experiment.unseen}",
    )
    name = typical_utterance(best.posteriors, alignments, experiment.typical_frames)
    draw_posteriors(
        files[1],
        kaldiio.load_scp(str(data.path / "test" / "feats.scp"))[name],
        experiment.rate,
        alignments[name],
        {result.title: np.exp(result.posteriors[name]) for result in results},
        labels,
        f"{data.speakers('test')[name]}: “{data.text('test')[name]}”",
    )
    return files


def summarize(
    console: Console,
    experiment: Experiment,
    results: list[Result],
    seconds: dict[str, float],
    files: list[Path],
) -> None:
    """Prints the data, the accuracies, the seconds of each stage and the files."""
    console.print()
    console.print(_data_table(experiment))
    console.print(_accuracy_table(experiment, results))
    console.print(time_table(seconds))
    for path in files:
        console.print(f"  {path}", highlight=False, soft_wrap=True)
    first, last = results[0], results[-1]
    gain = last.frames.percent - first.frames.percent
    console.print(
        f"\n[bold]{last.title} gets {gain:.1f} points more frames right than {first.title}[/bold] "
        f"on {experiment.unseen}.",
        highlight=False,
        soft_wrap=True,
    )


def _data_table(experiment: Experiment) -> Table:
    table = plain_table("Data", "", "speakers", "utterances", "minutes")
    for split in SPLITS:
        speakers = experiment.data.speakers(split)
        table.add_row(
            split,
            str(len(set(speakers.values()))),
            str(len(speakers)),
            f"{experiment.minutes[split]:.1f}",
        )
    return table


def _accuracy_table(experiment: Experiment, results: list[Result]) -> Table:
    speakers = list(results[0].speakers)
    words = ["words"] if experiment.words else []
    table = plain_table("Right on the test split, %", "", *words, "frames", *speakers)
    for result in results:
        scores = [
            *([result.words] if result.words else []),
            result.frames,
            *result.speakers.values(),
        ]
        table.add_row(result.title, *(f"{score.percent:.1f}" for score in scores))
    return table


def time_table(seconds: dict[str, float]) -> Table:
    table = plain_table("Time", "", "seconds")
    for stage, spent in seconds.items():
        table.add_row(stage, f"{spent:.1f}")
    table.add_section()
    table.add_row("all", f"{sum(seconds.values()):.1f}")
    return table


def plain_table(title: str, first: str, *others: str) -> Table:
    table = Table(title=title, title_justify="left", title_style="bold", box=box.SIMPLE_HEAD)
    table.add_column(first)
    for name in others:
        table.add_column(name, justify="right")
    return table
