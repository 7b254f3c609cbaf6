"""Speech made on the spot, with the time of every phone known to the sample."""

from dataclasses import dataclass
from multiprocessing import Pool

import numpy as np

from examples.speech.augment import in_noise
from examples.speech.espeak import Espeak, Speech
from examples.speech.labelling import label
from examples.speech.resample import resample
from examples.speech.sentences import sentences
from examples.speech.speakers import Speaker, speakers
from examples.speech.utterance import Segment, Utterance, tile

RATE = 16000
LEAD_SECONDS = 0.15
SIGNAL_TO_NOISE_DECIBELS = (20.0, 40.0)


@dataclass(frozen=True)
class Task:
    """What one speaker is to say. `seed` starts the random numbers of voice and room."""

    speaker: Speaker
    texts: list[str]
    seed: int


def synthesize(sentences_per_speaker: int, seed: int, jobs: int) -> dict[str, list[Utterance]]:
    """Returns the utterances of each split (train, valid, test), sorted by name.

    No voice and no sentence is in two splits. The same seed gives the same samples with any number
    of jobs, because each speaker gets a process of his own: espeak-ng's state is global, and what
    was said before colours what is said next.
    """
    everyone = speakers(seed)
    texts = sentences(sentences_per_speaker * len(everyone), seed)
    tasks = [
        Task(speaker, texts[place :: len(everyone)], seed * len(everyone) + place)
        for place, speaker in enumerate(everyone)
    ]
    splits: dict[str, list[Utterance]] = {speaker.split: [] for speaker in everyone}
    with Pool(jobs, maxtasksperchild=1) as pool:
        for task, spoken in zip(tasks, pool.imap(speak, tasks, chunksize=1), strict=True):
            splits[task.speaker.split] += spoken
    return {
        split: sorted(spoken, key=lambda utterance: utterance.name)
        for split, spoken in splits.items()
    }


def speak(task: Task) -> list[Utterance]:
    """One speaker's utterances. To be called once a process."""
    espeak = Espeak(task.seed)
    generator = np.random.default_rng(task.seed)
    name = task.speaker.name
    utterances = []
    for number, text in enumerate(task.texts):
        speech = _after_silence(
            espeak.speak(text, task.speaker.voice), round(LEAD_SECONDS * espeak.rate)
        )
        samples = resample(speech.samples, espeak.rate, RATE)
        segments = _at_rate(label(speech, espeak.rate), RATE / espeak.rate, len(samples))
        heard = in_noise(_at_half_scale(samples), SIGNAL_TO_NOISE_DECIBELS, generator)
        utterances.append(Utterance(f"{name}-{number:03d}", name, text, heard, RATE, segments))
    return utterances


def _after_silence(speech: Speech, count: int) -> Speech:
    return Speech(
        np.pad(speech.samples, (count, 0)),
        speech.mnemonics,
        [start + count for start in speech.starts],
    )


def _at_rate(segments: tuple[Segment, ...], ratio: float, end: int) -> tuple[Segment, ...]:
    return tile(
        [segment.label for segment in segments],
        [round(segment.start * ratio) for segment in segments],
        end,
    )


def _at_half_scale(samples: np.ndarray) -> np.ndarray:
    return samples * (16384 / np.abs(samples).max())
