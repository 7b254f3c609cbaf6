"""Alignments as people and programs read them: CTM, Praat's TextGrid, JSON."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from nnet.modelfile.symbols import SymbolTable
from nnet.speech.alignment import Alignment


@dataclass(frozen=True)
class Interval:
    """A word or phone with its place in seconds."""

    label: str
    begin: float
    end: float


@dataclass(frozen=True)
class TimedText:
    """An utterance's words and phones.

    Args:
        utterance: its name.
        duration: in seconds.
        words: in order of time.
        phones: likewise; they fill all of the time.
        log_likelihood: of its acoustics, per frame.
    """

    utterance: str
    duration: float
    words: Sequence[Interval]
    phones: Sequence[Interval]
    log_likelihood: float


def timed_text(
    utterance: str,
    alignment: Alignment,
    words: SymbolTable,
    phones: SymbolTable,
    frame_shift: float,
) -> TimedText:
    """The words and phones of an alignment in seconds.

    Args:
        utterance: its name.
        alignment: of the utterance.
        words: names of words.
        phones: names of phones.
        frame_shift: seconds from one frame of the network's output to the next.
    """
    spoken = [
        Interval(words[word.word], word.begin * frame_shift, word.end * frame_shift)
        for word in alignment.words
    ]
    found, time = [], 0
    for phone, length in zip(
        alignment.phones.phones.tolist(), alignment.phones.durations.tolist(), strict=True
    ):
        end = time + length
        found.append(Interval(phones[phone], time * frame_shift, end * frame_shift))
        time = end
    score = -alignment.path.acoustic_cost / time
    return TimedText(utterance, time * frame_shift, spoken, found, score)


def ctm_text(text: TimedText) -> str:
    """A line for each word: utterance, channel 1, begin and length in seconds, word."""
    return "".join(
        f"{text.utterance} 1 {word.begin:.2f} {word.end - word.begin:.2f} {word.label}\n"
        for word in text.words
    )


def textgrid(text: TimedText) -> str:
    """The tiers `words` and `phones` as Praat reads them."""
    lines = [
        'File type = "ooTextFile"',
        'Object class = "TextGrid"',
        "",
        "xmin = 0",
        f"xmax = {text.duration:.3f}",
        "tiers? <exists>",
        "size = 2",
        "item []:",
    ]
    for number, (name, intervals) in enumerate((("words", text.words), ("phones", text.phones)), 1):
        filled = _filled(intervals, text.duration)
        lines += [
            f"    item [{number}]:",
            '        class = "IntervalTier"',
            f'        name = "{name}"',
            "        xmin = 0",
            f"        xmax = {text.duration:.3f}",
            f"        intervals: size = {len(filled)}",
        ]
        for place, interval in enumerate(filled, 1):
            quoted = interval.label.replace('"', '""')
            lines += [
                f"        intervals [{place}]:",
                f"            xmin = {interval.begin:.3f}",
                f"            xmax = {interval.end:.3f}",
                f'            text = "{quoted}"',
            ]
    return "\n".join([*lines, ""])


def _filled(intervals: Sequence[Interval], duration: float) -> list[Interval]:
    """The intervals with empty ones between them, as a tier has no gaps."""
    found: list[Interval] = []
    time = 0.0
    for interval in intervals:
        if interval.begin > time + 1e-6:
            found.append(Interval("", time, interval.begin))
        found.append(interval)
        time = interval.end
    if duration > time + 1e-6:
        found.append(Interval("", time, duration))
    return found


def json_object(text: TimedText) -> dict[str, Any]:
    """What is known of an utterance, in seconds."""

    def listed(name: str, intervals: Sequence[Interval]) -> list[dict[str, Any]]:
        return [
            {name: i.label, "start": round(i.begin, 3), "end": round(i.end, 3)} for i in intervals
        ]

    return {
        "utterance": text.utterance,
        "duration": round(text.duration, 3),
        "log_likelihood": round(text.log_likelihood, 5),
        "words": listed("word", text.words),
        "phones": listed("phone", text.phones),
    }
