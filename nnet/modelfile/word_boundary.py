"""Where words begin and end among phones: `word_boundary.int` and `align_lexicon.int`."""

from __future__ import annotations

import os
from collections.abc import Mapping
from enum import StrEnum

from nnet.errors import NnetError
from nnet.modelfile.symbols import SymbolTable, read_lines


class Boundary(StrEnum):
    """A phone's place in a word."""

    NONWORD = "nonword"
    BEGIN = "begin"
    END = "end"
    INTERNAL = "internal"
    SINGLETON = "singleton"


def read_word_boundary(path: str | os.PathLike[str]) -> dict[int, Boundary]:
    """Each phone's place in a word, from lines such as `13 end`.

    Raises:
        NnetError: the file cannot be read, or a line is not like that.
    """
    return parse_word_boundary("\n".join(read_lines(path)).encode(), os.fspath(path))


def parse_word_boundary(content: bytes, name: str) -> dict[int, Boundary]:
    """The same from a file's content; `name` is for errors."""
    places: dict[int, Boundary] = {}
    for number, line in enumerate(content.decode().split("\n"), 1):
        words = line.split()
        if not words:
            continue
        if len(words) != 2 or not words[0].isdigit() or words[1] not in set(Boundary):
            raise NnetError(
                f"{name}:{number}: expected a phone and one of {', '.join(Boundary)}, "
                f"found '{line}'"
            )
        places[int(words[0])] = Boundary(words[1])
    if not places:
        raise NnetError(f"{name}: expected phones and their places in words, found none")
    return places


Pronunciation = tuple[int, ...]
AlignLexicon = Mapping[int, list[tuple[int, Pronunciation]]]


def read_align_lexicon(
    path: str | os.PathLike[str],
    words: SymbolTable | None = None,
    phones: SymbolTable | None = None,
) -> AlignLexicon:
    """For each word of a lattice the words and phones that can stand for it.

    Lines are a word (0 for none), the word to put out, and its phones, as in Kaldi's
    `align_lexicon.int`.

    Args:
        path: the file.
        words: where the file has symbols (`align_lexicon.txt`), their labels.
        phones: likewise.

    Raises:
        NnetError: the file cannot be read, or a line is not like that.
    """
    content = "\n".join(read_lines(path)).encode()
    return parse_align_lexicon(content, os.fspath(path), words, phones)


def parse_align_lexicon(
    content: bytes,
    name: str,
    words: SymbolTable | None = None,
    phones: SymbolTable | None = None,
) -> AlignLexicon:
    """The same from a file's content; `name` is for errors."""
    entries: dict[int, list[tuple[int, Pronunciation]]] = {}
    for number, line in enumerate(content.decode().split("\n"), 1):
        fields = line.split()
        if not fields:
            continue
        try:
            word, out = (_label(field, words) for field in fields[:2])
            pronunciation = tuple(_label(field, phones) for field in fields[2:])
        except ValueError:
            raise NnetError(
                f"{name}:{number}: expected a word, the word to put out and its phones, "
                f"found '{line}'"
            ) from None
        entries.setdefault(word, []).append((out, pronunciation))
    if not entries:
        raise NnetError(f"{name}: expected words and their phones, found none")
    return entries


def _label(field: str, symbols: SymbolTable | None) -> int:
    return int(field) if symbols is None else symbols.label(field)
