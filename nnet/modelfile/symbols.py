"""Symbol tables: names of the labels of an FST, such as `words.txt` and `phones.txt`."""

from __future__ import annotations

import os
import struct
from collections.abc import Iterable, Iterator, Mapping
from functools import cached_property
from pathlib import Path

import numpy as np

from nnet.errors import NnetError, nearest
from nnet.modelfile.tokens import END, BinaryReader

MAGIC = 2125658996
EPSILON = "<eps>"
_LENGTH = struct.Struct("<i")
_KEY = struct.Struct("<q")
_LEAST = _LENGTH.size + _KEY.size  # bytes of a symbol beside its letters


class SymbolTable(Mapping[int, str]):
    """Symbols by label.

    Args:
        symbols: the symbol of each label.
        name: of the file, for errors.
    """

    def __init__(self, symbols: Mapping[int, str], name: str) -> None:
        self._symbols = symbols
        self.name = name

    def __getitem__(self, label: int) -> str:
        """The symbol of a label.

        Raises:
            NnetError: the table has none.
        """
        try:
            return self._symbols[label]
        except KeyError:
            raise NnetError(
                f"{self.name}: has no symbol for label {label}; expected: a symbol table of the "
                "same system as the graph, without gaps"
            ) from None

    def __contains__(self, label: object) -> bool:
        return label in self._symbols

    def __iter__(self) -> Iterator[int]:
        return iter(self._symbols)

    def __len__(self) -> int:
        return len(self._symbols)

    @cached_property
    def labels(self) -> dict[str, int]:
        """The label of each symbol."""
        return {symbol: label for label, symbol in self._symbols.items()}

    def label(self, symbol: str) -> int:
        """The label of a symbol.

        Raises:
            NnetError: the table has no such symbol.
        """
        found = self.labels.get(symbol)
        if found is None:
            meant = nearest(symbol, self.labels) if len(self) < 10_000 else None
            hint = f"; did you mean '{meant}'?" if meant else ""
            raise NnetError(f"{self.name}: has no symbol '{symbol}'{hint}")
        return found

    def text(self, labels: Iterable[int]) -> str:
        """The symbols of labels, with spaces between them."""
        return " ".join(self[label] for label in labels)


def read_symbols(path: str | os.PathLike[str]) -> SymbolTable:
    """The symbol table in a text file: lines of a symbol and its label.

    Raises:
        NnetError: the file cannot be read, a line is no such pair, or a label or symbol comes
            twice.
    """
    name = os.fspath(path)
    symbols: dict[int, str] = {}
    for number, line in enumerate(read_lines(path), 1):
        words = line.split()
        if not words:
            continue
        if len(words) != 2 or not words[1].isascii() or not words[1].isdigit():
            raise NnetError(f"{name}:{number}: expected a symbol and its label, found '{line}'")
        label = int(words[1])
        if label in symbols:
            raise NnetError(
                f"{name}:{number}: label {label} of '{words[0]}' is the label of "
                f"'{symbols[label]}' too"
            )
        symbols[label] = words[0]
    if not symbols:
        raise NnetError(f"{name}: expected symbols and their labels, found none")
    table = SymbolTable(symbols, name)
    if len(table.labels) != len(symbols):
        twice = next(s for label, s in symbols.items() if table.labels[s] != label)
        raise NnetError(f"{name}: the symbol '{twice}' has two labels")
    return table


def read_lines(path: str | os.PathLike[str]) -> list[str]:
    """The lines of a text file in UTF-8, without their ends.

    Raises:
        NnetError: it cannot be read, or is not in UTF-8.
    """
    name = os.fspath(path)
    try:
        return Path(path).read_text(encoding="utf-8").split("\n")
    except OSError as error:
        raise NnetError(f"{name}: cannot read: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise NnetError(f"{name}: byte {error.start}: expected text in UTF-8") from None


def read_label_list(path: str | os.PathLike[str]) -> list[int]:
    """The labels in a text file, one a line or with spaces or colons between them.

    So are Kaldi's `disambig_tid.int` and `silence.csl`.

    Raises:
        NnetError: the file cannot be read, or something in it is no label.
    """
    labels = []
    for number, line in enumerate(read_lines(path), 1):
        for word in line.replace(":", " ").split():
            if not word.isascii() or not word.isdigit() or int(word) >= 2**31:
                raise NnetError(
                    f"{os.fspath(path)}:{number}: expected a label (an integer from 0), "
                    f"found '{word}'"
                )
            labels.append(int(word))
    return labels


class _StoredSymbols(Mapping[int, str]):
    """Symbols in the bytes of an FST file, decoded when they are asked for."""

    def __init__(self, content: bytes, places: list[int]) -> None:
        self._content = content
        self._places = places

    @cached_property
    def _place_of(self) -> dict[int, int]:
        ends = [*self._places[1:], len(self._content)]
        keys = b"".join(self._content[end - 8 : end] for end in ends)
        return dict(zip(np.frombuffer(keys, "<i8").tolist(), self._places, strict=True))

    def __getitem__(self, label: int) -> str:
        place = self._place_of[label]
        (size,) = _LENGTH.unpack_from(self._content, place)
        return self._content[place + 4 : place + 4 + size].decode("utf-8", "replace")

    def __iter__(self) -> Iterator[int]:
        return iter(self._place_of)

    def __len__(self) -> int:
        return len(self._places)


def read_openfst_symbols(reader: BinaryReader) -> SymbolTable:
    """The symbol table in OpenFst's binary form that begins here.

    Raises:
        NnetError: it is none, or it was cut short.
    """
    start = reader.position
    if _LENGTH.unpack(reader.take(4, "the mark of a symbol table"))[0] != MAGIC:
        reader.fail("a symbol table in OpenFst's binary form", at=start)
    (size,) = _LENGTH.unpack(reader.take(4, "the length of a name"))
    if size < 0:
        reader.fail("the length of a name", str(size), at=reader.position - 4)
    reader.take(size + _KEY.size, "the name of a symbol table")
    (count,) = _KEY.unpack(reader.take(8, "the number of symbols"))
    if not 0 <= count <= reader.remaining // _LEAST:
        reader.fail("the number of symbols", str(count), at=reader.position - 8)
    first = reader.position
    places = _places(reader, count)
    return SymbolTable(_StoredSymbols(reader.data[first : reader.position], places), reader.name)


def _places(reader: BinaryReader, count: int) -> list[int]:
    """Where each symbol begins, counted from here; passes over them."""
    data, first, place = reader.data, reader.position, reader.position
    unpack = _LENGTH.unpack_from
    places = []
    try:
        for _ in range(count):
            (size,) = unpack(data, place)
            if size < 0:
                reader.fail("the length of a symbol", str(size), at=place)
            places.append(place - first)
            place += _LEAST + size
    except struct.error:
        reader.fail("the length of a symbol", END, at=place)
    reader.position = first
    reader.take(place - first, "symbols")
    return places


def read_both_symbols(reader: BinaryReader) -> SymbolTable:
    """The first of two symbol tables one after the other, and passes over both.

    FSTs whose labels are the same on both sides hold the same table twice.
    """
    start = reader.position
    table = read_openfst_symbols(reader)
    size = reader.position - start
    if reader.ahead(size) == reader.data[start : reader.position]:
        reader.position += size
    else:
        read_openfst_symbols(reader)
    return table
