"""nnet1 networks as files, and prototypes from which new ones are made."""

from __future__ import annotations

import os
import re

import numpy as np

from nnet.components.config import create_component
from nnet.components.field import FieldError, Kind
from nnet.components.initial import Initializer
from nnet.converters.legacy import Rows
from nnet.converters.nnet1.base import END, Nnet1Component, nnet1_types, read_dims
from nnet.errors import NnetError, nearest
from nnet.modelfile.loading import open_file, read_matrix, read_vector
from nnet.modelfile.tokens import Reader
from nnet.modelfile.writing import BinaryWriter, TextWriter, Writer
from nnet.text.files import read_text
from nnet.text.source import Source, Span, TextError
from nnet.text.syntax import Line, Setting
from nnet.text.values import BadValue, integers

LARGEST_DEPTH = 10
"""Networks that are nested deeper are taken for damaged files."""

LARGEST_VECTOR = 10_000_000

Nnet1 = list[Nnet1Component]
"""A network: each component reads what the one before it makes."""

OLD_NAMES = {
    "lstmprojectedstreams": "LstmProjected",
    "blstmprojectedstreams": "BlstmProjected",
}


def forward(network: Nnet1, rows: Rows) -> list[Rows]:
    """Each component's output on an utterance `(frames, input_dim)`; the last is the network's."""
    results = []
    rows = rows.astype(np.float64)
    for component in network:
        rows = component.forward(rows)
        results.append(rows)
    return results


def parse_nnet1(reader: Reader) -> Nnet1:
    """The network in an open file, from `<Nnet>` to `</Nnet>`.

    Raises:
        NnetError: it is not a valid network; with the byte offset.
    """
    return read_nested(reader, 0)


def read_nested(reader: Reader, depth: int) -> Nnet1:
    """The network that begins here, inside of `depth` others."""
    if depth > LARGEST_DEPTH:
        reader.fail(f"networks nested {LARGEST_DEPTH} deep at most")
    bare = depth == 0 and reader.peek_token() != "<Nnet>"  # very old files have components alone
    if not bare:
        reader.expect("<Nnet>")
    network: Nnet1 = []
    # old files, which have no ends of components, may lack that of the network
    may_end = depth == 0 and (bare or END.encode() not in reader.data)
    while reader.peek_token() not in (("</Nnet>", None) if may_end else ("</Nnet>",)):
        start = reader.position
        component = _read_component(reader, depth)
        if network and network[-1].output_dim != component.input_dim:
            reader.fail(
                f"a component that reads {network[-1].output_dim} columns, as the one before it "
                "makes them",
                f"{component.type_name} that reads {component.input_dim}",
                at=start,
            )
        network.append(component)
    if not network:
        reader.fail("a component")
    is_cut = not bare and len(network) < 2  # before the first component's end
    if not may_end or is_cut or reader.peek_token() is not None:
        reader.expect("</Nnet>")
    return network


def _read_component(reader: Reader, depth: int) -> Nnet1Component:
    start = reader.position
    cls = _component_class(reader)
    output_dim, input_dim = read_dims(reader)
    values = cls.read_fields(reader, depth)
    try:
        component = cls(input_dim=input_dim, output_dim=output_dim, **values)
        component.check()
    except FieldError as error:
        raise NnetError(f"{reader.name}: byte {start}: {cls.type_name}: {error.message}") from None
    if reader.peek_token() == END:
        reader.expect(END)
    return component


def _component_class(reader: Reader) -> type[Nnet1Component]:
    start = reader.position
    token = reader.token("a component type")
    name = token.removeprefix("<").removesuffix(">")
    cls = _type_named(name)
    if cls is None:
        meant = nearest(name, nnet1_types())
        hint = f"; did you mean {meant}?" if meant else ""
        reader.fail("a component type of nnet1", f"{token[:60]!r}{hint}", at=start)
    return cls


def _type_named(name: str) -> type[Nnet1Component] | None:
    """The component type of a name in any case, as nnet1 reads it."""
    names = {known.lower(): known for known in nnet1_types()} | OLD_NAMES
    known = names.get(name.lower())
    if known is None:
        return None
    cls = nnet1_types()[known]
    assert issubclass(cls, Nnet1Component)
    return cls


def read_network(path: str | os.PathLike[str]) -> Nnet1:
    """The network in a file."""
    return parse_nnet1(open_file(path))


def nnet1_bytes(network: Nnet1, *, binary: bool = True) -> bytes:
    """The content of a network's file, as nnet1 writes it."""
    writer: Writer = BinaryWriter() if binary else TextWriter()
    write_nested(writer, network)
    return bytes(writer)


