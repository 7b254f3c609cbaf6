"""Config files make the networks that nnet3-init makes of them, but for random numbers."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from nnet.components.base import Component
from nnet.graph.build import build_network
from nnet.graph.lines import node_lines
from nnet.modelfile.loading import read_matrix, read_vector
from nnet.modelfile.model import read_model
from nnet.text.parse import parse_config

GOLDEN = Path(__file__).parents[1] / "golden"
NETS = [path.parent for path in GOLDEN.glob("nets/*/init.raw")]
FINAL = [net / "configs/final.config" for net in NETS]
CONFIGS = sorted(
    path
    for path in (*GOLDEN.glob("components/*/net.config"), *FINAL)
    if "lda.mat" not in path.read_text()  # which the golden cases do not hold
)


@pytest.mark.parametrize("config", CONFIGS, ids=lambda path: str(path.relative_to(GOLDEN)))
def test_same_network_as_nnet3_init(config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    case = config.parents[1] if config.name == "final.config" else config.parent
    text = config.read_text()
    monkeypatch.chdir(case)
    network = build_network(
        parse_config(text, config.name),
        rng=np.random.default_rng(0),
        read_matrix=read_matrix,
        read_vector=read_vector,
    )
    expected = read_model(case / "init.raw").network
    assert node_lines(network) == node_lines(expected)
    assert list(network.components) == list(expected.components)
    for name, component in network.components.items():
        other = expected.components[name]
        assert_same_settings(component, other)


def assert_same_settings(component: Component, other: Component) -> None:
    """Equal fields, but for the values in arrays, which are random."""
    assert type(component) is type(other)
    for field in component.specs():
        value, wanted = getattr(component, field), getattr(other, field)
        if isinstance(wanted, np.ndarray):
            assert (value.shape, value.dtype) == (wanted.shape, wanted.dtype)
        elif field == "components":
            for inner, other_inner in zip(value, wanted, strict=True):
                assert_same_settings(inner, other_inner)
        else:
            assert value == wanted, field
