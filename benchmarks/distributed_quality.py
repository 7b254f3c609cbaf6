"""Whether two processes, and bfloat16, train as well as one process in float32.

A TDNN-F learns the states of recorded words (`LABEL_SPEAKER_INDEX.wav`, as examples/speech takes
them) by natural gradient, in equal epochs and with the same frames in a step: by one process, by
one in bfloat16, by two that add their gradients up, each with half of the minibatch, and by two
that average their parameters. Measured is a speaker whom nobody has heard. Then one of the two is
killed after the first checkpoint; `unbroken` says whether the resumed run ended with the same
numbers as the one that was never stopped.

    python -m benchmarks.distributed_quality FOLDER [--seeds 0 1 2] [--indexes 15]

Writes results/distributed_quality.json.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from benchmarks.harness import RESULTS, machine
from examples.speech.networks import TDNNF, with_output_dim
from examples.speech.recordings import read_recordings
from examples.speech.tables import DataFolder, write_data
from nnet.runtime.device import has_bf16

CHUNKS = 32  # in a minibatch of all processes that add up gradients
EPOCHS = 4


@dataclass(frozen=True)
class Way:
    """How to train: the number of processes, and options."""

    name: str
    processes: int
    options: tuple[str, ...]


SUM = Way("two processes, sum", 2, ("--distributed", "sum", "--minibatch-size", f"{CHUNKS // 2}"))
AVERAGE = Way(
    "two processes, average",
    2,
    ("--distributed", "average", "--average-every", "4", "--minibatch-size", f"{CHUNKS // 2}"),
)
WAYS = (
    Way("one process", 1, ("--minibatch-size", f"{CHUNKS}")),
    *((Way("one process, bf16", 1, ("--bf16", "--minibatch-size", f"{CHUNKS}")),) * has_bf16()),
    SUM,
    AVERAGE,
)


@dataclass(frozen=True)
class Result:
    """Objective and accuracy per frame after each epoch, on the speaker whom nobody has heard."""

    way: str
    seed: int
    objectives: tuple[float, ...]
    accuracies: tuple[float, ...]
    unbroken: bool | None = None


def main() -> None:
    """Trains everything and writes the results."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("recordings", type=Path, help="folder of LABEL_SPEAKER_INDEX.wav")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--indexes", type=int, default=15, help="of each word and speaker, from 0")
    arguments = parser.parse_args()
    results = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        words = read_recordings(chosen(arguments.recordings, folder, arguments.indexes))
        data = write_data(folder / "words", words.splits, words.labels)
        net = folder / "net.xconfig"
        net.write_text(with_output_dim(TDNNF.xconfig.read_text(), len(data.labels)))
        for seed in arguments.seeds:
            for way in WAYS:
                first = seed == arguments.seeds[0] and way.processes > 1
                results.append(measure(folder, net, data, way, seed, kills=first))
                print(results[-1])
    content = {"machine": machine(), "runs": [asdict(result) for result in results]}
    path = RESULTS / "distributed_quality.json"
    path.write_text(json.dumps(content, indent=2) + "\n")
    print("\n".join(table(results)))


def chosen(recordings: Path, folder: Path, indexes: int) -> Path:
    """A folder with links to the first recordings of each word and speaker."""
    links = folder / "recordings"
    links.mkdir()
    for path in recordings.glob("*_*_*.wav"):
        if int(path.stem.rpartition("_")[2]) < indexes:
            (links / path.name).symlink_to(path.resolve())
    return links


def measure(
    folder: Path, net: Path, data: DataFolder, way: Way, seed: int, *, kills: bool
) -> Result:
    """Trains, and once more with a process killed and the run resumed if `kills`."""
    given = [
        *(str(net), "--feats", data.features("train"), "--targets", data.targets("train")),
        *("--valid-feats", data.features("test"), "--valid-targets", data.targets("test")),
        *("--optimizer", "natural-gradient", "--num-epochs", f"{EPOCHS}", "--srand", f"{seed}"),
        *("--chunk-width", "60,40", "--num-threads", "1", "--checkpoint-every", "5"),
        *("--no-tensorboard", *way.options),
    ]
    out = folder / f"{way.name.replace(' ', '-')}-{seed}"
    finish(start(way, given, out))
    objectives, accuracies = validations(out)
    if not kills:
        return Result(way.name, seed, objectives, accuracies)
    broken = out.with_name(out.name + "-killed")
    processes = start(way, given, broken)
    while not list(broken.glob("checkpoints/*.safetensors")):
        time.sleep(0.05)
    processes[1].send_signal(signal.SIGKILL)
    for process in processes:
        process.wait()
    assert not (broken / "final.raw").exists()
    finish(start(way, [*given, "--resume"], broken))
    unbroken = validations(broken) == (objectives, accuracies)
    return Result(way.name, seed, objectives, accuracies, unbroken)


def start(way: Way, given: Sequence[str], out: Path) -> list[subprocess.Popen[bytes]]:
    """The processes of a run, as torchrun starts them."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "nnet.commands.main", "train", given[0], str(out), *given[1:]]
    shared = {
        "WORLD_SIZE": f"{way.processes}",
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": f"{port}",
    }
    return [
        subprocess.Popen(command, env=_environment(shared, rank), stdout=subprocess.DEVNULL)
        for rank in range(way.processes)
    ]


def _environment(shared: Mapping[str, str], rank: int) -> dict[str, str]:
    return {**os.environ, **shared, "RANK": f"{rank}", "LOCAL_RANK": f"{rank}"}


def finish(processes: Sequence[subprocess.Popen[bytes]]) -> None:
    """Waits for processes that are expected to succeed."""
    for process in processes:
        if process.wait():
            raise SystemExit(f"a training failed: {process.args!r}")


def validations(out: Path) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Objectives and accuracies of all epochs."""
    lines = (out / "train.jsonl").read_text().splitlines()
    events = [event for event in map(json.loads, lines) if event["event"] == "validation"]
    return tuple(e["objective"] for e in events), tuple(e["accuracy"] for e in events)


def table(results: Sequence[Result]) -> list[str]:
    """Markdown: means over seeds, with standard deviations."""
    rows = ["| | objective per frame | frames right | killed and resumed |", "|---|---|---|---|"]
    for way in dict.fromkeys(result.way for result in results):
        own = [result for result in results if result.way == way]
        objective = _spread([result.objectives[-1] for result in own], 3)
        right = _spread([100 * result.accuracies[-1] for result in own], 2)
        resumed = [result.unbroken for result in own if result.unbroken is not None]
        said = ("the same numbers" if all(resumed) else "other numbers") if resumed else ""
        rows.append(f"| {way} | {objective} | {right} % | {said} |")
    return rows


def _spread(values: Sequence[float], digits: int) -> str:
    mean = f"{statistics.mean(values):.{digits}f}"
    return f"{mean} ± {statistics.stdev(values):.{digits}f}" if len(values) > 1 else mean


if __name__ == "__main__":
    main()