def write_nested(writer: Writer, network: Nnet1) -> None:
    """Writes a network from `<Nnet>` to `</Nnet>`."""
    _token_line(writer, "<Nnet>")
    for component in network:
        writer.token(f"<{component.type_name}>")
        writer.integer(component.output_dim)
        writer.integer(component.input_dim)
        writer.text_newline()
        component.write_fields(writer)
        _token_line(writer, END)
    _token_line(writer, "</Nnet>")


def _token_line(writer: Writer, token: str) -> None:
    writer.token(token)
    writer.text_newline()


# Prototypes: one component a line, `<Type> <InputDim> 40 <OutputDim> 100 <Token> value ...`.


def build_nnet1(text: str, name: str = "<string>", rng: np.random.Generator | None = None) -> Nnet1:
    """The network that a prototype describes, with random initial parameters.

    Files that it names are relative to the working directory, as in nnet1.

    Raises:
        TextError: a mistake in the text, with its place.
    """
    rng = np.random.default_rng(0) if rng is None else rng
    init = Initializer(rng, read_matrix, read_vector)
    source = Source(name, text)
    network: Nnet1 = []
    for match in re.finditer(r"[^\n]+", text):
        words = [Span(source, *w.span()) for w in re.finditer(r"\S+", match[0])]
        words = [Span(source, w.start + match.start(), w.end + match.start()) for w in words]
        if not words or words[0].text in ("<NnetProto>", "</NnetProto>"):
            continue
        component = _initial_component(words, init)
        if network and network[-1].output_dim != component.input_dim:
            raise TextError(
                words[0],
                f"{component.type_name} reads {component.input_dim} columns, the component before "
                f"it makes {network[-1].output_dim}",
            )
        network.append(component)
    if not network:
        raise NnetError(f"{name}: there are no components")
    return network


def build_file(path: str, rng: np.random.Generator | None) -> Nnet1:
    """The network of a prototype file."""
    return build_nnet1(read_text(path), path, rng)


def _initial_component(words: list[Span], init: Initializer) -> Nnet1Component:
    name = words[0].text.removeprefix("<").removesuffix(">")
    cls = _type_named(name)
    if cls is None:
        raise TextError(
            words[0],
            f"nnet1 has no component '{words[0].text}'",
            expected=f"one of {', '.join(nnet1_types())}",
            name=name,
            names=nnet1_types(),
        )
    kinds = {setting.key: setting.kind for setting in cls.settings}
    span = Span(words[0].source, words[0].start, words[-1].end)
    settings = tuple(_settings(words[1:], kinds))
    line = Line(words[0].text, settings, word_span=words[0], span=span)
    component = create_component(cls, line, init)
    assert isinstance(component, Nnet1Component)
    return component


def _settings(words: list[Span], kinds: dict[str, Kind]) -> list[Setting]:
    """`<Token> value`, `<Token> [ 1 2 3 ]` and `<Token> value value </Token>` as settings."""
    settings = []
    place = 0
    while place < len(words):
        token = words[place]
        if not re.fullmatch(r"<\w+>", token.text):
            raise TextError(token, f"'{token.text}' is no token", expected="a token such as <Dim>")
        values, place = _values(words, place)
        if not values:
            raise TextError(token, f"{token.text} has no value")
        if kinds.get(token.text) is Kind.INTEGERS:
            parts = [str(n) for value in values for n in _range(value)]
        else:
            parts = [value.text for value in values]
        span = Span(token.source, values[0].start, values[-1].end)
        settings.append(
            Setting(token.text, ",".join(parts), key_span=token, value_span=span, span=token)
        )
    return settings


def _values(words: list[Span], place: int) -> tuple[list[Span], int]:
    """The values of the token at `place`, and where the next token is."""
    token = words[place].text
    first = place + 1
    closing = f"</{token[1:]}"
    if first < len(words) and words[first].text == "[":
        closing, first = "]", first + 1
    ends = [n for n in range(first, len(words)) if words[n].text == closing]
    if closing == "]" or ends:
        if not ends:
            raise TextError(words[place], f"{token} has a '[' without a ']'")
        return words[first : ends[0]], ends[0] + 1
    return words[first : first + 1], first + 1


def _range(value: Span) -> range:
    """The integers of `first`, `first:last` or `first:step:last`."""
    try:
        numbers = integers(value.text)
    except BadValue:
        numbers = ()
    first, last = (numbers[0], numbers[-1]) if numbers else (0, -1)
    step = numbers[1] if len(numbers) == 3 else 1
    if not 1 <= len(numbers) <= 3 or last < first or step <= 0:
        raise TextError(value, f"wrong integers '{value.text}'", expected="such as 3, 1:5 or 1:2:9")
    if (last - first) // step > LARGEST_VECTOR:
        raise TextError(value, f"more than {LARGEST_VECTOR} integers")
    return range(first, last + 1, step)
