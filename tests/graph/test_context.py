"""Context and modulus, against nnet3's own results and against a slow definition."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nnet.errors import NnetError
from nnet.graph.build import build_network
from nnet.graph.context import context, is_simple, modulus
from nnet.graph.network import ComponentNode, InputNode, Network
from nnet.modelfile.model import read_model
from nnet.text import syntax
from nnet.text.parse import parse_config
from nnet.text.syntax import Descriptor
from nnet.text.traverse import parts

GOLDEN = Path(__file__).parents[1] / "golden"
CASES = sorted([*GOLDEN.glob("components/*/info.txt"), *GOLDEN.glob("nets/*/info.txt")])


def build(text: str) -> Network:
    return build_network(parse_config(text), rng=np.random.default_rng(0))


@pytest.mark.parametrize("info", CASES, ids=lambda path: path.parent.name)
def test_context_and_modulus_equal_nnet3(info: Path) -> None:
    network = read_model(info.parent / "init.raw").network
    text = info.read_text()
    found = {key: int(number) for key, number in re.findall(r"^([a-z-]+): (\d+)$", text, re.M)}
    assert context(network) == (found["left-context"], found["right-context"])
    assert modulus(network) == found["modulus"]


def test_simple_networks() -> None:
    network = build("input-node name=input dim=2\noutput-node name=output input=input")
    assert is_simple(network)
    assert not is_simple(build("input-node name=in dim=2\noutput-node name=output input=in"))
    two = build(
        "input-node name=input dim=2\ninput-node name=other dim=2\n"
        "output-node name=output input=Append(input, other)"
    )
    assert not is_simple(two)
    with pytest.raises(NnetError, match="only defined for networks with an output-node 'output'"):
        context(two)


def test_ivectors_are_given_wherever_they_may_be_needed() -> None:
    network = build(
        "input-node name=input dim=2\ninput-node name=ivector dim=3\noutput-node name=output "
        "input=Append(Offset(input, -2), Round(ivector, 10), ReplaceIndex(ivector, t, 0))"
    )
    assert context(network) == (2, 0)


def test_needing_too_much_input_is_an_error() -> None:
    network = build("input-node name=input dim=2\noutput-node name=output input=Offset(input, 700)")
    with pytest.raises(NnetError, match="no output can be computed from 640 frames of input"):
        context(network)


def test_a_large_modulus_is_refused() -> None:
    nodes = (
        "input-node name=input dim=2\n"
        "output-node name=output input=Append(Round(input, {}), Round(input, {}))"
    )
    with pytest.raises(NnetError, match=r"the network's modulus \(=3992003\) is above 100000"):
        build(nodes.format(1999, 1997))
    with pytest.raises(NnetError, match="the network's modulus is 5041"):
        context(build(nodes.format(71, 5041)))


def test_the_ways_through_a_deep_network_are_not_followed_one_by_one() -> None:
    """There are 2 to the power of 200 of them."""
    lines = ["input-node name=input dim=2", "component name=n type=NoOpComponent dim=2"]
    source = "input"
    for i in range(200):
        offset = f"Sum(Offset({source}, -1), Offset({source}, 2))"
        lines.append(f"component-node name=n{i} component=n input={offset}")
        source = f"n{i}"
    network = build("\n".join([*lines, f"output-node name=output input={source}"]))
    assert context(network) == (200, 400)


names = st.sampled_from(["input", "a", "b"])


def _wider(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    several = st.lists(inner, min_size=2, max_size=3).map(", ".join)
    small = st.integers(-3, 3)
    return st.one_of(
        several.map("Sum({})".format),
        several.map("Switch({})".format),
        st.builds("Failover({}, {})".format, inner, inner),
        inner.map("IfDefined({})".format),
        st.builds("Offset({}, {})".format, inner, small),
        st.builds("Round({}, {})".format, inner, st.integers(1, 3)),
    )


texts = st.recursive(names, _wider, max_leaves=5)


def _slow_context(network: Network) -> tuple[int, int]:
    period, length = modulus(network), 40
    found = []
    for start in range(period):
        ok = [_slow(network, "output", t, range(start, start + length)) for t in
              range(start, start + length)]  # fmt: skip
        if True not in ok:
            raise NnetError("no output")
        left = ok.index(True)
        end = ok.index(False, left) if False in ok[left:] else length
        found.append((left, length - end))
    return max(left for left, _ in found), max(right for _, right in found)


def _slow(network: Network, name: str, t: int, given: range) -> bool:
    node = network.nodes[name]
    if isinstance(node, InputNode):
        return t in given
    if isinstance(node, ComponentNode):
        offsets = network.components[node.component].window.offsets
        return all(_slow_descriptor(network, node.input, t + o, given) for o in offsets)
    return _slow_descriptor(network, node.input, t, given)


def _slow_descriptor(network: Network, descriptor: Descriptor, t: int, given: range) -> bool:
    match descriptor:
        case syntax.NodeName(name):
            return _slow(network, name, t, given)
        case syntax.IfDefined():
            return True
        case syntax.Failover(first, second):
            return any(_slow_descriptor(network, d, t, given) for d in (first, second))
        case syntax.Offset(source, dt):
            return _slow_descriptor(network, source, t + dt, given)
        case syntax.Round(source, period):
            return _slow_descriptor(network, source, t - t % period, given)
        case syntax.Switch(sources):
            return _slow_descriptor(network, sources[t % len(sources)], t, given)
    return all(_slow_descriptor(network, part, t, given) for part in parts(descriptor))


@settings(max_examples=60, deadline=None)
@given(texts, texts, texts)
def test_context_equals_its_definition(a: str, b: str, out: str) -> None:
    a = re.sub(r"\b[ab]\b", "input", a)
    b = re.sub(r"\bb\b", "a", b)
    network = build(
        "input-node name=input dim=2\n"
        "component name=n type=NoOpComponent dim=2\n"
        "component name=t type=TdnnComponent input-dim=2 output-dim=2 time-offsets=-1,2\n"
        f"component-node name=a component=n input={a}\n"
        f"component-node name=b component=t input={b}\n"
        f"output-node name=output input={out}\n"
    )
    assert context(network) == _slow_context(network)
