"""Config files make the networks that nnet3-init makes of them, but for random numbers."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from nnet.graph.build import build_network
from nnet.graph.lines import node_lines
from nnet.modelfile.loading import read_matrix, read_vector
from nnet.modelfile.model import read_model
from nnet.text.parse import parse_config

GOLDEN = Path(__file__).parents[1] / "golden"
CONFIGS = sorted(
    [*GOLDEN.glob("components/*/net.config"), *GOLDEN.glob("nets/*/configs/final.config")]
)


@pytest.mark.parametrize("config", CONFIGS, ids=lambda path: str(path.relative_to(GOLDEN)))
def test_same_network_as_nnet3_init(config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    case = config.parents[1] if config.name == "final.config" else config.parent
    text = config.read_text()
    if "lda.mat" in text:
        pytest.skip("the golden case does not hold its lda.mat")
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
        assert type(component) is type(other)
        for field in component.specs():
            value, wanted = getattr(component, field), getattr(other, field)
            if isinstance(wanted, np.ndarray):
                assert (value.shape, value.dtype) == (wanted.shape, wanted.dtype)
            else:
                assert value == wanted, field
