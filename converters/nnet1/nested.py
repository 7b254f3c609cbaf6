"""Components of nnet1 that hold networks."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from nnet.components.field import FieldError, Kind, Setting
from nnet.converters.legacy import Rows
from nnet.converters.nnet1.affine import AffineTransform
from nnet.converters.nnet1.base import DIMS, TYPES, Nnet1Component, constant, option
from nnet.converters.nnet1.model import (
    Nnet1,
    build_file,
    forward,
    read_nested,
    read_network,
    write_nested,
)
from nnet.limits import check_array
from nnet.modelfile.tokens import Reader
from nnet.modelfile.writing import Writer

if TYPE_CHECKING:
    from nnet.components.initial import Given, Initializer

SMALLEST_OCCUPANCY = 0.1
"""A basis whose posteriors add up to less over a sentence is left out (as in nnet1)."""


def _read_numbered(reader: Reader, token: str, count: int, depth: int) -> list[Nnet1]:
    """`count` networks, each after a token and its number."""
    networks = []
    for _ in range(count):
        reader.expect(token)
        reader.integer()
        networks.append(read_nested(reader, depth + 1))
    return networks


def _write_numbered(writer: Writer, token: str, networks: list[Nnet1]) -> None:
    for number, network in enumerate(networks, 1):
        writer.token(token)
        writer.integer(number)
        writer.text_newline()
        write_nested(writer, network)


def _count(reader: Reader, what: str) -> int:
    start = reader.position
    count = reader.integer()
    if not 0 < count <= reader.remaining:
        reader.fail(what, str(count), at=start)
    return count


def _named_files(given: Given, *tokens: str) -> list[str]:
    return [name for token in tokens if given[token] for name in given[token].split(",")]


@TYPES.register("ParallelComponent")
@dataclass(kw_only=True, eq=False)
class Parallel(Nnet1Component):
    """Networks side by side, each with its own columns of input and output."""

    settings: ClassVar[tuple[Setting, ...]] = (
        *DIMS,
        Setting("<NestedNnet>", Kind.TEXT, "files of networks"),
        Setting("<NestedNnetFilename>", Kind.TEXT, "files of networks"),
        Setting("<NestedNnetProto>", Kind.TEXT, "prototypes of networks"),
    )

    networks: list[Nnet1]

    @classmethod
    def initial(cls, input_dim: int, output_dim: int, given: Given, init: Initializer) -> Parallel:
        files = _named_files(given, "<NestedNnet>", "<NestedNnetFilename>")
        networks = [read_network(name) for name in files]
        prototypes = _named_files(given, "<NestedNnetProto>")
        networks += [build_file(name, init.rng) for name in prototypes]
        return cls(input_dim=input_dim, output_dim=output_dim, networks=networks)

    @classmethod
    def read_fields(cls, reader: Reader, depth: int) -> dict[str, Any]:
        reader.expect("<NestedNnetCount>")
        count = _count(reader, "the number of nested networks")
        networks = _read_numbered(reader, "<NestedNnet>", count, depth)
        reader.expect("</ParallelComponent>")
        return {"networks": networks}

    def write_fields(self, writer: Writer) -> None:
        writer.token("<NestedNnetCount>")
        writer.integer(len(self.networks))
        writer.text_newline()
        _write_numbered(writer, "<NestedNnet>", self.networks)
        writer.token("</ParallelComponent>")

    def nested(self) -> Iterator[tuple[str, Nnet1]]:
        """The networks with names."""
        return ((f"net{number}", network) for number, network in enumerate(self.networks, 1))

    def check(self) -> None:
        super().check()
        ends: tuple[tuple[str, int, Callable[[Nnet1], int]], ...] = (
            ("input-dim", self.input_dim, lambda network: network[0].input_dim),
            ("output-dim", self.output_dim, lambda network: network[-1].output_dim),
        )
        for name, dim, of in ends:
            total = sum(map(of, self.networks))
            if total != dim:
                raise FieldError(name, f"the networks' dimensions add up to {total}, not {dim}")

    def forward(self, rows: Rows) -> Rows:
        parts = np.split(rows, np.cumsum([n[0].input_dim for n in self.networks])[:-1], axis=1)
        outputs = [forward(n, x)[-1] for n, x in zip(self.networks, parts, strict=True)]
        return np.concatenate(outputs, axis=1)


@TYPES.register("MultiBasisComponent")
@dataclass(kw_only=True, eq=False)
class MultiBasis(Nnet1Component):
    """Outputs of the basis networks, weighted by the posteriors that the selector makes.

    The first columns of the input go to every basis, the others to the selector.
    """

    settings: ClassVar[tuple[Setting, ...]] = (
        *DIMS,
        Setting("<SelectorProto>", Kind.TEXT, "prototype of the selector"),
        Setting("<SelectorFilename>", Kind.TEXT, "file of the selector"),
        Setting("<BasisProto>", Kind.TEXT, "prototype of every basis"),
        Setting("<BasisFilename>", Kind.TEXT, "file of every basis"),
        Setting("<BasisFilenameVector>", Kind.TEXT, "files of the bases"),
    )

    selector_learn_rate: float = option(
        "<SelectorLearnRateCoef>", Kind.REAL, "factor of the selector's learning rate", 1.0
    )
    selector: Nnet1
    bases: list[Nnet1]

    @classmethod
    def initial(
        cls, input_dim: int, output_dim: int, given: Given, init: Initializer
    ) -> MultiBasis:
        if given["<SelectorProto>"] is not None:
            selector = build_file(given["<SelectorProto>"], init.rng)
        elif given["<SelectorFilename>"] is not None:
            selector = read_network(given["<SelectorFilename>"])
        else:
            raise FieldError("<SelectorProto>", "<SelectorProto> or <SelectorFilename> is missing")
        count = selector[-1].output_dim
        rest = input_dim - selector[0].input_dim
        return cls(
            input_dim=input_dim,
            output_dim=output_dim,
            selector=selector,
            bases=_initial_bases(count, rest, given, init),
            **given.fields,
        )

    @classmethod
    def read_fields(cls, reader: Reader, depth: int) -> dict[str, Any]:
        values: dict[str, Any] = {}
        tokens = ("<SelectorLearnRateCoef>", "<Selector>", "<NumBasis>")
        while (token := reader.peek_token()) in tokens:
            reader.expect(token)
            if token == "<SelectorLearnRateCoef>":
                values["selector_learn_rate"] = reader.real()
            elif token == "<Selector>":
                values["selector"] = read_nested(reader, depth + 1)
            else:
                count = _count(reader, "the number of bases")
                values["bases"] = _read_numbered(reader, "<Basis>", count, depth)
        for name, token in (("selector", "<Selector>"), ("bases", "<NumBasis>")):
            if name not in values:
                reader.expect(token)
        return values

    def write_fields(self, writer: Writer) -> None:
        super().write_fields(writer)
        writer.text_newline()
        writer.text_newline()
        writer.token("<Selector>")
        writer.text_newline()
        write_nested(writer, self.selector)
        writer.text_newline()
        writer.token("<NumBasis>")
        writer.integer(len(self.bases))
        writer.text_newline()
        _write_numbered(writer, "<Basis>", self.bases)

    def nested(self) -> Iterator[tuple[str, Nnet1]]:
        """The networks with names, the selector first."""
        yield "selector", self.selector
        for number, basis in enumerate(self.bases, 1):
            yield f"basis{number}", basis

    @property
    def basis_dim(self) -> int:
        """Columns that each basis reads."""
        return self.bases[0][0].input_dim

    def check(self) -> None:
        super().check()
        if len(self.bases) != self.selector[-1].output_dim:
            raise FieldError(
                "<NumBasis>",
                f"{len(self.bases)} bases, the selector makes {self.selector[-1].output_dim}",
            )
        for basis in self.bases:
            read = basis[0].input_dim, self.selector[0].input_dim
            if sum(read) != self.input_dim or basis[-1].output_dim != self.output_dim:
                raise FieldError(
                    "<NumBasis>",
                    f"basis and selector read {read[0]} + {read[1]} columns and make "
                    f"{basis[-1].output_dim}, expected {self.input_dim} and {self.output_dim}",
                )

    def forward(self, rows: Rows) -> Rows:
        posteriors = forward(self.selector, rows[:, self.basis_dim :])[-1]
        result = np.zeros((len(rows), self.output_dim))
        for basis, weights in zip(self.bases, posteriors.T, strict=True):
            if weights.sum() > SMALLEST_OCCUPANCY:
                result += weights[:, None] * forward(basis, rows[:, : self.basis_dim])[-1]
        return result


def _initial_bases(count: int, dim: int, given: Given, init: Initializer) -> list[Nnet1]:
    """Bases from what the prototype names; without a name, identities."""
    if given["<BasisProto>"] is not None:
        return [build_file(given["<BasisProto>"], init.rng) for _ in range(count)]
    if given["<BasisFilename>"] is not None:
        return [read_network(given["<BasisFilename>"]) for _ in range(count)]
    if given["<BasisFilenameVector>"] is not None:
        return [read_network(name) for name in _named_files(given, "<BasisFilenameVector>")]
    check_array(count, dim, dim)
    identity = np.eye(dim, dtype=np.float32)
    return [
        [
            AffineTransform(
                input_dim=dim, output_dim=dim, linear=identity.copy(), bias=constant(dim, 0.0)
            )
        ]
        for _ in range(count)
    ]


@TYPES.register("SentenceAveragingComponent")
@dataclass(kw_only=True, eq=False)
class SentenceAveraging(Nnet1Component):
    """The mean over the sentence of a network's output, and after it the input itself."""

    settings: ClassVar[tuple[Setting, ...]] = (
        *DIMS,
        Setting("<NestedNnetFilename>", Kind.TEXT, "file of the network"),
        Setting("<NestedNnetProto>", Kind.TEXT, "prototype of the network"),
        Setting("<LearnRateFactor>", Kind.REAL, "not stored by nnet1", 100.0),
    )

    network: Nnet1

    @classmethod
    def initial(
        cls, input_dim: int, output_dim: int, given: Given, init: Initializer
    ) -> SentenceAveraging:
        file, prototype = given["<NestedNnetFilename>"], given["<NestedNnetProto>"]
        if (file is None) == (prototype is None):
            raise FieldError(
                "<NestedNnetProto>", "give either <NestedNnetFilename> or <NestedNnetProto>"
            )
        network = read_network(file) if file is not None else build_file(prototype, init.rng)
        return cls(input_dim=input_dim, output_dim=output_dim, network=network)

    @classmethod
    def read_fields(cls, reader: Reader, depth: int) -> dict[str, Any]:
        return {"network": read_nested(reader, depth + 1)}

    def write_fields(self, writer: Writer) -> None:
        write_nested(writer, self.network)

    def check(self) -> None:
        super().check()
        made = self.network[-1].output_dim + self.input_dim
        if self.network[0].input_dim != self.input_dim or made != self.output_dim:
            raise FieldError(
                "output-dim",
                f"the nested network reads {self.network[0].input_dim} of {self.input_dim} "
                f"columns; with the input {made} are made, not {self.output_dim}",
            )

    def forward(self, rows: Rows) -> Rows:
        mean = forward(self.network, rows)[-1].mean(axis=0, keepdims=True)
        return np.concatenate((np.repeat(mean, len(rows), axis=0), rows), axis=1)
