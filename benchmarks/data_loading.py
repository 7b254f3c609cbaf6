"""How long training waits for data: minibatches made by a thread, or by one or two processes.

A TDNN-F is trained on features and alignments on disk, with one CPU thread. The features are held
in memory, or read again from the disk for every chunk; the examples are archives of egs, compressed
as recipes store them. The share of the time in which the training loop had no minibatch is printed.

    python -m benchmarks.data_loading [--workers 0 1 2] [--minibatches 60]
"""

from __future__ import annotations

import argparse
import json
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

import nnet
from benchmarks.harness import RESULTS, machine
from nnet.commands.main import main as command
from nnet.data.writers import AlignmentWriter, MatrixWriter
from nnet.training.feeds.tables import Archives, Tables
from nnet.training.options import TrainingOptions
from nnet.training.session import train

PDFS = 500
XCONFIG = f"""
input dim=40 name=input
relu-batchnorm-layer name=tdnn1 dim=256 input=Append(-1,0,1)
tdnnf-layer name=tdnnf2 dim=256 bottleneck-dim=64 time-stride=1
tdnnf-layer name=tdnnf3 dim=256 bottleneck-dim=64 time-stride=3
output-layer name=output dim={PDFS}
"""
CHUNKS = 32


def main() -> None:
    """Prints a table and writes results/data_loading.json."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--workers", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--minibatches", type=int, default=60)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        tables = write_data(folder, arguments.minibatches)
        sources: dict[str, Tables | Archives] = {
            "features in memory": tables,
            "features from disk": replace(tables, memory=1e-4),
            "examples": write_examples(folder, tables),
        }
        rows = [
            {"data": kind, "workers": count, **waits(source, folder / f"{kind} {count}", count)}
            for kind, source in sources.items()
            for count in arguments.workers
        ]
    for row in rows:
        print(
            f"{row['data']:20} workers {row['workers']}   waited {row['waited']:7.2%} of the time, "
            f"at most {1e3 * row['longest']:7.1f} ms   {row['frames_per_second']:8,.0f} frames/s"
        )
    content = {"machine": machine(), "rows": rows}
    (RESULTS / "data_loading.json").write_text(json.dumps(content, indent=2) + "\n")


def write_data(folder: Path, minibatches: int) -> Tables:
    """Features and alignments of utterances of 300 to 1500 frames, enough for so many steps."""
    random = np.random.default_rng(0)
    frames = minibatches * CHUNKS * 150
    with (
        MatrixWriter(f"ark:{folder}/feats.ark") as feats,
        AlignmentWriter(f"ark:{folder}/ali.ark") as alignments,
    ):
        number = 0
        while frames > 0:
            length = int(random.integers(300, 1500))
            name = f"utterance{number:05d}"
            feats.write(name, random.standard_normal((length, 40)).astype(np.float32))
            alignments.write(name, random.integers(0, PDFS, length).astype(np.int32))
            frames, number = frames - length, number + 1
    return Tables(feats=f"ark:{folder}/feats.ark", targets=f"ark:{folder}/ali.ark")


def write_examples(folder: Path, tables: Tables) -> Archives:
    """The same as archives of compressed examples of 150 frames."""
    network = nnet.build(XCONFIG)
    module = nnet.compile(network)
    words = [tables.feats, tables.targets, f"ark:{folder}/egs.ark", "--num-pdfs", str(PDFS)]
    words += ["--num-frames", "150", "--left-context", str(module.left_context)]
    words += ["--right-context", str(module.right_context)]
    try:
        command(["get-egs", *words])
    except SystemExit as end:
        if end.code:
            raise
    return Archives((f"ark:{folder}/egs.ark",), None, str(CHUNKS), 1000)


def waits(source: Tables | Archives, out: Path, workers: int) -> dict[str, float]:
    """Trains an epoch; the share of the time spent waiting, the longest wait in seconds, and the
    input frames a second. The first minibatch, for which all wait, does not count."""
    options = TrainingOptions(
        optimizer="natural-gradient", num_epochs=1, minibatch_size=CHUNKS, chunk_width=(150,),
        valid_share=0.0, num_workers=workers, num_threads=1, tensorboard=False,
    )  # fmt: skip
    train(nnet.Model(nnet.build(XCONFIG)), out, source, options)
    lines = (out / "train.jsonl").read_text().splitlines()
    events = [event for event in map(json.loads, lines) if event["event"] == "minibatch"][1:]
    seconds = sum(event["weight"] / event["frames_per_second"] for event in events)
    waited = [event["waited"] for event in events]
    return {
        "waited": round(sum(waited) / seconds, 4),
        "longest": round(max(waited), 4),
        "frames_per_second": round(sum(event["weight"] for event in events) / seconds),
    }


if __name__ == "__main__":
    main()
