"""Phones with their lengths: tables of them, and the phones of transition-id alignments."""

from __future__ import annotations

import re
import struct
from dataclasses import dataclass
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from nnet.data.matrices import begins_binary
from nnet.data.posteriors import ITEM, read_binary_items, read_text_items
from nnet.data.streams import ByteReader
from nnet.data.writers import TableWriter
from nnet.errors import NnetError
from nnet.modelfile.transition_ids import TransitionIds

Integers = NDArray[np.int64]

PAIRS = re.compile(rb"\s*\d{1,9}\s+\d{1,9}\s*(;\s*\d{1,9}\s+\d{1,9}\s*)*")
"""Phones and lengths in text; numbers of more digits are none."""


@dataclass(frozen=True, eq=False)
class PhoneAlignment:
    """The phones of an utterance and how many input frames each takes, (phones,).

    Raises:
        NnetError: there are none, a phone is below 1, or one has no frames.
    """

    phones: Integers
    durations: Integers

    def __post_init__(self) -> None:
        if not len(self.phones) or self.durations.min() < 1 or self.phones.min() < 1:
            raise NnetError("expected: phones from 1 on, each with at least one frame")

    def __len__(self) -> int:
        """The number of input frames."""
        return int(self.durations.sum())

    def lasting(self, frames: int) -> PhoneAlignment:
        """The same made to last so many frames: its last phones end later or earlier."""
        ends = np.minimum(np.cumsum(self.durations), frames)
        ends[-1] = frames
        durations = np.diff(ends, prepend=0)
        kept = durations > 0
        return PhoneAlignment(self.phones[kept], durations[kept])


def read_phone_alignment(reader: ByteReader) -> PhoneAlignment:
    """Phones with lengths as `ali-to-phones --write-lengths=true` writes them: `1 6 ; 4 13`."""
    pairs = _binary_pairs(reader) if begins_binary(reader) else _text_pairs(reader)
    try:
        return PhoneAlignment(*pairs.astype(np.int64).T)
    except NnetError as error:
        raise reader.error("found a damaged alignment", expected=str(error)) from None


def _text_pairs(reader: ByteReader) -> NDArray[np.int64]:
    line = reader.line()
    if not PAIRS.fullmatch(line):
        raise reader.error(
            f"found '{line[:40].decode('utf-8', 'replace').strip()}' where phones with lengths "
            "should be",
            expected="PHONE FRAMES ; PHONE FRAMES ; ..., as ali-to-phones --write-lengths=true "
            "writes them",
        )
    return np.array(line.replace(b";", b" ").split(), np.int64).reshape(-1, 2)


def _binary_pairs(reader: ByteReader) -> NDArray[np.int32]:
    size, count = struct.unpack("<bi", reader.take(5))
    if size != 4 or count < 0:
        raise reader.error("found no count of phones", expected="phones with lengths")
    items = np.frombuffer(reader.take(2 * count * ITEM.itemsize), ITEM)
    if (items["size"] != 4).any():
        raise reader.error("found a number that does not take 4 bytes", expected="integers")
    return np.asarray(items["value"], np.int32).reshape(-1, 2)


def _write_phone_alignment(stream: BinaryIO, alignment: PhoneAlignment, binary: bool) -> None:
    pairs = np.stack((alignment.phones, alignment.durations), 1)
    if not binary:
        stream.write(" ; ".join(f"{p} {n}" for p, n in pairs.tolist()).encode() + b"\n")
        return
    items = np.empty(pairs.size, ITEM)
    items["size"], items["value"] = 4, pairs.reshape(-1)
    stream.write(b"\0B" + struct.pack("<bi", 4, len(pairs)) + items.tobytes())


class PhoneAlignmentWriter(TableWriter[PhoneAlignment]):
    """A table of phones with their lengths."""

    def __init__(self, wspecifier: str) -> None:
        super().__init__(wspecifier, _write_phone_alignment)


def read_integers(reader: ByteReader) -> NDArray[np.int32]:
    """Integers: the phones of an utterance, or a transition-id for each frame."""
    is_binary = begins_binary(reader)
    items = read_binary_items(reader) if is_binary else read_text_items(reader, reader.line())
    if not isinstance(items, np.ndarray):
        raise reader.error("found a posterior", expected="integers")
    return items


class TransitionAlignmentReader:
    """Reads a transition-id for each frame, and finds the phones.

    Args:
        ids: of the transition model that the alignment was made with.
    """

    def __init__(self, ids: TransitionIds) -> None:
        self._ids = ids

    def __call__(self, reader: ByteReader) -> PhoneAlignment:
        transitions = read_integers(reader)
        try:
            return phones_of_transitions(transitions.astype(np.int64), self._ids)
        except NnetError as error:
            raise reader.error("found a damaged alignment", expected=str(error)) from None


def phones_of_transitions(transitions: Integers, ids: TransitionIds) -> PhoneAlignment:
    """The phones of a transition-id alignment and their lengths (Kaldi's SplitToPhones).

    A phone ends with the transition to the last state of its HMM; where self-loops come after the
    transition that leaves a state, as in graphs that were reordered, with the self-loops after it.

    Raises:
        NnetError: there are none, or not of this transition model.
    """
    largest = len(ids.phones) - 1
    if not len(transitions) or not 0 < transitions.min() <= transitions.max() <= largest:
        raise NnetError(f"expected: transition-ids from 1 to {largest}")
    states, phones = ids.states[transitions], ids.phones[transitions]
    is_loop = ids.is_self_loop[transitions]
    changes = states[1:] != states[:-1]
    ends = ids.is_final[transitions].copy()
    if is_reordered(is_loop, changes):
        leaves = np.flatnonzero(ends)
        ends[:] = False
        following = np.append(np.flatnonzero(~(is_loop[1:] & ~changes)), len(transitions) - 1)
        ends[following[np.searchsorted(following, leaves)]] = True
    ends[:-1] |= phones[1:] != phones[:-1]
    ends[-1] = True
    places = np.flatnonzero(ends)
    return PhoneAlignment(phones[places], np.diff(places, prepend=-1))


def is_reordered(is_loop: NDArray[np.bool_], changes: NDArray[np.bool_]) -> bool:
    """Whether self-loops come after the transition that leaves their state.

    Args:
        is_loop: whether each frame's transition is a self-loop, (frames,).
        changes: whether its state is another one in the next frame, (frames - 1,).
    """
    if is_loop[:-1][changes].any():
        return True
    if is_loop[1:][changes].any():
        return False
    return not bool(is_loop[0])
