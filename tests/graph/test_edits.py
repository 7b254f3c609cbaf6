"""Edits of networks."""

from __future__ import annotations

import numpy as np
import pytest

from nnet.components.fixed import FixedAffine
from nnet.graph.build import build_network
from nnet.graph.edits import edit
from nnet.graph.lines import node_lines
from nnet.graph.network import Network
from nnet.text.parse import parse_config
from nnet.text.source import TextError

TEXT = """\
input-node name=input dim=4
component name=tdnn1 type=AffineComponent input-dim=4 output-dim=4 learning-rate-factor=0.5
component name=tdnn2 type=AffineComponent input-dim=2 output-dim=4
component name=drop type=DropoutComponent dim=4 dropout-proportion=0.1
component name=unused type=NoOpComponent dim=4
component-node name=tdnn1 component=tdnn1 input=input
dim-range-node name=half input-node=tdnn1 dim-offset=0 dim=2
component-node name=tdnn2 component=tdnn2 input=half
component-node name=drop component=drop input=Sum(tdnn2, Offset(tdnn1, -1))
output-node name=output input=drop
output-node name=extra input=tdnn1
"""


@pytest.fixture
def network() -> Network:
    return build_network(parse_config(TEXT), rng=np.random.default_rng(0))


def rate(network: Network, name: str) -> float:
    return float(network.components[name].learning_rate)  # type: ignore[attr-defined]


def test_set_learning_rate_multiplies_by_the_factor(network: Network) -> None:
    edited = edit(network, "set-learning-rate name=tdnn* learning-rate=0.25")
    assert (rate(edited, "tdnn1"), rate(edited, "tdnn2")) == (0.125, 0.25)


def test_patterns_match_whole_names(network: Network) -> None:
    edited = edit(network, "set-learning-rate name=*1 learning-rate=0.5")
    assert rate(edited, "tdnn1") == 0.25
    assert rate(edited, "tdnn2") == np.float32(0.001)


def test_rename_node_renames_its_uses(network: Network) -> None:
    edited = edit(network, "rename-node old-name=tdnn1 new-name=first")
    lines = node_lines(edited)
    assert lines[1] == "component-node name=first component=tdnn1 input=input"
    assert lines[2] == "dim-range-node name=half input-node=first dim-offset=0 dim=2"
    assert lines[4].endswith("input=Sum(tdnn2, Offset(first, -1))")


def test_several_edits_in_one_text(network: Network) -> None:
    edited = edit(network, "remove-output-nodes name=ex*; remove-orphans")
    assert [node.name for node in edited.outputs()] == ["output"]
    assert "unused" not in edited.components


def test_remove_orphans_keeps_inputs_unless_told(network: Network) -> None:
    lines = "input-node name=ivector dim=3\ncomponent-node name=loose component=unused input=input"
    more = build_network(parse_config(lines), network, rng=np.random.default_rng(0))
    assert "ivector" in edit(more, "remove-orphan-nodes").nodes
    assert "loose" not in edit(more, "remove-orphan-nodes").nodes
    assert "ivector" not in edit(more, "remove-orphan-nodes remove-orphan-inputs=true").nodes
    assert "unused" in edit(more, "remove-orphan-nodes").components


def test_set_dropout_proportion(network: Network) -> None:
    edited = edit(network, "set-dropout-proportion proportion=0.5")
    assert edited.components["drop"].dropout_proportion == 0.5  # type: ignore[attr-defined]


def test_convert_to_fixed_affine(network: Network) -> None:
    edited = edit(network, "convert-to-fixed-affine name=tdnn2")
    assert isinstance(edited.components["tdnn2"], FixedAffine)
    assert not isinstance(edited.components["tdnn1"], FixedAffine)


def test_set_learning_rate_factor(network: Network) -> None:
    edited = edit(network, "set-learning-rate-factor learning-rate-factor=2")
    assert edited.components["tdnn2"].learning_rate_factor == 2  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("remove-orphan", "unknown edit 'remove-orphan'"),
        ("set-learning-rate name=a", "'set-learning-rate' needs 'learning-rate'"),
        ("set-learning-rate rate=1", "'set-learning-rate' has no key 'rate'"),
        ("set-learning-rate learning-rate=-1", "wrong value '-1' for 'learning-rate'"),
        ("rename-node old-name=x new-name=y", "there is no node 'x'"),
        ("rename-node old-name=tdnn1 new-name=tdnn2", "there is a node 'tdnn2' already"),
        ("rename-node old-name=tdnn1 new-name=9", "'9' can not be the name of a node"),
        ("remove-output-nodes name=*", "the network has no output-node"),
        ("set-dropout-proportion proportion=2", "dropout-proportion (=2.0) must be between 0"),
    ],
)
def test_mistakes(network: Network, text: str, message: str) -> None:
    with pytest.raises(TextError) as caught:
        edit(network, text)
    assert message in str(caught.value)
