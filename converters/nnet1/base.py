"""What every nnet1 component has, and how its fields stand in a file.

In a file come the type, the number of columns made and read, options `<Token> value` in any
order, then arrays without tokens.
"""

from __future__ import annotations

import functools
import importlib
import pkgutil
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np

import nnet.converters.nnet1
from nnet.components.field import (
    LARGEST,
    NOT_NEGATIVE,
    POSITIVE,
    REQUIRED,
    FieldError,
    Kind,
    Old,
    Presence,
    Role,
    Setting,
    Spec,
    stored,
)
from nnet.converters.legacy import LARGEST_DIM, ComponentTypes, LegacyComponent
from nnet.limits import check_array
from nnet.modelfile.component import read_value, write_value
from nnet.modelfile.tokens import Reader
from nnet.modelfile.writing import Writer

if TYPE_CHECKING:
    from nnet.components.initial import Given, Initializer

TYPES = ComponentTypes()
DIMS = (
    Setting("<InputDim>", Kind.INTEGER, "number of columns read", REQUIRED, POSITIVE),
    Setting("<OutputDim>", Kind.INTEGER, "number of columns made", REQUIRED, POSITIVE),
)
END = "<!EndOfComponent>"
PIECE = 1 << 16  # numbers drawn at a time


@functools.cache
def nnet1_types() -> ComponentTypes:
    """All component types of nnet1, from every file of this folder."""
    for module in pkgutil.iter_modules(nnet.converters.nnet1.__path__):
        importlib.import_module(f"nnet.converters.nnet1.{module.name}")
    return TYPES


@dataclass(kw_only=True, eq=False)
class Nnet1Component(LegacyComponent):
    """A component of nnet1.

    `line_ends` names the fields after which text files have a line end, `line_ends_within` those
    that have one between token and value. Keys of fields are tokens of prototypes.
    """

    line_ends: ClassVar[tuple[str, ...]] = ()
    line_ends_within: ClassVar[tuple[str, ...]] = ()

    settings: ClassVar[tuple[Setting, ...]] = DIMS

    input_dim: int
    output_dim: int

    @classmethod
    def create(cls, given: Given, init: Initializer) -> Self:
        return cls.initial(given["<InputDim>"], given["<OutputDim>"], given, init)

    @classmethod
    def initial(cls, input_dim: int, output_dim: int, given: Given, init: Initializer) -> Self:
        """A new component from the tokens of a prototype's line."""
        return cls(input_dim=input_dim, output_dim=output_dim, **given.fields)

    @classmethod
    def read_fields(cls, reader: Reader, depth: int) -> dict[str, Any]:
        """The values of the fields, by name.

        Args:
            depth: how many networks this component is nested in.
        """
        entries = ((n, e) for n, e in cls.layout if isinstance(e, Spec | Old))
        tokens = {entry.token: (name, entry) for name, entry in entries if entry.token}
        values: dict[str, Any] = {}
        while (token := reader.peek_token()) in tokens:
            reader.expect(token)
            name, entry = tokens[token]
            value = read_value(reader, entry.kind)
            names = entry.sets if isinstance(entry, Old) else (name,)
            values.update(dict.fromkeys(names, value))
        for name, spec in cls.specs().items():
            if spec.token is None:
                values[name] = read_value(reader, spec.kind)
            elif name not in values and spec.presence is Presence.ALWAYS:
                reader.expect(spec.token)
        return values

    def write_fields(self, writer: Writer) -> None:
        """Writes what `read_fields` reads."""
        for name, spec in self.specs().items():
            if spec.token is not None:
                writer.token(spec.token)
            if name in self.line_ends_within:
                writer.text_newline()
            write_value(writer, spec.kind, getattr(self, name))
            if name in self.line_ends:
                writer.text_newline()


@dataclass(kw_only=True, eq=False)
class SameDim(Nnet1Component):
    """A component whose output has as many columns as its input."""

    def check(self) -> None:
        super().check()
        check_same(self)


def check_same(component: Nnet1Component) -> None:
    """Raises FieldError unless the component makes as many columns as it reads."""
    if component.input_dim != component.output_dim:
        raise FieldError(
            "output-dim",
            f"output-dim (={component.output_dim}) must be input-dim (={component.input_dim})",
        )


def coefficient(token: str, doc: str, default: float = 1.0) -> Any:
    """A factor of the learning rate."""
    return stored(
        Kind.REAL,
        token,
        doc,
        key=token,
        default=default,
        check=NOT_NEGATIVE,
        presence=Presence.SINCE,
    )


def learn_rate_field() -> Any:
    return coefficient("<LearnRateCoef>", "factor of the learning rate")


def bias_learn_rate_field() -> Any:
    return coefficient("<BiasLearnRateCoef>", "factor of the learning rate of the bias")


def max_norm_field() -> Any:
    return stored(
        Kind.REAL,
        "<MaxNorm>",
        "largest 2-norm of a row of the matrix; 0 for no limit",
        key="<MaxNorm>",
        default=0.0,
        presence=Presence.SINCE,
    )


def option(token: str, kind: Kind, doc: str, default: Any) -> Any:
    """A field with a token that old files may lack."""
    return stored(kind, token, doc, key=token, default=default, presence=Presence.SINCE)


def array(kind: Kind, doc: str, token: str | None = None) -> Any:
    """A trained array, in most types without a token."""
    return stored(kind, token, doc, role=Role.PARAMETER)


def uniform(init: Initializer, *shape: int, mean: float, width: float) -> np.ndarray:
    """float32 samples of the uniform distribution from mean - width / 2 to mean + width / 2."""
    check_array(*shape)
    if abs(mean) + abs(width) > LARGEST:
        raise FieldError("<BiasRange>", f"mean {mean:g} and range {width:g} do not fit in 32 bits")
    if init.rng is None:
        return np.full(shape, mean, np.float32)
    samples = np.empty(shape, np.float32)
    flat = samples.reshape(-1)
    for start in range(0, flat.size, PIECE):  # pieces that stay in the cache
        part = flat[start : start + PIECE]
        init.rng.random(out=part, dtype=np.float32)
        part *= np.float32(width)
        part += np.float32(mean - width / 2)
    return samples


def constant(dim: int, value: float) -> np.ndarray:
    """A float32 vector of equal numbers."""
    return np.full(dim, value, np.float32)


def read_dims(reader: Reader) -> tuple[int, int]:
    """The numbers of columns that a component makes and reads."""
    dims = []
    for what in ("made", "read"):
        start = reader.position
        dim = reader.integer()
        if not 0 < dim <= LARGEST_DIM:
            reader.fail(f"the number of columns {what}", str(dim), at=start)
        dims.append(dim)
    return dims[0], dims[1]
