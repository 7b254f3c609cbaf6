"""Edits of networks."""

from __future__ import annotations

import dataclasses
import logging
import re
from pathlib import Path

import numpy as np
import pytest
import torch

from nnet.components.affine import Affine, Linear, NaturalGradientAffine
from nnet.components.fixed import FixedAffine
from nnet.graph.build import build_network
from nnet.graph.edits import edit
from nnet.graph.edits.directive import directives
from nnet.graph.lines import node_lines
from nnet.graph.network import Network
from nnet.plan.request import Request, TimeRange
from nnet.runtime.oracle import interpret
from nnet.text.parse import parse_config
from nnet.text.source import TextError
from tests.support import network_from

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
    return network_from(TEXT)


def rate(network: Network, name: str) -> float:
    return float(network.components[name].learning_rate)


def test_set_learning_rate_multiplies_by_the_factor(network: Network) -> None:
    edited = edit(network, "set-learning-rate name=tdnn* learning-rate=0.25")
    assert (rate(edited, "tdnn1"), rate(edited, "tdnn2")) == (0.125, 0.25)


@pytest.mark.parametrize(
    ("pattern", "names"),
    [
        ("*1", ["tdnn1"]),
        ("tdnn2", ["tdnn2"]),
        ("*d*n*", ["tdnn1", "tdnn2"]),
        ("*", ["tdnn1", "tdnn2"]),
        ("**2**", ["tdnn2"]),
        ("dnn*", []),
        ("tdnn?", []),
        ("tdnn.", []),
    ],
)
def test_patterns_match_whole_names(network: Network, pattern: str, names: list[str]) -> None:
    edited = edit(network, f"set-learning-rate-factor name={pattern} learning-rate-factor=9")
    components = edited.components.items()
    assert [n for n, c in components if getattr(c, "learning_rate_factor", 0) == 9] == names


def test_a_pattern_that_matches_nothing_is_a_warning(
    network: Network, caplog: pytest.LogCaptureFixture
) -> None:
    edit(network, "set-learning-rate name=tdn1 learning-rate=0.25")
    assert caplog.messages == ["no component with parameters matches 'tdn1'; did you mean 'tdnn1'?"]


