"""Hypothesis: what is written is read back, and no text makes the parser fall over."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import TypeVar

from hypothesis import given, settings
from hypothesis import strategies as st

from nnet.text.parse import (
    descriptor_of,
    parse_config,
    parse_descriptor,
    parse_xconfig,
    settings_of,
)
from nnet.text.source import Source, TextError
from nnet.text.syntax import (
    Append,
    BareOffset,
    Const,
    Descriptor,
    Failover,
    File,
    IfDefined,
    LayerBack,
    Line,
    NodeName,
    Offset,
    ReplaceIndex,
    Round,
    Scale,
    Setting,
    Sum,
    Switch,
)
from nnet.text.write import nnet3_number, write_descriptor, write_file

WORDS = {"Append", "Sum", "Switch", "Failover", "IfDefined", "Offset", "Round", "ReplaceIndex"}
WORDS |= {"Scale", "Const"}

names = st.from_regex(r"[A-Za-z_][A-Za-z0-9_.\-]*", fullmatch=True).filter(
    lambda name: name not in WORDS
)
integers = st.integers(-(2**31), 2**31 - 1)
positive = st.integers(1, 2**31 - 1)
reals = st.floats(width=32, allow_nan=False, allow_infinity=False)
printed_reals = reals.map(lambda x: float(nnet3_number(x))).filter(
    lambda x: math.isfinite(x) and abs(x) < 3e38
)


def descriptors(leaf: st.SearchStrategy[Descriptor]) -> st.SearchStrategy[Descriptor]:
    def inside(inner: st.SearchStrategy[Descriptor]) -> st.SearchStrategy[Descriptor]:
        some = st.lists(inner, min_size=1, max_size=4).map(tuple)
        return st.one_of(
            st.builds(Append, some),
            st.builds(Sum, some),
            st.builds(Switch, some),
            st.builds(Failover, inner, inner),
            st.builds(IfDefined, inner),
            st.builds(Offset, inner, integers, integers),
            st.builds(Round, inner, positive),
            st.builds(ReplaceIndex, inner, st.sampled_from(["t", "x"]), integers),
            st.builds(Scale, printed_reals, inner),
        )

    return st.recursive(leaf, inside, max_leaves=12)


config_leaves = st.one_of(st.builds(NodeName, names), st.builds(Const, printed_reals, positive))
auxiliary = st.from_regex(r"[A-Za-z0-9_.\-]*", fullmatch=True)
xconfig_leaves = st.one_of(
    config_leaves,
    st.builds(LayerBack, st.integers(1, 2**31 - 1), auxiliary),
    st.builds(BareOffset, integers),
)


@given(descriptors(config_leaves))
def test_descriptors(descriptor: Descriptor) -> None:
    assert parse_descriptor(write_descriptor(descriptor)) == descriptor


@given(descriptors(xconfig_leaves))
def test_descriptors_with_short_forms(descriptor: Descriptor) -> None:
    assert parse_descriptor(write_descriptor(descriptor), short_forms=True) == descriptor


@given(descriptors(st.builds(Const, reals, positive)))
def test_numbers_with_all_their_digits(descriptor: Descriptor) -> None:
    assert parse_descriptor(write_descriptor(descriptor, repr)) == descriptor


values = st.one_of(
    st.text(st.characters(exclude_characters="\n#\"'")),
    st.text("ab=( ),\t'"),
    st.text('ab=( ),\t"'),
    descriptors(config_leaves).map(write_descriptor),
)
lines = st.builds(
    Line,
    names,
    st.lists(st.builds(Setting, names, values), max_size=5, unique_by=lambda s: s.key).map(tuple),
    comment=st.text(st.characters(exclude_characters="\n"), max_size=10),
)
files = st.lists(lines, max_size=5).map(lambda some: File(Source("x", ""), tuple(some)))


@given(files)
def test_config_files(file: File) -> None:
    assert parse_config(write_file(file)) == file


@given(files, st.sampled_from(["", '""']))
def test_xconfig_files(file: File, empty: str) -> None:
    assert parse_xconfig(write_file(file, empty=empty)) == file


@given(files)
def test_written_files_have_one_line_each(file: File) -> None:
    assert write_file(file).count("\n") == len(file.lines)


pieces = st.lists(
    st.one_of(
        st.sampled_from([*WORDS, "(", ")", ",", " ", "\t", "\n", "\r", "=", "'", '"', "#", "@"]),
        st.sampled_from(["[", "]", "-1", "0", "1.5", "1e999", "9" * 40, "t", "x", "a", "name="]),
        st.text(max_size=3),
    ),
    max_size=12,
).map("".join)


T = TypeVar("T")


def parsed_or_refused(parse: Callable[[], T], length: int | None = None) -> T | None:
    """The result; None after a TextError, which must have a place within `length` characters."""
    try:
        return parse()
    except TextError as error:
        span = error.span
    assert span is not None
    assert 0 <= span.start <= span.end <= len(span.source.text)
    assert length is None or span.end <= length
    return None


@settings(max_examples=300)
@given(st.one_of(st.text(), pieces))
def test_any_text_is_parsed_or_refused_with_a_place(text: str) -> None:
    for parse in (parse_config, parse_xconfig):
        file = parsed_or_refused(partial(parse, text), len(text))
        for line in file.lines if file is not None else ():
            for setting in line.settings:
                parsed_or_refused(partial(descriptor_of, setting), len(text))
                parsed_or_refused(partial(settings_of, setting), len(text))


@settings(max_examples=300)
@given(pieces.map(lambda text: text.replace('"', "").replace("\n", "").replace("#", "")))
def test_any_text_in_quotes_is_parsed_or_refused_with_a_place_inside(text: str) -> None:
    (line,) = parse_config(f'a x="{text}" y=1').lines
    setting = line.settings[0]
    assert setting.value == text
    for short_forms in (False, True):
        parsed_or_refused(partial(descriptor_of, setting, short_forms=short_forms), 5 + len(text))
    parsed_or_refused(partial(settings_of, setting), 5 + len(text))


@settings(max_examples=300)
@given(st.one_of(st.text(), pieces), st.booleans())
def test_any_descriptor_is_parsed_or_refused_with_a_place(text: str, short_forms: bool) -> None:
    parse = partial(parse_descriptor, short_forms=short_forms)
    descriptor = parsed_or_refused(partial(parse, text), len(text))
    if descriptor is not None:
        assert parse(write_descriptor(descriptor, repr)) == descriptor
