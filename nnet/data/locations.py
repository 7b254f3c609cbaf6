"""Places of single objects: Kaldi's extended file names, and the files that they are in."""

from __future__ import annotations

import os
import re
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TypeVar, cast

import numpy as np

from nnet.data.errors import TableError
from nnet.data.matrices import skip_matrix
from nnet.data.streams import ByteReader, open_file, open_input

T = TypeVar("T")
OPEN_FILES = 16
BEYOND_THE_END = 2  # rows that a range may miss, as in Kaldi: frames lost at the edges
OFFSET = re.compile(r"(.+):([0-9]+)", re.DOTALL)
NUMBER = "([0-9]{1,9})"
RANGE = re.compile(rf"(?::|{NUMBER}:{NUMBER})(?:,(?::|{NUMBER}:{NUMBER}))?")
LONGEST_OFFSET = 18  # digits; there are no larger files


@dataclass(frozen=True)
class Location:
    """Where one object lies. `rows` and `columns` are inclusive, from `FILE:OFFSET[0:9,3:5]`."""

    path: str
    offset: int = 0
    rows: tuple[int, int] | None = None
    columns: tuple[int, int] | None = None


def parse_location(text: str, place: str) -> Location:
    """Reads an extended file name: FILE, FILE:OFFSET or COMMAND |, then perhaps a range.

    Args:
        text: the name.
        place: where it stands, for the message.
    """
    rows = columns = None
    if text.endswith("]"):
        text, _, inside = text[:-1].rpartition("[")
        text = text.rstrip()
        found = RANGE.fullmatch(inside)
        if not found:
            raise TableError(
                place, f"found the range '[{inside}]'", expected="[FIRST:LAST,FIRST:LAST]"
            )
        first, last, left, right = (None if n is None else int(n) for n in found.groups())
        rows = None if first is None or last is None else (first, last)
        columns = None if left is None or right is None else (left, right)
    offset = OFFSET.fullmatch(text)
    if offset and not text.endswith("|"):
        if len(offset[2]) > LONGEST_OFFSET:
            raise TableError(
                place, f"found the offset '{offset[2]}'", expected="a byte of the file, FILE:OFFSET"
            )
        return Location(offset[1], int(offset[2]), rows, columns)
    return Location(text, 0, rows, columns)


def script_lines(path: str) -> Iterator[tuple[str, Location]]:
    """Utterance names and places, from the lines of a script file."""
    with open_input(path) as reader:
        number = 0
        while line := reader.line():
            number += 1
            place = f"{reader.place}:{number}"
            fields = line.decode("utf-8", "replace").strip().split(maxsplit=1)
            if len(fields) != 2:
                raise TableError(
                    place, f"found {len(fields)} fields", expected="UTTERANCE FILE[:OFFSET]"
                )
            yield fields[0], parse_location(fields[1], place)


class OpenFiles:
    """Loads objects from their places and keeps the last few files open. Safe to share with threads
    and with forked processes, each of which opens the files anew."""

    def __init__(self) -> None:
        self._readers: OrderedDict[str, ByteReader] = OrderedDict()
        self._lock = threading.Lock()
        self._process = os.getpid()

    def load(self, utterance: str, place: Location, read: Callable[[ByteReader], T]) -> T:
        """The object of `utterance` that lies at `place`, cut to the range asked for."""
        with self._lock:
            if place.path.endswith("|") or place.path == "-":
                with open_input(place.path) as reader:
                    return _load(reader, utterance, place, read)
            reader = self._reader(place.path, utterance)
            reader.seek(place.offset)
            return _load(reader, utterance, place, read)

    def close(self) -> None:
        """Closes the files; those that are needed again are opened again."""
        while self._readers:
            self._readers.popitem()[1].close()

    def shape(self, utterance: str, place: Location) -> tuple[int, int]:
        """(rows, columns) of the matrix at `place`, from its header alone if it is binary."""
        whole = Location(place.path, place.offset)
        rows, columns = self.load(utterance, whole, skip_matrix)
        row_cut, column_cut = _slices(place, rows, columns, utterance)
        return len(range(rows)[row_cut]), len(range(columns)[column_cut])

    def _reader(self, path: str, utterance: str) -> ByteReader:
        if self._process != os.getpid():  # the place in a file would be that of all processes
            self._readers.clear()
            self._process = os.getpid()
        if path not in self._readers:
            self._readers[path] = ByteReader(open_file(path, utterance), path)
            if len(self._readers) > OPEN_FILES:
                self._readers.popitem(last=False)[1].close()
        self._readers.move_to_end(path)
        return self._readers[path]


def _load(
    reader: ByteReader, utterance: str, place: Location, read: Callable[[ByteReader], T]
) -> T:
    reader.utterance = utterance
    value = read(reader)
    if place.rows is None and place.columns is None:
        return value
    if not isinstance(value, np.ndarray) or value.ndim != 2:
        raise reader.error("a range is given for what is no matrix", hint="remove [...]")
    rows, columns = value.shape
    return cast(T, value[_slices(place, rows, columns, utterance)])


def _slices(place: Location, rows: int, columns: int, utterance: str) -> tuple[slice, slice]:
    first, last = place.rows or (0, rows - 1)
    left, right = place.columns or (0, columns - 1)
    if (place.rows and not first <= last <= rows - 1 + BEYOND_THE_END) or (
        place.columns and not left <= right < columns
    ):
        raise TableError(
            f"{place.path}:{place.offset}",
            f"the range [{first}:{last},{left}:{right}] is outside",
            utterance=utterance,
            expected=f"ranges within the matrix of {rows} rows and {columns} columns",
        )
    return slice(first, last + 1), slice(left, right + 1)
