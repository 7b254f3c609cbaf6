"""What is to be learnt: a data folder and what a person wants to know about it."""

from dataclasses import dataclass
from pathlib import Path

from examples.speech.augment import augment
from examples.speech.networks import Schedule
from examples.speech.phones import CLASSES, PHONES
from examples.speech.recordings import read_recordings, states_of
from examples.speech.synthesize import RATE, synthesize
from examples.speech.tables import SPLITS, DataFolder, write_data
from examples.speech.utterance import SILENCE, Utterance


@dataclass(frozen=True)
class Experiment:
    """Data and how to show them.

    rate: Hz. minutes: of each split. groups: the labels in the order of the confusion matrix.
    words: the words to recognise, none if utterances are sentences. unseen: what is new in the
    test split. typical_frames: the lengths from which the utterance of the picture is chosen.
    schedule: of training.
    """

    data: DataFolder
    rate: int
    minutes: dict[str, float]
    groups: dict[str, list[str]]
    words: list[str]
    unseen: str
    typical_frames: range
    schedule: Schedule


def synthetic(folder: Path, sentences: int, seed: int, jobs: int) -> Experiment:
    """Phones of speech made on the spot: `sentences` from each speaker."""
    splits = synthesize(sentences, seed, jobs)
    return Experiment(
        data=write_data(folder, splits, PHONES),
        rate=RATE,
        minutes=_minutes(splits),
        groups=CLASSES,
        words=[],
        unseen="voices and sentences never heard in training",
        typical_frames=range(220, 340),
        schedule=Schedule(epochs=12, minibatch_size=16, chunk_width="150,110,100"),
    )


def recorded(folder: Path, source: Path, held_out: str | None, seed: int) -> Experiment:
    """Words of the recordings in `source`, one speaker held out; the others' are multiplied."""
    recordings = read_recordings(source, held_out)
    splits = {**recordings.splits, "train": augment(recordings.splits["train"], seed)}
    return Experiment(
        data=write_data(folder, splits, recordings.labels),
        rate=recordings.rate,
        minutes=_minutes(splits),
        groups={"": [SILENCE], **{word: states_of([word]) for word in recordings.words}},
        words=recordings.words,
        unseen=f"the speaker {recordings.held_out}, never heard in training",
        typical_frames=range(30, 120),
        schedule=Schedule(epochs=2, minibatch_size=32, chunk_width="60,40"),
    )


def _minutes(splits: dict[str, list[Utterance]]) -> dict[str, float]:
    return {split: sum(utterance.seconds for utterance in splits[split]) / 60 for split in SPLITS}
