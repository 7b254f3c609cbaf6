"""Components in model files, read and written by the declarations of their fields."""

from __future__ import annotations

from typing import Any

from nnet.components.base import Component, Entry
from nnet.components.field import FieldError, Kind, Old, Presence, Repeated, Spec
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
    Kind.VECTOR: "vector",
    Kind.MATRIX: "matrix",
}


def _read(reader: Reader, kind: Kind) -> Any:
    return True if kind is Kind.FLAG else getattr(reader, _METHODS[kind])()


def _write(writer: Writer, kind: Kind, value: Any) -> None:
    if kind is not Kind.FLAG:
        getattr(writer, _METHODS[kind])(value)


def read_component(reader: Reader) -> Component:
    """The component that begins here, from `<SomeComponent>` to `</SomeComponent>`."""
    start = reader.position
    cls = _component_class(reader)
    values = _Fields(reader, cls).read()
    reader.expect(f"</{cls.type_name}>", f"<{cls.type_name}>")
    component = cls(**values)
    try:
        component.check()
    except FieldError as error:
        raise NnetError(f"{reader.name}: byte {start}: {cls.type_name}: {error.message}") from None
    return component


def _component_class(reader: Reader) -> type[Component]:
    start = reader.position
    token = reader.token("a component type")
    types = component_types()
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
            if present:
                self._take(name, entry)
        return self.values

    def _at_token(self, name: str, entry: Entry, token: str) -> bool:
        """Reads the entry's token if it is there; fails if it is not and has to be."""
        if self.reader.peek_token() == token:
            self.reader.expect(token)
            self.passed_over.clear()
            return True
        self.passed_over.append(token)
        required = isinstance(entry, Spec) and entry.presence is Presence.ALWAYS
        if required and name not in self.values:
            self.reader.expect(*self.passed_over)
        return False

    def _take(self, name: str, entry: Entry) -> None:
        value = _read(self.reader, entry.kind)
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
        if isinstance(entry, Repeated):
            name = entry.name
        elif entry.presence is Presence.NONDEFAULT and component.is_default(name):
            continue
        if entry.token is not None:
            writer.token(entry.token)
        _write(writer, entry.kind, getattr(component, name))
    writer.token(f"</{component.type_name}>")