def test_edits_say_what_they_did(network: Network, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    edit(network, "set-learning-rate learning-rate=0.25; remove-orphans")
    assert caplog.messages == [
        "set the learning rates of 2 components",
        "removed 1 orphan components: unused",
    ]


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
    without_inputs = edit(more, "remove-orphan-inputs")
    assert "ivector" not in without_inputs.nodes
    assert "loose" in without_inputs.nodes


def test_set_dropout_proportion(network: Network) -> None:
    edited = edit(network, "set-dropout-proportion proportion=0.5")
    assert edited.components["drop"].dropout_proportion == 0.5


def test_convert_to_fixed_affine(network: Network) -> None:
    edited = edit(network, "convert-to-fixed-affine name=tdnn2")
    assert isinstance(edited.components["tdnn2"], FixedAffine)
    assert not isinstance(edited.components["tdnn1"], FixedAffine)


def test_set_learning_rate_factor(network: Network) -> None:
    edited = edit(network, "set-learning-rate-factor learning-rate-factor=2")
    assert edited.components["tdnn2"].learning_rate_factor == 2


WIDE = """\
input-node name=ivector dim=2
component name=a type=NaturalGradientAffineComponent input-dim=12 output-dim=10 max-change=0.5
component name=b type=AffineComponent input-dim=10 output-dim=3 learning-rate-factor=2
component-node name=n1 component=a input=Append(Offset(input, -1), input)
component-node name=n2 component=a input=Append(input, Offset(input, 1))
input-node name=input dim=6
dim-range-node name=part input-node=n1 dim-offset=0 dim=10
component-node name=b component=b input=Sum(n2, Offset(part, 2))
output-node name=output input=b objective=quadratic
"""


def matrix(network: Network, name: str) -> np.ndarray:
    component = network.components[name]
    assert isinstance(component, Affine | Linear)
    return component.linear


def with_singular_values(network: Network, name: str, values: list[float]) -> None:
    """Gives a matrix these singular values, and keeps its singular vectors."""
    component = network.components[name]
    assert isinstance(component, Affine)
    u, _, vt = np.linalg.svd(component.linear, full_matrices=False)
    component.linear = ((u * values) @ vt).astype(np.float32)


def test_reduce_rank_keeps_the_largest_singular_values() -> None:
    network = network_from(WIDE)
    before = {name: np.linalg.svd(matrix(network, name))[1] for name in "ab"}
    edited = edit(network, "reduce-rank name=* rank=4")
    after = np.linalg.svd(matrix(edited, "a"))[1]
    np.testing.assert_allclose(after[:4], before["a"][:4], rtol=1e-5)
    assert after[4:].max() < 1e-5
    np.testing.assert_array_equal(np.linalg.svd(matrix(edited, "b"))[1], before["b"])
    assert edited.components["a"].max_change == 0.5


def test_apply_svd_splits_a_component_in_two() -> None:
    network = network_from(WIDE)
    with_singular_values(network, "a", [9, 8, 7, 6, 0, 0, 0, 0, 0, 0])
    edited = edit(network, "apply-svd name=* bottleneck-dim=4")
    assert node_lines(edited) == [
        "input-node name=ivector dim=2",
        "input-node name=input dim=6",
        "component-node name=n1_a component=a_a input=Append(Offset(input, -1), input)",
        "component-node name=n1_b component=a_b input=n1_a",
        "component-node name=n2_a component=a_a input=Append(input, Offset(input, 1))",
        "component-node name=n2_b component=a_b input=n2_a",
        "dim-range-node name=part input-node=n1_b dim-offset=0 dim=10",
        "component-node name=b component=b input=Sum(n2_b, Offset(part, 2))",
        "output-node name=output input=b objective=quadratic",
    ]
    assert list(edited.components) == ["b", "a_a", "a_b"]
    first, second = edited.components["a_a"], edited.components["a_b"]
    assert isinstance(first, Linear)
    assert isinstance(second, NaturalGradientAffine)
    whole = network.components["a"]
    assert isinstance(whole, Affine)
    np.testing.assert_allclose(second.linear @ first.linear, whole.linear, atol=1e-5)
    np.testing.assert_array_equal(second.bias, whole.bias)
    assert (first.rank_in, first.rank_out, second.rank_in, second.rank_out) == (40, 80, 20, 80)
    assert first.max_change == second.max_change == 0.5
    # the singular values are shared equally
    roots = np.linalg.svd(first.linear)[1]
    np.testing.assert_allclose(roots**2, [9, 8, 7, 6], rtol=1e-5)


def test_apply_svd_keeps_the_result_where_no_rank_is_lost() -> None:
    network = network_from(WIDE)
    with_singular_values(network, "a", [9, 8, 7, 6, 0, 0, 0, 0, 0, 0])
    request = Request.of({"input": TimeRange(-3, 12)}, {"output": TimeRange(0, 4)})
    inputs = {"input": torch.randn(2, 12, 6, generator=torch.Generator().manual_seed(0))}
    expected = interpret(network, request, inputs)["output"]
    result = interpret(edit(network, "apply-svd name=a bottleneck-dim=4"), request, inputs)
    torch.testing.assert_close(result["output"], expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("options", "rank"),
    [
        ("energy-threshold=0.5", 2),  # of 100: 40, 70, 84, 95, 100
        ("energy-threshold=0.69", 2),
        ("energy-threshold=0.71", 3),
        ("energy-threshold=0.94 bottleneck-dim=1", 4),
        ("bottleneck-dim=10", None),  # not below the smaller side
        ("energy-threshold=0.5 shrinkage-threshold=0.36", None),
        ("energy-threshold=0.5 shrinkage-threshold=0.37", 2),  # 2 (12 + 10) / (12 10) = 0.367
        ("energy-threshold=0.97", 5),  # 0.92 of its size
        ("bottleneck-dim=6", None),  # 1.1 times its size
    ],
)
def test_the_rank_of_apply_svd(options: str, rank: int | None) -> None:
    network = network_from(WIDE)
    squares = np.array([40, 30, 14, 11, 5, 0, 0, 0, 0, 0])
    with_singular_values(network, "a", list(np.sqrt(squares)))
    edited = edit(network, f"apply-svd name=a {options}")
    found = matrix(edited, "a_a").shape[0] if "a_a" in edited.components else None
    assert found == rank


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("remove-orphan", "unknown edit 'remove-orphan'"),
        ("remove-orphan", "did you mean 'remove-orphans'?"),
        ("set-learning-rate name=a", "'set-learning-rate' needs 'learning-rate'"),
        ("set-learning-rate rate=1", "'set-learning-rate' has no key 'rate'"),
        ("set-learning-rate learning-rate=-1", "wrong value '-1' for 'learning-rate'"),
        ("rename-node old-name=dro new-name=y", "<edits>:1:22: there is no node 'dro'"),
        ("rename-node old-name=dro new-name=y", "did you mean 'drop'?"),
        ("rename-node old-name=tdnn1 new-name=tdnn2", "there is a node 'tdnn2' already"),
        ("rename-node old-name=tdnn1 new-name=9", "wrong value '9' for 'new-name'"),
        (
            "rename-node old-name=half new-name=drop_input",
            "<edits>:1:1: the name 'drop_input' is taken",
        ),
        ("remove-output-nodes name=*", "'*' matches all output-nodes (output, extra)"),
        ("set-dropout-proportion proportion=2", "expected: a number between 0 and 1"),
        ("apply-svd name=*", "'apply-svd' needs 'bottleneck-dim' or 'energy-threshold'"),
        ("apply-svd name=* bottleneck-dim=0", "expected: a positive integer"),
        ("apply-svd name=* energy-threshold=1.5", "expected: a number above 0, at most 1"),
        ("apply-svd bottleneck-dim=3", "'apply-svd' needs 'name'"),
        ("reduce-rank name=*", "'reduce-rank' needs 'rank'"),
    ],
)
def test_mistakes(network: Network, text: str, message: str) -> None:
    with pytest.raises(TextError) as caught:
        edit(network, text)
    assert message in str(caught.value)


@pytest.mark.parametrize("line", ["reduce-rank name=a rank=3", "apply-svd name=a bottleneck-dim=3"])
def test_matrices_that_are_not_finite_are_refused(line: str) -> None:
    network = network_from(WIDE)
    matrix(network, "a")[0, 0] = np.nan
    with pytest.raises(TextError, match="matrix of component 'a' has values that are not finite"):
        edit(network, line)


def test_apply_svd_refuses_names_that_are_taken() -> None:
    network = edit(network_from(WIDE), "rename-node old-name=b new-name=n1_a")
    with pytest.raises(TextError, match="1:16: the name 'n1_a' of a part is taken already"):
        edit(network, "apply-svd name=a bottleneck-dim=3")


def test_every_directive_and_its_keys_are_documented() -> None:
    text = (Path(__file__).parents[2] / "docs/edits.md").read_text()
    rows = {
        line.split("|")[1].strip(): line.split("|")[2] for line in text.splitlines() if "|" in line
    }
    for word, cls in directives().items():
        keys = {field.name.replace("_", "-") for field in dataclasses.fields(cls)}
        assert set(re.findall("`([a-z-]+)`", rows[f"`{word}`"])) - {"*"} == keys
