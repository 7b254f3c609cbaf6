"""The only place where the example uses nnet: train a network, compute its outputs."""

import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import kaldiio
import numpy as np

from examples.speech.tables import DataFolder

_HERE = Path(__file__).parent
_CONFIGS = _HERE.parents[1] / "configs"


@dataclass(frozen=True)
class Recipe:
    """A network and its learning rates at the start and the end of training."""

    name: str
    title: str
    xconfig: Path
    learning_rates: tuple[float, float]


@dataclass(frozen=True)
class Schedule:
    """Options of `nnet train` that depend on the data."""

    epochs: int
    minibatch_size: int
    chunk_width: str


LINEAR = Recipe("linear", "linear", _HERE / "linear.xconfig", (0.02, 2e-4))
TDNNF = Recipe("tdnnf", "TDNN-F", _CONFIGS / "tdnnf_small.xconfig", (0.002, 2e-5))


def train(recipe: Recipe, data: DataFolder, folder: Path, schedule: Schedule) -> Path:
    """Trains the recipe's network on the train split; returns the model file, inside `folder`.

    What an earlier run of the example left in `folder` is replaced.
    """
    folder.mkdir(parents=True, exist_ok=True)
    shutil.rmtree(folder / "checkpoints", ignore_errors=True)
    network = folder / "network.xconfig"
    network.write_text(with_output_dim(recipe.xconfig.read_text(), len(data.labels)))
    initial, final = recipe.learning_rates
    run_nnet(
        "train", str(network), str(folder),
        "--feats", data.features("train"), "--targets", data.targets("train"),
        "--valid-feats", data.features("valid"), "--valid-targets", data.targets("valid"),
        "--num-epochs", str(schedule.epochs),
        "--minibatch-size", str(schedule.minibatch_size), "--chunk-width", schedule.chunk_width,
        "--initial-effective-lrate", str(initial), "--final-effective-lrate", str(final),
    )  # fmt: skip
    return folder / "final.raw"


def compute(model: Path, data: DataFolder, split: str) -> dict[str, np.ndarray]:
    """Log posteriors `(frames, targets)` of each utterance of `split`, also kept by the model."""
    outputs = model.parent / f"{split}.ark"
    run_nnet(
        "compute", str(model), data.features(split), f"ark:{outputs}", "--frames-per-chunk", "150"
    )
    return dict(kaldiio.load_ark(str(outputs)))


def with_output_dim(xconfig: str, count: int) -> str:
    """The xconfig text with its output layer made `count` wide."""
    return re.sub(r"^(output-layer\b.*?\bdim=)\d+", rf"\g<1>{count}", xconfig, flags=re.MULTILINE)


def run_nnet(*words: str) -> None:
    """Runs a command of nnet; if it fails, it has said why, and the example ends."""
    print("$ nnet", *words, file=sys.stderr)
    command = [sys.executable, "-m", "nnet.commands.main", *words]
    done = subprocess.run(command, stdout=subprocess.DEVNULL, check=False)
    if done.returncode != 0:
        sys.exit(done.returncode)
