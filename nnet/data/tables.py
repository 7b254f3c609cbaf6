"""Kaldi's tables, read: objects by utterance name, in order or at random."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from typing import TypeVar

import numpy as np

from nnet.data.errors import TableError
from nnet.data.locations import Location, OpenFiles, script_lines
from nnet.data.matrices import Floats, read_matrix, skip_matrix
from nnet.data.specifiers import Rspecifier, parse_rspecifier
from nnet.data.streams import ByteReader, open_input

T = TypeVar("T")


def read_table(rspecifier: str, read: Callable[[ByteReader], T]) -> Iterator[tuple[str, T]]:
    """Utterance names and objects, in the table's order.

    Args:
        rspecifier: such as `scp:feats.scp`, `ark,t:-` or `ark:gunzip -c x.gz |`.
        read: reads one object, such as `read_matrix`.

    Raises:
        TableError: the table is missing or damaged. With option `p`, as in Kaldi, damaged entries
            of a script file are left out and an archive ends before its first damage.
    """
    spec = parse_rspecifier(rspecifier)
    seen: set[str] = set()
    for utterance, value in _script(spec, read) if spec.kind == "scp" else _archive(spec, read):
        if utterance in seen:
            raise TableError(rspecifier, "a second entry of the same name", utterance=utterance)
        seen.add(utterance)
        yield utterance, value


def read_matrices(rspecifier: str) -> Iterator[tuple[str, Floats]]:
    """Utterance names and float32 matrices, shape (frames, dim), in the table's order."""
    return read_table(rspecifier, read_matrix)


class RandomAccess(Mapping[str, T]):
    """A table by utterance name, in the table's order. Safe to use from threads.

    Objects in files are read when they are asked for; what a pipe or standard input gives is held
    in memory.

    Args:
        rspecifier: such as `scp:feats.scp`.
        read: reads one object.
    """

    def __init__(self, rspecifier: str, read: Callable[[ByteReader], T]) -> None:
        spec = parse_rspecifier(rspecifier)
        self._read = read
        self._files = OpenFiles()
        self._held: dict[str, T] = {}
        self._places: dict[str, Location] = {}
        if spec.kind == "scp":
            lines = script_lines(spec.path)
            self._places = {u: p for u, p in lines if not spec.permissive or self._reads(u, p)}
        elif os.path.isfile(spec.path):
            self._places = dict(self._index(spec))
        else:
            self._held = dict(read_table(rspecifier, read))

    def __getitem__(self, utterance: str) -> T:
        if utterance in self._held:
            return self._held[utterance]
        return self._files.load(utterance, self._places[utterance], self._read)

    def __iter__(self) -> Iterator[str]:
        return iter(self._held or self._places)

    def __len__(self) -> int:
        return len(self._held or self._places)

    def __contains__(self, utterance: object) -> bool:
        return utterance in self._held or utterance in self._places

    def shape(self, utterance: str) -> tuple[int, int]:
        """(rows, columns) of a matrix, from its header alone where that is possible."""
        if utterance in self._held:
            rows, columns = np.asarray(self._held[utterance]).shape
            return rows, columns
        return self._files.shape(utterance, self._places[utterance])

    def _reads(self, utterance: str, place: Location) -> bool:
        try:
            self._files.load(utterance, place, self._read)
        except TableError:
            return False
        return True

    def _index(self, spec: Rspecifier) -> Iterator[tuple[str, Location]]:
        skip = skip_matrix if self._read is read_matrix else self._read

        def place(reader: ByteReader) -> Location:
            location = Location(spec.path, reader.offset)
            skip(reader)
            return location

        return read_table(spec.text, place)


def random_access(rspecifier: str) -> RandomAccess[Floats]:
    """Matrices, shape (frames, dim), by utterance name."""
    return RandomAccess(rspecifier, read_matrix)


def _script(spec: Rspecifier, read: Callable[[ByteReader], T]) -> Iterator[tuple[str, T]]:
    files = OpenFiles()
    for utterance, place in script_lines(spec.path):
        try:
            value = files.load(utterance, place, read)
        except TableError:
            if spec.permissive:
                continue
            raise
        yield utterance, value


def _archive(spec: Rspecifier, read: Callable[[ByteReader], T]) -> Iterator[tuple[str, T]]:
    with open_input(spec.path) as reader:
        while reader.skip_whitespace():
            try:
                reader.utterance = None
                utterance = _name(reader)
                reader.utterance = utterance
                value = read(reader)
            except TableError:
                if spec.permissive:
                    return
                raise
            yield utterance, value


def _name(reader: ByteReader) -> str:
    word = reader.word()
    try:
        name = word.decode("utf-8")
    except UnicodeDecodeError:
        name = ""
    if not name or not name.isprintable():
        shown = word[:20].decode("utf-8", "backslashreplace")
        raise reader.error(
            f"found '{shown}' where an utterance name should be",
            expected="a Kaldi archive: NAME, a space, an object",
            hint="a model, an audio file or a script file is no archive; read a .scp with 'scp:'",
        )
    return name
