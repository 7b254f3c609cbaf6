"""What several tests share: golden cases, and the way their numbers are compared."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from nnet.data.matrices import read_vector_or_matrix
from nnet.data.tables import read_table
from nnet.inference.chunks import Utterance
from nnet.inference.options import ChunkOptions
from nnet.modelfile.model import read_model
from nnet.text.parse import parse_config

GOLDEN = Path(__file__).parent / "golden"

COMPONENT_OUTPUTS = {
    "output.ark": ChunkOptions(frames_per_chunk=20),
    "output_chunk7.ark": ChunkOptions(
        frames_per_chunk=7, extra_left_context=3, extra_right_context=2
    ),
}
NET_OUTPUTS = {
    "output.ark": {"frames_per_chunk": 21},
    "output_chunk9.ark": {
        "frames_per_chunk": 9,
        "extra_left_context": 6,
        "extra_right_context": 3,
    },
    "output_whole.ark": {"frames_per_chunk": 100_000},
}


def cases(folder: str, holding: str = "") -> list[str]:
    """The golden cases of a folder, such as `components`; those that hold a certain file."""
    paths = (GOLDEN / folder).iterdir()
    return sorted(path.name for path in paths if (path / holding).exists())


def table(path: Path) -> dict[str, np.ndarray]:
    return dict(read_table(f"ark:{path}", read_vector_or_matrix))


def last_model(case: Path) -> Path:
    """The model whose outputs the case holds: the trained one if there is one."""
    trained = case / "trained.raw"
    return trained if trained.exists() else case / "init.raw"


def utterances(case: Path) -> list[Utterance]:
    """The case's features, with its i-vectors (one every 10 frames) if it has any."""
    ivectors = table(case / "ivectors.ark") if (case / "ivectors.ark").exists() else {}
    features = table(case / "feats.ark")
    return [Utterance(name, rows, ivectors.get(name), 10) for name, rows in features.items()]


def outputs_of_net(case: Path) -> Iterator[tuple[str, ChunkOptions]]:
    """The output files of a whole network, and how they were computed."""
    first_line = (case / "net.xconfig").read_text().splitlines()[0]
    factor = 3 if "task=chain" in first_line else 1
    for name, settings in NET_OUTPUTS.items():
        yield name, ChunkOptions(frame_subsampling_factor=factor, **settings)


def relative_error(ours: np.ndarray, theirs: np.ndarray) -> float:
    """The golden data's measure: error over the variation in time, not over the level."""
    assert ours.shape == theirs.shape
    theirs = theirs.astype(np.float64)
    variation = np.linalg.norm(theirs - theirs.mean(axis=0))
    return float(
        np.linalg.norm(ours - theirs) / max(variation, 0.05 * float(np.linalg.norm(theirs)))
    )


def network_from(text: str, seed: int = 0):
    """A network with random parameters from config lines."""
    from nnet.graph.build import build_network

    return build_network(parse_config(text), rng=np.random.default_rng(seed))


def golden_network(case: str):
    """The network of a golden case, such as `nets/tdnnf`."""
    return read_model(last_model(GOLDEN / case)).network
