"""Tables of training examples (egs): read as a stream, shuffled within bounds, written."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Iterator
from typing import BinaryIO, TypeVar

from nnet.data.errors import TableError
from nnet.data.locations import script_lines
from nnet.data.specifiers import parse_rspecifier
from nnet.data.streams import ByteReader, open_file, open_input
from nnet.data.writers import TableWriter
from nnet.modelfile.chain_examples import ChainExample, write_chain_example
from nnet.modelfile.examples import Example, read_example, write_example
from nnet.modelfile.streaming import StreamReader
from nnet.modelfile.tokens import BINARY_HEADER, Reader, TextReader
from nnet.modelfile.writing import BinaryWriter, TextWriter

T = TypeVar("T")


def read_examples(rspecifier: str) -> Iterator[tuple[str, Example]]:
    """Keys and examples of a table, one after the other; only one is held in memory.

    Args:
        rspecifier: such as `ark:egs.1.ark`, `scp:egs.scp` or `ark:gunzip -c egs.gz |`.

    Raises:
        TableError: the table is missing.
        NnetError: an example is damaged; the message has the file and the byte.
    """
    return read_objects(rspecifier, read_example)


def read_objects(rspecifier: str, read: Callable[[Reader], T]) -> Iterator[tuple[str, T]]:
    """The same for any object of Kaldi's token streams, which `read` reads."""
    spec = parse_rspecifier(rspecifier)
    if spec.kind == "scp":
        for key, place in script_lines(spec.path):
            yield key, _read_at(place.path, place.offset, key, read)
    else:
        with open_input(spec.path) as stream:
            yield from _read_archive(stream, read)


def _read_archive(stream: ByteReader, read: Callable[[Reader], T]) -> Iterator[tuple[str, T]]:
    reader = StreamReader(stream.some, stream.place)
    while not reader.at_end():
        key = reader.token("the key of an example")
        if reader.ahead(len(BINARY_HEADER)) != BINARY_HEADER:
            yield from _read_text_archive(key, reader, stream, read)
            return
        reader.begin_object()
        yield key, read(reader)


def _read_text_archive(
    key: str, start: StreamReader, stream: ByteReader, read: Callable[[Reader], T]
) -> Iterator[tuple[str, T]]:
    """The rest of an archive in text form, which is held in memory as a whole."""
    parts = [start.data[start.position :]]
    while piece := stream.some(1 << 20):
        parts.append(piece)
    reader = TextReader(b"".join(parts), stream.place)
    yield key, read(reader)
    while reader.peek_token() is not None:
        yield reader.token("the key of an example"), read(reader)


def _read_at(path: str, offset: int, key: str, read: Callable[[Reader], T]) -> T:
    """The object at a byte of a file, or that a command gives."""
    if path.endswith("|") or path == "-":
        with open_input(path) as stream:
            return _read_one(StreamReader(stream.some, stream.place), stream, read)
    with open_file(path, key) as file:
        stream = ByteReader(file, path)
        stream.seek(offset)
        return _read_one(StreamReader(stream.some, path), stream, read)


def _read_one(reader: StreamReader, stream: ByteReader, read: Callable[[Reader], T]) -> T:
    if reader.ahead(len(BINARY_HEADER)) == BINARY_HEADER:
        reader.begin_object()
        return read(reader)
    parts = [reader.data[reader.position :]]
    while piece := stream.some(1 << 20):
        parts.append(piece)
    return read(TextReader(b"".join(parts), stream.place))


def write_one_example(stream: BinaryIO, example: Example, binary: bool) -> None:
    """Writes an example after its key, as a TableWriter wants it."""
    writer = BinaryWriter() if binary else TextWriter()
    write_example(writer, example)
    stream.write(bytes(writer))


class ExampleWriter(TableWriter[Example]):
    """A table of training examples."""

    def __init__(self, wspecifier: str) -> None:
        super().__init__(wspecifier, write_one_example)


class ChainExampleWriter(TableWriter[ChainExample]):
    """A table of training examples for LF-MMI."""

    def __init__(self, wspecifier: str) -> None:
        super().__init__(wspecifier, write_one_chain_example)


def write_one_chain_example(stream: BinaryIO, example: ChainExample, binary: bool) -> None:
    """The same of an example for LF-MMI."""
    writer = BinaryWriter() if binary else TextWriter()
    write_chain_example(writer, example)
    stream.write(bytes(writer))


def shuffled(items: Iterable[T], buffer_size: int, seed: int) -> Iterator[T]:
    """The items in random order, as nnet3-shuffle-egs gives them.

    Args:
        items: anything.
        buffer_size: how many are held at a time; each comes out when another takes its place. 0:
            all of them.
        seed: the same seed gives the same order.
    """
    generator = random.Random(seed)
    if buffer_size < 0:
        raise TableError("--buffer-size", f"is {buffer_size}", expected="0 or more examples")
    if buffer_size == 0:
        everything = list(items)
        generator.shuffle(everything)
        yield from everything
        return
    held: dict[int, T] = {}
    for item in items:
        place = generator.randrange(buffer_size)
        if place in held:
            yield held[place]
        held[place] = item
    yield from (held[place] for place in sorted(held))
