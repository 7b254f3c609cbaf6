"""Bytes from files, pipes and standard input, with a place to blame."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO, BinaryIO, cast

from nnet.atomic import atomic_write
from nnet.data.errors import TableError

NO_PIPES = "NNET_NO_PIPES"
"""The environment variable that forbids shell commands in the places of files."""

PIECE = 1 << 24
SPACES = b" \t"
NEWLINES = b"\r\n"


def printable(data: bytes) -> str:
    """Bytes for a message: what is no ASCII character is shown by its number."""
    return repr(data)[2:-1]


class ByteReader:
    """Reads exact amounts and knows how far it came.

    Args:
        stream: buffered binary stream; it need not be seekable.
        place: the name that error messages give.
    """

    def __init__(self, stream: io.BufferedReader, place: str) -> None:
        self._stream = stream
        self.place = place
        self.utterance: str | None = None
        self.offset = 0

    def seek(self, offset: int) -> None:
        """Goes to a byte of the file.

        Raises:
            TableError: it is no file in which one can go to a place, or not so large a one.
        """
        try:
            self._stream.seek(offset)
        except OSError as error:
            raise self.error(f"cannot go to byte {offset}: {error.strerror or error}") from error
        self.offset = offset

    def peek(self) -> bytes:
        """The next byte, not consumed; empty at the end."""
        with self._reading():
            return self._stream.peek(1)[:1]

    def beginning(self) -> bytes:
        """What comes next, as far as it is at hand, not consumed."""
        with self._reading():
            return self._stream.peek()

    @contextmanager
    def _reading(self) -> Iterator[None]:
        """Errors of the disk or of a folder in a file's place, as errors at the present place."""
        try:
            yield
        except OSError as error:
            raise self.error(f"cannot read: {error.strerror or error}") from error

    def skip_whitespace(self) -> bool:
        """Passes over spaces and newlines; false at the end of the stream."""
        while (byte := self.peek()) and byte in SPACES + NEWLINES:
            self.take(1)
        return bool(byte)

    def close(self) -> None:
        self._stream.close()

    def take(self, count: int) -> bytes:
        """The next `count` bytes. Never allocates much more than the stream holds."""
        with self._reading():
            data = self._stream.read(count) if count <= PIECE else self._take_in_pieces(count)
        if len(data) != count:
            raise self._cut_short(count)
        self.offset += count
        return data

    def _cut_short(self, count: int) -> TableError:
        return self.error(
            f"the data ends inside a block of {count} bytes",
            hint="the file was cut short: write it again",
        )

    def some(self, count: int) -> bytes:
        """Up to `count` bytes; none only at the end of the stream."""
        with self._reading():
            data = self._stream.read(count)
        self.offset += len(data)
        return data

    def _take_in_pieces(self, count: int) -> bytes:
        pieces = []
        while count > 0:
            piece = self._stream.read(min(count, PIECE))
            if not piece:
                break
            pieces.append(piece)
            count -= len(piece)
        return b"".join(pieces)

    def skip(self, count: int) -> None:
        """Passes over `count` bytes without reading them where the stream can seek."""
        if count > 0 and self._stream.seekable():
            with self._reading():
                self._stream.seek(count - 1, io.SEEK_CUR)
                last = self._stream.read(1)
            if not last:
                raise self._cut_short(count)
            self.offset += count
            return
        while count > 0:
            count -= len(self.take(min(count, PIECE)))

    def line(self) -> bytes:
        """Up to and including the next newline, or what is left."""
        with self._reading():
            line = self._stream.readline()
        self.offset += len(line)
        return line

    def word(self, longest: int = 4096) -> bytes:
        """Up to the next whitespace; a space or tab after it is consumed, a newline is not."""
        word = bytearray()
        while len(word) <= longest:
            byte = self.peek()
            if not byte or byte in NEWLINES:
                return bytes(word)
            self.take(1)
            if byte in SPACES:
                return bytes(word)
            word += byte
        raise self.error(f"no space within {longest} bytes", expected="a Kaldi table")

    def error(
        self, found: str, *, expected: str | None = None, hint: str | None = None
    ) -> TableError:
        """An error at the present place."""
        return TableError(
            self.place,
            found,
            utterance=self.utterance,
            offset=self.offset,
            expected=expected,
            hint=hint,
        )


