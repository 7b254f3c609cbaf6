"""Components in model files, read and written by the declarations of their fields."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from nnet.components.base import Component, Entry
from nnet.components.field import FieldError, Kind, Mark, Old, Presence, Repeated, Spec
from nnet.components.registry import component_types
from nnet.errors import NnetError, nearest
from nnet.modelfile.tokens import Reader
from nnet.modelfile.writing import Writer

_METHODS: dict[Kind, str] = {
    Kind.INTEGER: "integer",
    Kind.REAL: "real",
    Kind.DOUBLE: "double",
    Kind.BOOLEAN: "boolean",
    Kind.INTEGERS: "integers",
    Kind.PAIRS: "pairs",
    Kind.VECTOR: "vector",
    Kind.MATRIX: "matrix",
    Kind.DOUBLE_VECTOR: "double_vector",
    Kind.DOUBLE_MATRIX: "double_matrix",
    Kind.TEXT: "token",
}


def read_value(reader: Reader, kind: Kind) -> Any:
    """A value of the given kind; a flag, which takes no bytes, is true."""
    if kind is Kind.COMPONENTS:
        return _read_components(reader)
    return True if kind is Kind.FLAG else getattr(reader, _METHODS[kind])()


def write_value(writer: Writer, kind: Kind, value: Any) -> None:
    """Writes a value as `read_value` reads it."""
    if kind is Kind.COMPONENTS:
        writer.integer(len(value))
        for component in value:
            write_component(writer, component)
    elif kind is not Kind.FLAG:
        getattr(writer, _METHODS[kind])(value)


def _read_components(reader: Reader) -> tuple[Component, ...]:
    start = reader.position
    count = reader.integer()
    if not 0 <= count <= reader.remaining:
        reader.fail("the number of components", str(count), at=start)
    return tuple(read_component(reader) for _ in range(count))


def read_component(reader: Reader, types: Mapping[str, type[Component]] | None = None) -> Component:
    """The component that begins here, from `<SomeComponent>` to `</SomeComponent>`.

    Args:
        types: the component types that may stand here; nnet3's by default.
    """
    start = reader.position
    cls = _component_class(reader, component_types() if types is None else types)
    values = _Fields(reader, cls).read()
    reader.expect(f"</{cls.type_name}>", f"<{cls.type_name}>")
    component = cls(**values)
    try:
        component.check()
    except FieldError as error:
        raise NnetError(f"{reader.name}: byte {start}: {cls.type_name}: {error.message}") from None
    return component


def _component_class(reader: Reader, types: Mapping[str, type[Component]]) -> type[Component]:
    start = reader.position
    token = reader.token("a component type")
    name = token.removeprefix("<").removesuffix(">")
    if name not in types:
        meant = nearest(name, types)
        hint = f"; did you mean {meant}?" if meant else ""
        reader.fail("a component type", f"{token[:60]!r}{hint}", at=start)
    return types[name]


class _Fields:
    """Reads the fields of one component in the order of its layout."""

    def __init__(self, reader: Reader, cls: type[Component]) -> None:
        self.reader = reader
        self.cls = cls
        self.values: dict[str, Any] = {}
        self.passed_over: list[str] = []

    def read(self) -> dict[str, Any]:
        present = False
        for name, entry in self.cls.layout:
            if entry.token is not None:
                present = self._at_token(name, entry, entry.token)
            if present and not isinstance(entry, Mark):
                self._take(name, entry)
        old = {n: s.missing for n, s in self.cls.specs().items() if s.missing is not None}
        return {**old, **self.values}

    def _at_token(self, name: str, entry: Entry, token: str) -> bool:
        """Reads the entry's token if it is there; fails if it is not and has to be."""
        if self.reader.peek_token() == token:
            self.reader.expect(token)
            self.passed_over.clear()
            return True
        self.passed_over.append(token)
        required = isinstance(entry, Mark) or (
            isinstance(entry, Spec) and entry.presence is Presence.ALWAYS
        )
        if required and name not in self.values:
            self.reader.expect(*self.passed_over)
        return False

    def _take(self, name: str, entry: Spec | Old | Repeated) -> None:
        value = read_value(self.reader, entry.kind)
        if isinstance(entry, Old):
            self.values.update(dict.fromkeys(entry.sets, value))
        elif isinstance(entry, Repeated):
            self.values[entry.name] = value
        else:
            self.values[name] = value


def write_component(writer: Writer, component: Component) -> None:
    """Writes a component with its opening and closing token."""
    writer.token(f"<{component.type_name}>")
    for name, entry in component.layout:
        if isinstance(entry, Old):
            continue
        if isinstance(entry, Mark):
            writer.token(entry.token)
            continue
        if isinstance(entry, Repeated):
            name = entry.name
        elif entry.presence is Presence.NONDEFAULT and component.is_default(name):
            continue
        if entry.token is not None:
            writer.token(entry.token)
        write_value(writer, entry.kind, getattr(component, name))
    writer.token(f"</{component.type_name}>")
