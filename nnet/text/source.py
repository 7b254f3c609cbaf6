"""Where a piece of text came from, and errors that point at it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from nnet.errors import NnetError, nearest


@dataclass(frozen=True)
class Source:
    """A text and the name it is known by (a file name, or `<string>`)."""

    name: str
    text: str


@dataclass(frozen=True)
class Span:
    """Characters `start` up to `end` (exclusive) of a source."""

    source: Source
    start: int
    end: int

    @property
    def line(self) -> int:
        """Line number, from 1."""
        return self.source.text.count("\n", 0, self.start) + 1

    @property
    def column(self) -> int:
        """Column number, from 1."""
        return self.start - (self.source.text.rfind("\n", 0, self.start) + 1) + 1

    @property
    def place(self) -> str:
        """`file:line:column`."""
        return f"{self.source.name}:{self.line}:{self.column}"

    @property
    def text(self) -> str:
        return self.source.text[self.start : self.end]

    def excerpt(self) -> str:
        """The line with a caret under the spanned characters; a long line only around them."""
        line_start = self.source.text.rfind("\n", 0, self.start) + 1
        line_end = self.source.text.find("\n", self.start)
        line_end = len(self.source.text) if line_end < 0 else line_end
        first = max(line_start, min(self.start - _EXCERPT // 2, line_end - _EXCERPT))
        last = min(line_end, first + _EXCERPT)
        shown = "".join(_visible(c) for c in self.source.text[first:last])
        shown = ("..." if first > line_start else "") + shown.rstrip()
        shown += "..." if last < line_end else ""
        width = max(1, min(self.end, last) - self.start)
        gutter = f"{self.line} | "
        before = self.start - first + (3 if first > line_start else 0)
        indent = "".join("\t" if c == "\t" else " " for c in shown[:before]).ljust(before)
        return f"{gutter}{shown}\n{' ' * (len(gutter) - 2)}| {indent}{'^' * width}"


_EXCERPT = 150  # characters of a line that an error shows


def _visible(character: str) -> str:
    if character in "\t\r":
        return "\t" if character == "\t" else " "
    return character if character.isprintable() else "\N{REPLACEMENT CHARACTER}"


class TextError(NnetError):
    """A mistake in a text file, shown with its place, line and caret.

    Args:
        span: the offending characters, or None for objects that were not read from text.
        message: what was found.
        expected: what would have been right.
        hint: what to do; `did you mean ...?` is added from `name` and `names`.
    """

    def __init__(
        self,
        span: Span | None,
        message: str,
        *,
        expected: str | None = None,
        hint: str | None = None,
        name: str | None = None,
        names: Iterable[str] = (),
    ) -> None:
        self.span = span
        self.message = message
        lines = [f"{span.place}: {message}", span.excerpt()] if span else [message]
        if expected:
            lines.append(f"expected: {expected}")
        meant = nearest(name, names) if name is not None else None
        if meant is not None:
            lines.append(f"did you mean '{meant}'?")
        if hint:
            lines.append(hint)
        super().__init__("\n".join(lines))
