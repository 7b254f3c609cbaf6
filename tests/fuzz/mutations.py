"""Damage: from an undamaged file to one that is damaged or extreme, by a seeded generator."""

from __future__ import annotations

import random
import re
import struct
from collections.abc import Callable, Sequence

INTEGERS = (
    0, 1, 2, 3, 7, 64, 127, 1000, 4097, 65_535, 99_999, 10**6, 2**20, 2**24, 10**9, 2**30,
    2**31 - 1, -1, -2, -3, -100, -(2**31), 2**31, 2**32, 2**63, 10**20,
)  # fmt: skip
FLOATS = (
    "nan",
    "inf",
    "-inf",
    "1e39",
    "-1e39",
    "3.4e38",
    "1e-45",
    "0",
    "-1",
    "1e5",
    "-1e-3",
    "2.5",
)
RUNS = ("(", "9", "[", " ", "a", "-", ",", "Offset(", "<", "\u00e9", "0 ", "\n", ";")
BYTES = (b"\0", b"\xff", b"\n", b" ", b"\0B", b"\x04", b"[", b"]", b"\r\n", b"\xc3")

NUMBER = re.compile(rb"[-+]?[0-9]+(\.[0-9]+)?([eE][-+]?[0-9]+)?")
WORD = re.compile(rb"\S+")
TOKEN = re.compile(rb"</?[A-Za-z0-9]+> ")
SIZED = re.compile(rb"\x04.{4}", re.DOTALL)
VALUE = re.compile(rb"=[^\s=]+")

Mutation = Callable[[random.Random, bytes, Sequence[bytes]], bytes]


def mutated(rng: random.Random, specimens: Sequence[bytes], *, text: bool) -> bytes:
    """One of the specimens with one to four things wrong."""
    data = rng.choice(specimens)
    known = TEXT if text else BINARY
    for _ in range(1 + min(3, int(rng.expovariate(1.2)))):
        data = rng.choice(known)(rng, data, specimens)
    return data


def _replace(rng: random.Random, data: bytes, pattern: re.Pattern[bytes], new: bytes) -> bytes:
    """The data with one of the places that match replaced."""
    places = [match.span() for match in pattern.finditer(data)]
    if not places:
        return data
    start, end = rng.choice(places)
    return data[:start] + new + data[end:]


def number_in_text(rng: random.Random, data: bytes, others: Sequence[bytes]) -> bytes:
    new = rng.choice((str(rng.choice(INTEGERS)), rng.choice(FLOATS), str(rng.randrange(-50, 50))))
    return _replace(rng, data, NUMBER, new.encode())


def several_numbers_in_text(rng: random.Random, data: bytes, others: Sequence[bytes]) -> bytes:
    for _ in range(rng.randrange(2, 5)):
        data = number_in_text(rng, data, others)
    return data


def value_of_key(rng: random.Random, data: bytes, others: Sequence[bytes]) -> bytes:
    new = rng.choice((b"", str(rng.choice(INTEGERS)).encode(), b"true", b"x", b"a,b", b'"a b"'))
    return _replace(rng, data, VALUE, b"=" + new)


def word_dropped(rng: random.Random, data: bytes, others: Sequence[bytes]) -> bytes:
    return _replace(rng, data, WORD, b"")


def word_twice(rng: random.Random, data: bytes, others: Sequence[bytes]) -> bytes:
    places = [match.span() for match in WORD.finditer(data)]
    if not places:
        return data
    start, end = rng.choice(places)
    return data[:end] + b" " + data[start:end] + data[end:]


def words_swapped(rng: random.Random, data: bytes, others: Sequence[bytes]) -> bytes:
    places = [match.span() for match in WORD.finditer(data)]
    if len(places) < 2:
        return data
    (a, b), (c, d) = sorted(rng.sample(places, 2))
    return data[:a] + data[c:d] + data[b:c] + data[a:b] + data[d:]


