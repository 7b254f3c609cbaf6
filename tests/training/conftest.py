"""A small task: speech-like features of four classes, and a network that learns them in seconds."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from nnet.data.writers import AlignmentWriter, MatrixWriter
from nnet.graph.build import build_network
from nnet.modelfile.model import Model
from nnet.text.parse import parse_xconfig
from nnet.training.feeds.tables import Tables
from nnet.training.options import TrainingOptions
from nnet.training.session import train
from nnet.xconfig.expansion import expand

XCONFIG = """
input dim=6 name=input
relu-batchnorm-dropout-layer name=tdnn1 dim=16 dropout-proportion=0.1 input=Append(-1,0,1)
relu-batchnorm-layer name=tdnn2 dim=16 input=Append(-3,0,3)
output-layer name=output dim=4
"""


def model_of(old: str = "", new: str = "") -> Model:
    """The small network with initial parameters, with a part of its xconfig replaced."""
    file = expand(parse_xconfig(XCONFIG.replace(old, new) if old else XCONFIG)).final
    return Model(build_network(file, rng=np.random.default_rng(0)))


@pytest.fixture
def variant() -> Callable[[str, str], Model]:
    """Makes a variant of the small network by replacing a part of its xconfig."""
    return model_of


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture
def tables(tmp_path: Path) -> Tables:
    """24 utterances of 20 to 80 frames."""
    random = np.random.default_rng(5)
    centers = 1.5 * random.standard_normal((4, 6))
    with (
        MatrixWriter(f"ark:{tmp_path}/feats.ark") as feats,
        AlignmentWriter(f"ark:{tmp_path}/ali.ark") as alignments,
    ):
        for number in range(24):
            ids = np.repeat(random.integers(0, 4, 20), 5)[: random.integers(20, 80)]
            rows = centers[ids] + random.standard_normal((len(ids), 6))
            feats.write(f"utt{number:02d}", rows.astype(np.float32))
            alignments.write(f"utt{number:02d}", ids.astype(np.int32))
    return Tables(feats=f"ark:{tmp_path}/feats.ark", targets=f"ark:{tmp_path}/ali.ark")


@pytest.fixture
def run(tmp_path: Path, tables: Tables) -> Callable[..., Path]:
    """Trains the small network into a folder; keywords are options of training."""

    def run(
        name: str,
        *,
        model: Model | None = None,
        data: Tables = tables,
        resume: bool = False,
        **options: Any,
    ) -> Path:
        given = {
            "num_epochs": 2,
            "minibatch_size": 4,
            "chunk_width": (30, 20),
            "valid_share": 0.1,
            "tensorboard": False,
        }
        chosen = TrainingOptions(**(given | options))
        return train(model or model_of(), tmp_path / name, data, chosen, resume)

    return run
