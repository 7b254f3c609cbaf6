"""Kaldi's rspecifiers and wspecifiers: how a user names a table."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from nnet.data.errors import TableError

READ_OPTIONS = ("b", "t", "o", "no", "p", "np", "s", "ns", "cs", "ncs", "bg")
WRITE_OPTIONS = ("b", "t", "f", "nf", "p")
FORMS = "ark:FILE, scp:FILE, ark:- or 'ark:COMMAND |'"


@dataclass(frozen=True)
class Rspecifier:
    """Where a table is read from.

    `kind` is an archive or a script file; `path` is a file, `-` or a command that ends in `|`.
    With `permissive` (option p) damaged and missing entries count as absent. Kaldi's other
    options are hints about order that nothing here depends on.
    """

    text: str
    kind: Literal["ark", "scp"]
    path: str
    permissive: bool = False


@dataclass(frozen=True)
class Wspecifier:
    """Where a table is written to: an archive, and a script file that points into it."""

    text: str
    archive: str
    script: str | None = None
    binary: bool = True
    flush: bool = False


def parse_rspecifier(text: str) -> Rspecifier:
    """Reads `ark:...` or `scp:...` with any of Kaldi's options, such as `ark,s,cs:...`.

    Raises:
        TableError: the text is not an rspecifier; the message shows the likely correction.
    """
    words, path = _split(text, "rspecifier", FORMS)
    kinds = [word for word in words if word in ("ark", "scp")]
    _check_options(text, words, READ_OPTIONS)
    if len(kinds) != 1:
        raise TableError(text, f"{len(kinds)} of ark and scp in a table to read", expected=FORMS)
    kind: Literal["ark", "scp"] = "ark" if kinds[0] == "ark" else "scp"
    return Rspecifier(text, kind, path, permissive=_last(words, "p", "np", False))


def parse_wspecifier(text: str) -> Wspecifier:
    """Reads `ark:FILE`, `ark,t:FILE`, `ark,scp:ARK,SCP`, `ark:-` or `'ark:| COMMAND'`.

    Raises:
        TableError: the text is not a wspecifier, or asks for a script file alone.
    """
    forms = "ark:FILE, ark,t:FILE, ark,scp:ARK,SCP, ark:- or 'ark:| COMMAND'"
    words, path = _split(text, "wspecifier", forms)
    _check_options(text, words, WRITE_OPTIONS)
    kinds = [word for word in words if word in ("ark", "scp")]
    binary, flush = _last(words, "b", "t", True), _last(words, "f", "nf", False)
    if kinds == ["ark"]:
        return Wspecifier(text, path, None, binary, flush)
    if kinds == ["ark", "scp"]:
        archive, comma, script = path.partition(",")
        if comma and archive.strip() and script.strip():
            return Wspecifier(text, archive.strip(), script.strip(), binary, flush)
    raise TableError(text, "cannot write a table there", expected=forms)


def _split(text: str, what: str, forms: str) -> tuple[list[str], str]:
    before, colon, path = text.partition(":")
    words = [word.strip() for word in before.split(",")]
    path = path.strip()
    if not colon or not path or not {"ark", "scp"} & set(words):
        raise TableError(text, f"not a Kaldi {what}", expected=forms, hint=_likely(text))
    return words, path


def _likely(text: str) -> str | None:
    name = text.strip()
    if not name:
        return None
    kind = "scp" if name.endswith(".scp") else "ark"
    if Path(name.rstrip("|").strip()).suffix or os.path.exists(name) or name == "-":
        return f"did you mean '{kind}:{name}'?"
    return None


def _check_options(text: str, words: list[str], known: tuple[str, ...]) -> None:
    for word in words:
        if word not in ("ark", "scp") and word not in known:
            raise TableError(
                text, f"unknown table option '{word}'", expected=f"one of {', '.join(known)}"
            )


def _last(words: list[str], yes: str, no: str, default: bool) -> bool:
    """Whether `yes` or `no` comes later among the options."""
    value = default
    for word in words:
        value = True if word == yes else False if word == no else value
    return value