@contextmanager
def open_input(path: str) -> Iterator[ByteReader]:
    """Opens what Kaldi calls an rxfilename: a file, `-`, or a shell command that ends in `|`.

    Raises:
        TableError: no such file, or the command failed.
    """
    if path == "-":
        # a BufferedReader, which the types of the standard library do not say
        yield ByteReader(cast(io.BufferedReader, sys.stdin.buffer), "standard input")
    elif path.endswith("|"):
        with _command_output(path[:-1].strip()) as reader:
            yield reader
    else:
        with open_file(path) as stream:
            yield ByteReader(stream, path)


def open_file(path: str, utterance: str | None = None) -> io.BufferedReader:
    """Opens a file, or says why it cannot be, and for which utterance it was wanted."""
    try:
        stream = open(path, "rb")  # noqa: SIM115
    except (OSError, ValueError) as error:  # ValueError: a null character in the name
        reason = error.strerror if isinstance(error, OSError) else error
        raise TableError(
            path,
            f"cannot read: {reason}",
            utterance=utterance,
            hint="check the name; commands end in '|', standard input is '-'",
        ) from error
    try:
        begin = stream.peek(2)[:2]
    except OSError as error:
        stream.close()
        raise TableError(path, f"cannot read: {error.strerror}", utterance=utterance) from error
    if begin == b"\x1f\x8b":
        stream.close()
        raise TableError(path, "the file is gzipped", hint=f"use 'ark:gunzip -c {path} |'")
    return stream


def _check_pipes(command: str) -> None:
    """Raises TableError if shell commands are forbidden."""
    if os.environ.get(NO_PIPES, "") not in ("", "0"):
        raise TableError(
            command,
            "this is a shell command, and shell commands are forbidden",
            expected=f"a file, because of --no-pipes or {NO_PIPES}=1",
            hint="run the command yourself and give its result as a file, or, if you trust the "
            "data, allow commands",
        )


@contextmanager
def _command_output(command: str) -> Iterator[ByteReader]:
    _check_pipes(f"{command} |")
    process = subprocess.Popen(command, shell=True, stdout=subprocess.PIPE)
    stream = process.stdout
    if not isinstance(stream, io.BufferedReader):
        raise TableError(command, "the command gives no output")
    at_end = False
    try:
        yield ByteReader(stream, f"{command} |")
        at_end = not stream.peek(1)
    except BaseException:  # whatever ends the reading early: nobody waits for the rest
        process.terminate()
        raise
    finally:
        stream.close()
        status = process.wait()
    if at_end and status != 0:
        raise TableError(
            f"{command} |",
            f"the command failed with status {status}",
            hint="run it in a shell to see why",
        )


@contextmanager
def open_output(path: str) -> Iterator[BinaryIO]:
    """Opens what Kaldi calls a wxfilename: `-`, a command that begins with `|`, or a file.

    A file appears whole when the block ends without an error, or not at all.
    """
    if path == "-":
        yield sys.stdout.buffer
        sys.stdout.buffer.flush()
    elif path.startswith("|"):
        with _command_input(path[1:].strip()) as stream:
            yield stream
    else:
        with atomic_write(path) as stream:
            yield stream


@contextmanager
def _command_input(command: str) -> Iterator[BinaryIO]:
    _check_pipes(f"| {command}")
    process = subprocess.Popen(command, shell=True, stdin=subprocess.PIPE)
    stream = process.stdin
    if not isinstance(stream, io.BufferedWriter):
        raise TableError(command, "the command takes no input")
    closed_early = False
    try:
        yield stream
        stream.flush()
    except BrokenPipeError:
        closed_early = True
    except BaseException:  # the command must not take a part of the data for the whole
        process.terminate()
        raise
    finally:
        _close_quietly(stream)
        status = process.wait()
    if status != 0 or closed_early:
        raise TableError(
            f"| {command}",
            f"the command ended with status {status} before it took all the data",
            hint="run it in a shell to see why",
        )


def _close_quietly(stream: IO[bytes]) -> None:
    """Closes a pipe whose reader may be gone; what was lost has been noticed before."""
    try:
        stream.close()
    except BrokenPipeError:
        return
