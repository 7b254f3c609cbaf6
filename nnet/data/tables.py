"""Kaldi's tables, read: objects by utterance name, in order or at random."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import closing
from typing import TypeVar

import numpy as np

from nnet.data.errors import TableError
from nnet.data.locations import Location, OpenFiles, script_lines
from nnet.data.matrices import Floats, read_matrix, skip_matrix
from nnet.data.specifiers import Rspecifier, parse_rspecifier
from nnet.data.streams import ByteReader, open_input
from nnet.errors import quoted
from nnet.modelfile.kinds import kind_of

log = logging.getLogger(__name__)

T = TypeVar("T")
V = TypeVar("V")


def read_table(rspecifier: str, read: Callable[[ByteReader], T]) -> Iterator[tuple[str, T]]:
    """Utterance names and objects, in the table's order.

    Args:
        rspecifier: such as `scp:feats.scp`, `ark,t:-` or `ark:gunzip -c x.gz |`.
        read: reads one object, such as `read_matrix`.

    A name that comes twice is given twice, with a warning, as in Kaldi.

    Raises:
        TableError: the table is missing or damaged. With option `p`, as in Kaldi, damaged entries
            of a script file are left out and an archive ends before its first damage, with a
            warning.
    """
    seen: set[str] = set()
    again: list[str] = []
    for utterance, value in _entries(parse_rspecifier(rspecifier), read):
        if utterance in seen:
            again.append(utterance)
        seen.add(utterance)
        yield utterance, value
    if again:
        log.warning(
            "%s: %d entries have names that came before (first: '%s'); each was used",
            quoted(rspecifier), len(again), quoted(again[0]),
        )  # fmt: skip


def _entries(spec: Rspecifier, read: Callable[[ByteReader], T]) -> Iterator[tuple[str, T]]:
    return _script(spec, read) if spec.kind == "scp" else _archive(spec, read)


def _each_once(spec: Rspecifier, entries: Iterable[tuple[str, V]]) -> dict[str, V]:
    """Entries by name.

    Raises:
        TableError: a name comes twice, so that it does not say which entry is meant.
    """
    found: dict[str, V] = {}
    for utterance, value in entries:
        if utterance in found:
            raise TableError(spec.text, "a second entry of the same name", utterance=utterance)
        found[utterance] = value
    return found


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
            self._places = _each_once(spec, script_lines(spec.path))
            if spec.permissive:
                self._places = self._readable(spec)
        elif os.path.isfile(spec.path):
            self._places = _each_once(spec, self._index(spec))
        else:
            self._held = _each_once(spec, _entries(spec, read))

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

    def _readable(self, spec: Rspecifier) -> dict[str, Location]:
        left_out = _LeftOut(spec)
        places = {}
        for utterance, place in self._places.items():
            try:
                self._files.load(utterance, place, self._read)
            except TableError as error:
                left_out.add(error)
            else:
                places[utterance] = place
        left_out.warn(len(self._places))
        return places

    def _index(self, spec: Rspecifier) -> Iterator[tuple[str, Location]]:
        skip = skip_matrix if self._read is read_matrix else self._read

        def place(reader: ByteReader) -> Location:
            location = Location(spec.path, reader.offset)
            skip(reader)
            return location

        return _entries(spec, place)


def random_access(rspecifier: str) -> RandomAccess[Floats]:
    """Matrices, shape (frames, dim), by utterance name."""
    return RandomAccess(rspecifier, read_matrix)


def _script(spec: Rspecifier, read: Callable[[ByteReader], T]) -> Iterator[tuple[str, T]]:
    left_out = _LeftOut(spec)
    count = 0
    with closing(OpenFiles()) as files:
        for utterance, place in script_lines(spec.path):
            count += 1
            try:
                value = files.load(utterance, place, read)
            except TableError as error:
                if not spec.permissive:
                    raise
                left_out.add(error)
            else:
                yield utterance, value
    left_out.warn(count)


class _LeftOut:
    """What option `p` leaves out of a script file."""

    def __init__(self, spec: Rspecifier) -> None:
        self._spec = spec
        self._errors: list[TableError] = []

    def add(self, error: TableError) -> None:
        self._errors.append(error)

    def warn(self, count: int) -> None:
        """Says so, if there is anything."""
        if self._errors:
            log.warning(
                "%s: %d of %d entries cannot be read and are left out, because of option p; "
                "first: %s",
                quoted(self._spec.text), len(self._errors), count, self._errors[0],
            )  # fmt: skip


def _archive(spec: Rspecifier, read: Callable[[ByteReader], T]) -> Iterator[tuple[str, T]]:
    with open_input(spec.path) as reader:
        beginning = reader.beginning()
        first = True
        while reader.skip_whitespace():
            try:
                reader.utterance = None
                utterance = _name(reader)
                reader.utterance = utterance
                value = read(reader)
            except TableError as error:
                if first:
                    _refuse_other_kinds(spec, beginning)
                if not spec.permissive:
                    raise
                log.warning(
                    "%s: the archive is used up to its first damage only, because of option p: %s",
                    quoted(spec.text), error,
                )  # fmt: skip
                return
            first = False
            yield utterance, value


def _refuse_other_kinds(spec: Rspecifier, beginning: bytes) -> None:
    """Raises TableError if a file whose first entry cannot be read is something else."""
    kind = kind_of(beginning)
    if kind is not None and "(an archive)" not in kind.name:
        raise TableError(
            spec.path,
            f"this is {kind.name}",
            expected="a Kaldi archive: NAME, a space, an object",
            hint=kind.use,
        )


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
