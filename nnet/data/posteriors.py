"""Alignments and posteriors: what should come out of the network at each frame."""

from __future__ import annotations

import re
import struct
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from nnet.data.matrices import read_int32
from nnet.data.streams import ByteReader, printable
from nnet.modelfile.tokens import as_float32

ITEM = np.dtype([("size", "i1"), ("value", "<i4")])
PAIR = np.dtype([("id_size", "i1"), ("id", "<i4"), ("weight_size", "i1"), ("weight", "<f4")])
INTEGER = re.compile(rb"[-+]?[0-9]{1,10}")

Ids = NDArray[np.int32]


@dataclass(frozen=True, eq=False)
class Posterior:
    """Kaldi's Posterior: for each frame, any number of (id, weight) pairs.

    Frame t owns the pairs `offsets[t]` up to `offsets[t + 1]`.
    """

    offsets: NDArray[np.int64]
    ids: Ids
    weights: NDArray[np.float32]

    def __len__(self) -> int:
        """Number of frames."""
        return len(self.offsets) - 1

    def frame(self, t: int) -> list[tuple[int, float]]:
        """The pairs of one frame."""
        pairs = slice(self.offsets[t], self.offsets[t + 1])
        return list(zip(self.ids[pairs].tolist(), self.weights[pairs].tolist(), strict=True))

    @staticmethod
    def of(frames: Iterable[Sequence[tuple[int, float]]]) -> Posterior:
        """Builds a posterior from a list of pairs for each frame."""
        listed = [list(frame) for frame in frames]
        pairs = [pair for frame in listed for pair in frame]
        return Posterior(
            _offsets([len(frame) for frame in listed]),
            np.array([i for i, _ in pairs], np.int32),
            as_float32(np.array([w for _, w in pairs], np.float64)),
        )


def read_binary_items(reader: ByteReader) -> Ids | Posterior:
    """Reads an alignment or a posterior from just after Kaldi's binary mark.

    Both begin with a count and go on in items of 5 bytes. After the integers of an alignment comes
    the end or the next utterance's name, never the size byte of another item.
    """
    count = read_int32(reader)
    if count < 0:
        raise reader.error(f"a count of {count} frames", expected="0 or more")
    items = _items(reader, count)
    if reader.peek() != b"\4":
        return np.ascontiguousarray(items)
    return _finish_posterior(reader, items)


def read_text_items(reader: ByteReader, line: bytes) -> Ids | Posterior:
    """The alignment or posterior that `line` holds. `reader` gives the place for messages."""
    words = line.split()
    if words and words[0].startswith(b"["):
        return _posterior_of_words(reader, words)
    return np.array([_integer(reader, word) for word in words], np.int32)


def write_alignment(stream: BinaryIO, ids: Ids, binary: bool = True) -> None:
    """Writes integers, one a frame, as ali-to-pdf does."""
    if not binary:
        stream.write(("".join(f"{i} " for i in ids.tolist()) + "\n").encode())
        return
    items = np.empty(len(ids), ITEM)
    items["size"], items["value"] = 4, ids
    stream.write(b"\0B" + struct.pack("<bi", 4, len(ids)) + items.tobytes())


def write_posterior(stream: BinaryIO, posterior: Posterior, binary: bool = True) -> None:
    """Writes a posterior as ali-to-post does."""
    if not binary:
        frames = (posterior.frame(t) for t in range(len(posterior)))
        text = "".join("[ " + "".join(f"{i} {w:.7g} " for i, w in f) + "] " for f in frames)
        stream.write(text.encode() + b"\n")
        return
    pairs = np.empty(len(posterior.ids), PAIR)
    pairs["id_size"], pairs["weight_size"] = 4, 4
    pairs["id"], pairs["weight"] = posterior.ids, posterior.weights
    stream.write(b"\0B" + struct.pack("<bi", 4, len(posterior)))
    for start, end in zip(posterior.offsets[:-1], posterior.offsets[1:], strict=True):
        stream.write(struct.pack("<bi", 4, end - start) + pairs[start:end].tobytes())


def _items(reader: ByteReader, count: int) -> Ids:
    items = np.frombuffer(reader.take(count * ITEM.itemsize), ITEM)
    if (items["size"] != 4).any():
        raise reader.error(
            "found an item that does not take 4 bytes",
            expected="an alignment (integers) or a posterior (pairs of integer and float)",
        )
    return items["value"]


def _finish_posterior(reader: ByteReader, items: Ids) -> Posterior:
    """Reads the rest of a posterior of `len(items)` frames whose first items are `items`.

    Items are 5 bytes each: a frame's number of pairs, then that many ids and weights.
    """
    counts: list[int] = []
    pairs: list[Ids] = []
    pending = items.astype("<i4")
    place = 0
    for _ in range(len(items)):
        if place >= len(pending):
            pending, place = _items(reader, len(items) - len(counts)), 0
        count = int(pending[place])
        place += 1
        if count < 0:
            raise reader.error(f"a frame of {count} pairs", expected="0 or more")
        wanted = 2 * count
        have = pending[place : place + wanted]
        place += len(have)
        if len(have) < wanted:
            have = np.concatenate([have, _items(reader, wanted - len(have))])
        counts.append(count)
        pairs.append(have.reshape(count, 2))
    return _from_pairs(counts, pairs)


def _from_pairs(counts: list[int], pairs: list[NDArray[np.int32]]) -> Posterior:
    table = np.concatenate(pairs) if pairs else np.empty((0, 2), np.int32)
    ids = np.ascontiguousarray(table[:, 0], np.int32)
    weights = np.ascontiguousarray(table[:, 1], "<i4").view("<f4")
    return Posterior(_offsets(counts), ids, weights.astype(np.float32))


def _offsets(counts: Sequence[int]) -> NDArray[np.int64]:
    return np.concatenate([[0], np.cumsum(counts, dtype=np.int64)]).astype(np.int64)


def _integer(reader: ByteReader, word: bytes, place: str = "") -> int:
    if INTEGER.fullmatch(word) and -(2**31) <= int(word) < 2**31:
        return int(word)
    shown = printable(word[:20])
    table = "a posterior" if place else "an alignment"
    raise reader.error(f"{place}found '{shown}' in {table}", expected="integers of 32 bits")


def _weight(reader: ByteReader, word: bytes, place: str) -> float:
    try:
        return float(word)
    except ValueError:
        shown = printable(word[:20])
        raise reader.error(
            f"{place}found the weight '{shown}' in a posterior", expected="a number"
        ) from None


def _posterior_of_words(reader: ByteReader, words: list[bytes]) -> Posterior:
    text = b" ".join(words)
    frames: list[list[tuple[int, float]]] = []
    for frame in text.split(b"]")[:-1]:
        opening, bracket, body = frame.partition(b"[")
        values = body.split()
        if opening.strip() or not bracket or len(values) % 2:
            raise reader.error(
                f"frame {len(frames)} is damaged", expected="[ ID WEIGHT ID WEIGHT ... ]"
            )
        place = f"frame {len(frames)}: "
        ids = [_integer(reader, word, place) for word in values[::2]]
        weights = [_weight(reader, word, place) for word in values[1::2]]
        frames.append(list(zip(ids, weights, strict=True)))
    if text.rpartition(b"]")[2].strip():
        raise reader.error("the last frame has no closing bracket", expected="]")
    return Posterior.of(frames)
