"""Mistakes in data, with the place where they were found."""

from __future__ import annotations

from nnet.errors import NnetError, quoted


class TableError(NnetError):
    """A missing or damaged table.

    Args:
        place: file, command or table, as the user wrote it.
        found: what is wrong.
        utterance: the entry in which it was found.
        offset: bytes from the start of the file.
        expected: what would have been right.
        hint: what to do.
    """

    def __init__(
        self,
        place: str,
        found: str,
        *,
        utterance: str | None = None,
        offset: int | None = None,
        expected: str | None = None,
        hint: str | None = None,
    ) -> None:
        where = quoted(place)
        where += f", utterance '{quoted(utterance)}'" if utterance is not None else ""
        where += f", byte {offset}" if offset is not None else ""
        lines = [f"{where}: {found}"]
        if expected:
            lines.append(f"expected: {expected}")
        if hint:
            lines.append(hint)
        super().__init__("\n".join(lines))
