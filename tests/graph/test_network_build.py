"""Config files to networks, and every mistake that a network can have."""

from __future__ import annotations

import numpy as np
import pytest

from nnet.graph.build import build_network
from nnet.graph.check import orphans
from nnet.graph.network import ComponentNode, Network, OutputNode
from nnet.text.parse import parse_config
from nnet.text.source import TextError

SMALL = """\
input-node name=input dim=3
component name=a type=AffineComponent input-dim=9 output-dim=4
component-node name=a component=a input=Append(Offset(input, -1), input, Offset(input, 1))
component name=r type=RectifiedLinearComponent dim=4
component-node name=r component=r input=a
output-node name=output input=r objective=quadratic
"""


def build(text: str, base: Network | None = None, seed: int = 0) -> Network:
    return build_network(parse_config(text, "net.config"), base, rng=np.random.default_rng(seed))


def test_nodes_and_components_keep_their_order() -> None:
    network = build(SMALL)
    assert list(network.nodes) == ["input", "a", "r", "output"]
    assert list(network.components) == ["a", "r"]
    assert [n.dim for n in network.inputs()] == [3]
    output = network.nodes["output"]
    assert isinstance(output, OutputNode)
    assert output.objective == "quadratic"


def test_nodes_may_refer_to_later_ones() -> None:
    reversed_lines = "\n".join(reversed(SMALL.splitlines()))
    assert list(build(reversed_lines).nodes) == ["output", "r", "a", "input"]


def test_adding_replaces_components_in_place_and_moves_nodes_to_the_end() -> None:
    added = build(
        """\
component name=a type=AffineComponent input-dim=3 output-dim=4
component name=b type=AffineComponent input-dim=4 output-dim=2
component-node name=a component=a input=input
component-node name=b component=b input=r
output-node name=output input=b
""",
        build(SMALL),
    )
    assert list(added.nodes) == ["input", "r", "a", "b", "output"]
    assert list(added.components) == ["a", "r", "b"]
    assert added.components["a"].input_dim == 3


def test_adding_leaves_the_base_alone() -> None:
    base = build(SMALL)
    kept = base.components["r"]
    added = build("output-node name=output input=a", base)
    assert isinstance(base.nodes["output"], OutputNode)
    assert list(base.nodes) == ["input", "a", "r", "output"]
    assert added.components["r"] is kept


def test_node_and_component_names_are_separate() -> None:
    network = build(
        SMALL.replace("component name=r", "component name=input").replace(
            "component=r", "component=input"
        )
    )
    node = network.nodes["r"]
    assert isinstance(node, ComponentNode)
    assert node.component == "input"


def test_orphans_are_warnings() -> None:
    network = build(
        SMALL
        + "component name=x type=NoOpComponent dim=3\n"
        + "component name=y type=NoOpComponent dim=3\n"
        + "component-node name=x component=x input=input\n"
    )
    assert orphans(network) == [
        "component 'y' is used by no node",
        "node 'x' is needed by no output",
    ]


@pytest.mark.parametrize(
    ("old", "new", "place", "message"),
    [
        ("input=r ", "input=rr ", (6, 31), "node 'output' reads the undefined node 'rr'"),
        ("input=a\n", "input=output\n", (5, 41), "node 'r' reads the output-node 'output'"),
        (
            "component=r ",
            "component=rr ",
            (5, 1),
            "component-node 'r' uses the undefined component 'rr'",
        ),
        ("name=r type", "name=a type", (4, 16), "two components are called 'a'"),
        ("name=r component", "name=a component", (5, 21), "two nodes are called 'a'"),
        ("node name=r", "node name=9r", (5, 21), "'9r' can not be the name of a node"),
        ("component name=a", "component nam=a", (2, 1), "component needs 'name'"),
        ("component-node name=r component=r", "component-node name=r", (5, 1), "needs 'component'"),
        ("input=r objective", "objective", (6, 1), "output-node needs 'input'"),
        ("quadratic", "cubic", (6, 43), "wrong value 'cubic' for 'objective'"),
        ("name=input dim=3", "name=input dim=0", (1, 27), "wrong value '0' for 'dim'"),
        ("name=input dim=3", "name=input", (1, 1), "input-node needs 'dim'"),
        ("name=input dim=3", "name=input dim=3 x=1", (1, 29), "input-node has no key 'x'"),
        ("output-node", "outptu-node", (6, 1), "unknown kind of line 'outptu-node'"),
        (
            "input-dim=9",
            "input-dim=8",
            (3, 41),
            "dimension mismatch at component-node 'a': its input 'Append(Offset(input, -1), "
            "input, Offset(input, 1))' has dimension 9, component 'a' (AffineComponent) reads 8",
        ),
        (
            "input=r ",
            "input=Sum(r, input) ",
            (6, 38),
            "Sum of different dimensions: 'r' has 4, 'input' has 3",
        ),
        ("input=a\n", "input=Sum(a, r)\n", (5, 1), "a cycle without delay: 'r' -> 'r'"),
        (
            "name=r component",
            "name=a_input component",
            (5, 1),
            "the name 'a_input' is taken: nnet3 gives it to the input of component-node 'a'",
        ),
    ],
)
def test_mistakes(old: str, new: str, place: tuple[int, int], message: str) -> None:
    assert old in SMALL
    with pytest.raises(TextError) as caught:
        build(SMALL.replace(old, new))
    span = caught.value.span
    assert message in str(caught.value)
    assert span is not None
    assert (span.line, span.column) == place


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (
            "dim-range-node name=d input-node=r dim-offset=2 dim=3",
            "dim-range-node 'd' takes columns 2 to 4 of node 'r', which has 4",
        ),
        (
            "dim-range-node name=d input-node=rr dim-offset=0 dim=3",
            "node 'd' reads the undefined node 'rr'",
        ),
        (
            "dim-range-node name=d input-node=output dim-offset=0 dim=3",
            "node 'd' reads the output-node 'output'",
        ),
        (
            "dim-range-node name=d input-node=r dim-offset=-1 dim=3",
            "wrong value '-1' for 'dim-offset'",
        ),
        (
            "dim-range-node name=d input-node=r dim-offset=0 dim=3\n"
            "dim-range-node name=e input-node=d dim-offset=0 dim=3",
            "dim-range-node 'e' takes columns of dim-range-node 'd'",
        ),
    ],
)
def test_mistakes_in_dim_ranges(line: str, message: str) -> None:
    with pytest.raises(TextError) as caught:
        build(f"{SMALL}{line}\n")
    assert message in str(caught.value)
    assert caught.value.span is not None
    assert caught.value.span.line >= 7


def test_undefined_names_suggest_the_nearest() -> None:
    with pytest.raises(TextError, match="did you mean 'input'"):
        build(SMALL.replace("Offset(input, 1)", "Offset(inptu, 1)"))


@pytest.mark.parametrize(("line", "kind"), [(0, "input"), (5, "output")])
def test_inputs_and_outputs_must_be_there(line: int, kind: str) -> None:
    text = f"{kind}-node name=x dim=3" if kind == "input" else "output-node name=x input=r"
    only = [text] if kind == "input" else []
    with pytest.raises(TextError, match=f"the network has no {'output' if only else 'input'}-node"):
        build("\n".join(only) or "component name=a type=NoOpComponent dim=2")
