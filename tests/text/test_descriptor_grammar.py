"""Descriptors: what they mean, and how nnet3 prints them."""

from __future__ import annotations

import pytest

from nnet.text.parse import parse_descriptor
from nnet.text.source import Source, Span, TextError
from nnet.text.syntax import (
    Append,
    BareOffset,
    Const,
    Descriptor,
    Failover,
    IfDefined,
    LayerBack,
    NodeName,
    Offset,
    ReplaceIndex,
    Round,
    Scale,
    Sum,
    Switch,
)
from nnet.text.traverse import leaves, map_leaves, parts, with_parts
from nnet.text.write import write_descriptor

A, B = NodeName("a"), NodeName("b")

MEANINGS: dict[str, Descriptor] = {
    "a": A,
    "tdnn1.affine": NodeName("tdnn1.affine"),
    "_x-3_4": NodeName("_x-3_4"),
    "t": NodeName("t"),
    "Append(a, b)": Append((A, B)),
    "Sum(a, b)": Sum((A, B)),
    "Switch(a, b)": Switch((A, B)),
    "Failover(a, b)": Failover(A, B),
    "IfDefined(a)": IfDefined(A),
    "Offset(a, -1)": Offset(A, -1),
    "Offset(a, 0)": Offset(A, 0),
    "Offset(a, -1, 2)": Offset(A, -1, 2),
    "Round(a, 3)": Round(A, 3),
    "ReplaceIndex(a, t, 0)": ReplaceIndex(A, "t", 0),
    "ReplaceIndex(a, x, -1)": ReplaceIndex(A, "x", -1),
    "Scale(0.4, a)": Scale(0.4, A),
    "Scale(-2, a)": Scale(-2.0, A),
    "Const(0.25, 3)": Const(0.25, 3),
    "Append(Sum(a, IfDefined(Offset(b, -1))), Scale(1e-05, ReplaceIndex(a, t, 0)))": Append(
        (
            Sum((A, IfDefined(Offset(B, -1)))),
            Scale(1e-05, ReplaceIndex(A, "t", 0)),
        )
    ),
}


@pytest.mark.parametrize("text", MEANINGS)
def test_meaning(text: str) -> None:
    assert parse_descriptor(text) == MEANINGS[text]


@pytest.mark.parametrize("text", MEANINGS)
def test_printed_as_nnet3_prints(text: str) -> None:
    assert write_descriptor(MEANINGS[text]) == text


def test_blanks_may_stand_between_all_parts() -> None:
    spaced = " Append ( a ,\tOffset( b , - 1 ) ) ".replace("- 1", "-1")
    assert parse_descriptor(spaced) == Append((A, Offset(B, -1)))
    assert parse_descriptor("Append(a,Offset(b,-1))") == Append((A, Offset(B, -1)))


def test_a_word_of_the_grammar_is_only_special_where_it_can_stand() -> None:
    assert parse_descriptor("ReplaceIndex(t, t, 0)") == ReplaceIndex(NodeName("t"), "t", 0)
    assert parse_descriptor("Sum(Appendix, Summary)") == Sum(
        (NodeName("Appendix"), NodeName("Summary"))
    )


@pytest.mark.parametrize("number", ["2", "+2", "2.", "2.0", "0.2e1", "20E-1"])
def test_a_number_may_be_written_in_any_usual_way(number: str) -> None:
    assert parse_descriptor(f"Scale({number}, a)") == Scale(2.0, A)


@pytest.mark.parametrize(
    ("value", "printed"),
    [(0.1, "0.1"), (1 / 3, "0.333333"), (1e-5, "1e-05"), (123456.7, "123457"), (1e10, "1e+10")],
)
def test_numbers_have_six_digits(value: float, printed: str) -> None:
    assert write_descriptor(Scale(value, A)) == f"Scale({printed}, a)"


SHORT_FORMS: dict[str, Descriptor] = {
    "[-1]": LayerBack(1),
    "[ -2 ]": LayerBack(2),
    "[-1].c": LayerBack(1, "c"),
    "[-1]@-3": Offset(LayerBack(1), -3),
    "a@-3": Offset(A, -3),
    "a @ 3": Offset(A, 3),
    "a@0": A,
    "[-1]@0": LayerBack(1),
    "-3": BareOffset(-3),
    "Append(-3,0,3)": Append((BareOffset(-3), BareOffset(0), BareOffset(3))),
    "Append(2, lstm1.c@-1)": Append((BareOffset(2), Offset(NodeName("lstm1.c"), -1))),
}


@pytest.mark.parametrize("text", SHORT_FORMS)
def test_short_forms_of_xconfigs(text: str) -> None:
    parsed = parse_descriptor(text, short_forms=True)
    assert parsed == SHORT_FORMS[text]
    assert parse_descriptor(write_descriptor(parsed), short_forms=True) == parsed


@pytest.mark.parametrize("text", [t for t in SHORT_FORMS if t != "a"])
def test_config_files_have_no_short_forms(text: str) -> None:
    with pytest.raises(TextError, match=r"short forms .* are for xconfig files"):
        parse_descriptor(text)


def test_spans_of_short_forms() -> None:
    source = Source("x.xconfig", "layer input=Append([ -2 ].c@-3, a@1, 0)")
    span = Span(source, 12, len(source.text))
    descriptor = parse_descriptor(span.text, span=span, short_forms=True)
    assert isinstance(descriptor, Append)
    texts = [part.span.text for part in descriptor.parts if part.span is not None]
    assert texts == ["[ -2 ].c@-3", "a@1", "0"]


def test_nesting_is_limited() -> None:
    allowed = "IfDefined(" * 100 + "a" + ")" * 100
    assert write_descriptor(parse_descriptor(allowed)) == allowed
    with pytest.raises(TextError, match="1:1010: parentheses nested more than 100 deep"):
        parse_descriptor(f"IfDefined({allowed})")


@pytest.mark.parametrize("text", ["(" * 10_000, "Sum(" * 10_000 + "a" + ")" * 10_000])
def test_ten_thousand_parentheses_are_refused(text: str) -> None:
    with pytest.raises(TextError, match="nested more than 100 deep"):
        parse_descriptor(text)


def test_many_parts_are_not_deep() -> None:
    text = "Append(" + ", ".join(["Offset(a, 1)"] * 5000) + ")"
    assert len(parts(parse_descriptor(text))) == 5000


@pytest.mark.parametrize("text", MEANINGS)
def test_parts_can_be_taken_out_and_put_back(text: str) -> None:
    descriptor = MEANINGS[text]
    assert with_parts(descriptor, parts(descriptor)) == descriptor


def test_leaves_and_their_replacement() -> None:
    descriptor = parse_descriptor("Append(Sum(a, b), Scale(2, a), Const(1, 2))")
    assert [leaf.name for leaf in leaves(descriptor)] == ["a", "b", "a"]
    swapped = map_leaves(descriptor, lambda leaf: B if leaf == A else leaf)
    assert write_descriptor(swapped) == "Append(Sum(b, b), Scale(2, b), Const(1, 2))"
