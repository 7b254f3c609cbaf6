"""nnet3's normal form of descriptors."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nnet.graph.canonical import canonical, canonical_text
from nnet.text import syntax
from nnet.text.parse import parse_descriptor
from nnet.text.syntax import Descriptor
from nnet.text.traverse import parts


@pytest.mark.parametrize(
    ("text", "normal"),
    [
        ("a", "a"),
        ("Append(Append(a, b), c)", "Append(a, b, c)"),
        ("Append(a)", "a"),
        ("Offset(Append(a, b), 2)", "Append(Offset(a, 2), Offset(b, 2))"),
        ("Offset(Offset(a, 1), 2)", "Offset(a, 3)"),
        ("Offset(Offset(a, 1), -1)", "a"),
        ("Offset(a, 0)", "a"),
        ("Offset(a, 1, 2)", "Offset(a, 1, 2)"),
        ("Offset(Sum(a, b), 1)", "Sum(Offset(a, 1), Offset(b, 1))"),
        ("Round(IfDefined(a), 3)", "IfDefined(Round(a, 3))"),
        ("ReplaceIndex(Failover(a, b), t, 0)",
         "Failover(ReplaceIndex(a, t, 0), ReplaceIndex(b, t, 0))"),
        ("Sum(a, b, c, a)", "Sum(a, Sum(b, Sum(c, a)))"),
        ("Sum(a)", "a"),
        ("Sum(Append(a, b), Append(c, a))", "Append(Sum(a, c), Sum(b, a))"),
        ("Scale(0.4, ReplaceIndex(ivector, t, 0))", "ReplaceIndex(Scale(0.4, ivector), t, 0)"),
        ("Sum(Scale(0.5, a), Scale(-2.0, input), Const(1.5, 5))",
         "Sum(Scale(0.5, a), Sum(Scale(-2, input), Const(1.5, 5)))"),
        ("Scale(2, Scale(3, a))", "Scale(6, a)"),
        ("Scale(2, Sum(a, Offset(b, 1)))", "Sum(Scale(2, a), Offset(Scale(2, b), 1))"),
        ("Scale(1.0, a)", "a"),
        ("Scale(2, Const(1.5, 4))", "Const(3, 4)"),
        ("Offset(Const(1, 4), 2)", "Const(1, 4)"),
        ("Scale(2, IfDefined(a))", "IfDefined(Scale(2, a))"),
        ("Switch(a, Offset(b, 1))", "Switch(a, Offset(b, 1))"),
        ("Scale(2, Switch(a, b))", "Switch(Scale(2, a), Scale(2, b))"),
    ],
)  # fmt: skip
def test_normal_forms(text: str, normal: str) -> None:
    assert canonical_text(parse_descriptor(text)) == normal


@pytest.mark.parametrize("text", ["Switch(Sum(a, b), c)", "Sum(Append(a, b), c)"])
def test_what_has_no_normal_form_stays(text: str) -> None:
    assert canonical_text(parse_descriptor(text)) == text


def test_numbers_keep_their_value() -> None:
    assert canonical_text(syntax.Scale(1 / 3, syntax.NodeName("a"))) == "Scale(0.333333343, a)"
    assert canonical_text(syntax.Scale(0.66, syntax.NodeName("a"))) == "Scale(0.66, a)"


names = st.sampled_from("abc").map(syntax.NodeName)
constants = st.builds(syntax.Const, st.sampled_from([0.5, 2.0]), st.just(2))


def _wider(inner: st.SearchStrategy[Descriptor]) -> st.SearchStrategy[Descriptor]:
    several = st.lists(inner, min_size=1, max_size=3).map(tuple)
    small = st.integers(-3, 3)
    return st.one_of(
        st.builds(syntax.Append, several),
        st.builds(syntax.Sum, several),
        st.builds(syntax.Failover, inner, inner),
        st.builds(syntax.IfDefined, inner),
        st.builds(syntax.Offset, inner, small, small),
        st.builds(syntax.Switch, several),
        st.builds(syntax.Scale, st.sampled_from([0.5, -2.0, 1.0]), inner),
        st.builds(syntax.Round, inner, st.integers(1, 3)),
        st.builds(syntax.ReplaceIndex, inner, st.sampled_from("tx"), small),
    )


descriptors: st.SearchStrategy[Descriptor] = st.recursive(names | constants, _wider, max_leaves=8)


def value(descriptor: Descriptor, t: int, x: int) -> np.ndarray:
    """The row of a descriptor if every row of every node is defined."""
    match descriptor:
        case syntax.NodeName(name):
            return np.array([ord(name) + 10 * t + 1000 * x, t * t - x], float)
        case syntax.Const(number, dim):
            return np.full(dim, number)
        case syntax.Append(inner):
            return np.concatenate([value(part, t, x) for part in inner])
        case syntax.Sum(inner):
            return np.sum([value(part, t, x) for part in inner], axis=0)
        case syntax.Offset(source, dt, dx):
            return value(source, t + dt, x + dx)
        case syntax.Switch(sources):
            return value(sources[t % len(sources)], t, x)
        case syntax.Scale(factor, source):
            return factor * value(source, t, x)
        case syntax.Round(source, modulus):
            return value(source, t - t % modulus, x)
        case syntax.ReplaceIndex(source, variable, number):
            return value(source, number, x) if variable == "t" else value(source, t, number)
    return value(parts(descriptor)[0], t, x)


@given(descriptors, st.integers(-4, 4), st.integers(-2, 2))
def test_the_normal_form_means_the_same(descriptor: Descriptor, t: int, x: int) -> None:
    try:
        expected = value(descriptor, t, x)
    except ValueError:  # parts of different dimensions
        return
    np.testing.assert_allclose(value(canonical(descriptor), t, x), expected)


@given(descriptors)
def test_the_normal_form_is_its_own(descriptor: Descriptor) -> None:
    normal = canonical(descriptor)
    assert canonical(normal) == normal
