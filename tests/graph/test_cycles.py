"""Recurrences with and without delay."""

from __future__ import annotations

import numpy as np
import pytest

from nnet.graph.build import build_network
from nnet.graph.cycles import cyclic_groups
from nnet.graph.network import Network
from nnet.text.parse import parse_config
from nnet.text.source import TextError


def recurrence(a: str, b: str, extra: str = "") -> Network:
    """Nodes a and b of 2 columns with the inputs given."""
    text = f"""\
input-node name=input dim=2
component name=n type=NoOpComponent dim=2
component-node name=a component=n input={a}
component-node name=b component=n input={b}
output-node name=output input=b
{extra}
"""
    return build_network(parse_config(text, "net.config"), rng=np.random.default_rng(0))


@pytest.mark.parametrize(
    ("a", "b"),
    [
        ("Sum(input, IfDefined(Offset(b, -1)))", "a"),
        ("Sum(input, IfDefined(Offset(b, 3)))", "a"),
        ("Sum(input, IfDefined(Offset(b, -1)), IfDefined(Offset(b, -3)))", "a"),
        ("Sum(input, IfDefined(Offset(b, -3)))", "Offset(a, 1)"),
        ("Sum(input, IfDefined(Round(Offset(b, -1), 3)))", "a"),
        ("Sum(input, IfDefined(Offset(b, 0, -1)))", "a"),
    ],
)
def test_delays_are_accepted(a: str, b: str) -> None:
    assert len(recurrence(a, b).nodes) == 4


@pytest.mark.parametrize(
    ("a", "b", "cycle"),
    [
        ("b", "a", "'b' -> 'a' -> 'b'"),
        ("Offset(b, -2)", "Offset(a, 2)", "'b' -> 'a' -> 'b'"),
        ("Sum(input, IfDefined(Round(Offset(b, 1), 3)))", "a", "'b' -> 'a' -> 'b'"),
        ("Sum(input, IfDefined(ReplaceIndex(b, t, 0)))", "a", "'b' -> 'a' -> 'b'"),
        ("Sum(a, IfDefined(Offset(b, -1)))", "input", "'a' -> 'a'"),
    ],
)
def test_no_delay_is_refused_and_the_cycle_named(a: str, b: str, cycle: str) -> None:
    with pytest.raises(TextError) as caught:
        recurrence(a, b)
    text = str(caught.value)
    first, last, *_ = cycle.split(" -> ")
    assert "a cycle without delay" in text
    assert cycle in text or f"{last} -> {first} -> {last}" in text
    assert caught.value.span is not None


def test_cycles_in_both_directions_that_hang_together_are_refused() -> None:
    with pytest.raises(TextError, match="together they have no delay"):
        recurrence("Sum(input, IfDefined(Offset(a, -1)), IfDefined(Offset(a, 2)))", "a")


def test_a_time_delay_component_counts() -> None:
    line = "component name=n2 type=TdnnComponent input-dim=2 output-dim=2 time-offsets=-2,-1"
    node = "component-node name=c component=n2 input=Sum(input, IfDefined(c))"
    assert "c" in recurrence("input", "a", f"{line}\n{node}").nodes
    with pytest.raises(TextError, match="a cycle without delay: 'c' -> 'c'"):
        recurrence("input", "a", f"{line.replace('-2,-1', '-1,0')}\n{node}")


def test_cyclic_groups() -> None:
    graph = {"a": ["b"], "b": ["c", "d"], "c": ["a"], "d": ["e"], "e": ["e"], "f": ["a"]}
    assert sorted(sorted(group) for group in cyclic_groups(graph)) == [["a", "b", "c"], ["e"]]