def line_moved(rng: random.Random, data: bytes, others: Sequence[bytes]) -> bytes:
    lines = data.split(b"\n")
    line = lines.pop(rng.randrange(len(lines)))
    for _ in range(rng.randrange(3)):
        lines.insert(rng.randrange(len(lines) + 1), line)
    return b"\n".join(lines)


def long_run(rng: random.Random, data: bytes, others: Sequence[bytes]) -> bytes:
    place = rng.randrange(len(data) + 1)
    run = rng.choice(RUNS) * rng.choice((20, 300, 5000))
    return data[:place] + run.encode() + data[place:]


def integer_in_binary(rng: random.Random, data: bytes, others: Sequence[bytes]) -> bytes:
    """One of Kaldi's sized integers (or floats of 32 bits) becomes extreme."""
    if rng.random() < 0.3:
        new = struct.pack("<f", float(rng.choice(FLOATS).replace("1e39", "inf")))
    else:
        value = rng.choice(INTEGERS) if rng.random() < 0.7 else rng.randrange(-20, 200)
        new = struct.pack("<I", value & 0xFFFFFFFF)
    return _replace(rng, data, SIZED, b"\x04" + new)


def value_of_token(rng: random.Random, data: bytes, others: Sequence[bytes]) -> bytes:
    """What stands after one of a model's tokens becomes extreme."""
    places = [match.end() for match in TOKEN.finditer(data) if data[match.end() :][:1] == b"\4"]
    if not places:
        return integer_in_binary(rng, data, others)
    at = rng.choice(places) + 1
    value = rng.choice(INTEGERS) if rng.random() < 0.6 else rng.randrange(-20, 200)
    return data[:at] + struct.pack("<I", value & 0xFFFFFFFF) + data[at + 4 :]


def token_changed(rng: random.Random, data: bytes, others: Sequence[bytes]) -> bytes:
    places = [match.span() for match in TOKEN.finditer(data)]
    if len(places) < 2:
        return data
    (a, b), (c, d) = rng.sample(places, 2)
    new = rng.choice((b"", data[a:b] * 2, data[c:d], data[a : b - 2] + b" "))
    return data[:a] + new + data[b:]


def bits_flipped(rng: random.Random, data: bytes, others: Sequence[bytes]) -> bytes:
    changed = bytearray(data)
    for _ in range(rng.randrange(1, 4)):
        if changed:
            changed[rng.randrange(len(changed))] ^= 1 << rng.randrange(8)
    return bytes(changed)


def bytes_changed(rng: random.Random, data: bytes, others: Sequence[bytes]) -> bytes:
    place, count = rng.randrange(len(data) + 1), rng.choice((0, 1, 2, 4, 8))
    return data[:place] + rng.choice(BYTES) * rng.choice((1, 1, 4, 8)) + data[place + count :]


def truncated(rng: random.Random, data: bytes, others: Sequence[bytes]) -> bytes:
    return data[: rng.randrange(len(data) + 1)]


def part_moved(rng: random.Random, data: bytes, others: Sequence[bytes]) -> bytes:
    start = rng.randrange(len(data) + 1)
    part = data[start : start + rng.choice((1, 4, 16, 64, 500))]
    rest = data[:start] + data[start + len(part) :]
    place = rng.randrange(len(rest) + 1)
    return rest[:place] + part * rng.randrange(3) + rest[place:]


def spliced(rng: random.Random, data: bytes, others: Sequence[bytes]) -> bytes:
    other = rng.choice(others)
    return data[: rng.randrange(len(data) + 1)] + other[rng.randrange(len(other) + 1) :]


_ANY: tuple[Mutation, ...] = (bits_flipped, bytes_changed, truncated, part_moved, spliced, long_run)
TEXT: tuple[Mutation, ...] = (
    number_in_text, number_in_text, several_numbers_in_text, number_in_text, value_of_key,
    word_dropped, word_twice, words_swapped, line_moved, *_ANY,
)  # fmt: skip
BINARY: tuple[Mutation, ...] = (
    integer_in_binary, integer_in_binary, value_of_token, value_of_token, value_of_token,
    token_changed, number_in_text, *_ANY,
)  # fmt: skip
