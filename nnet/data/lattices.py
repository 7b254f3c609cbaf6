"""Tables of compact lattices."""

from __future__ import annotations

from typing import BinaryIO

from nnet.data.streams import ByteReader
from nnet.data.writers import TableWriter
from nnet.modelfile.lattices import (
    CompactLattice,
    binary_compact,
    read_binary_compact,
    read_text_compact,
    text_compact,
)


def read_lattice(reader: ByteReader) -> CompactLattice:
    """A compact lattice in binary or text form.

    Raises:
        TableError: it is none, or it is damaged.
    """
    if reader.peek() in b" \t\r\n":
        reader.line()
        return read_text_compact(reader)
    return read_binary_compact(reader)


def _write_lattice(stream: BinaryIO, lattice: CompactLattice, binary: bool) -> None:
    stream.write(binary_compact(lattice) if binary else b"\n" + text_compact(lattice))


class LatticeWriter(TableWriter[CompactLattice]):
    """A table of compact lattices; those that were read get the same bytes."""

    def __init__(self, wspecifier: str) -> None:
        super().__init__(wspecifier, _write_lattice)
