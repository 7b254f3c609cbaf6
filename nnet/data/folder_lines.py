"""One file of a data folder, line by line, with the places of its mistakes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from nnet.errors import NnetError

SHOWN = 30


class FolderError(NnetError):
    """All that is wrong with a data folder, one line each.

    Attributes:
        problems: the lines.
    """

    def __init__(self, problems: Sequence[str]) -> None:
        self.problems = tuple(problems)
        lines = list(self.problems[:SHOWN])
        if len(self.problems) > SHOWN:
            lines.append(f"... and {len(self.problems) - SHOWN} more")
        count = len(self.problems)
        head = [f"{count} mistakes in the data folder:"] if count > 1 else []
        super().__init__("\n".join(head + lines))


@dataclass(frozen=True)
class FolderFile:
    """The lines of a file by their first word.

    Args:
        path: the file.
        exists: whether it is there.
        values: the rest of each line.
        numbers: of the lines, from 1 on.
    """

    path: Path
    exists: bool
    values: dict[str, str] = field(default_factory=dict)
    numbers: dict[str, int] = field(default_factory=dict)

    def sorted(self) -> dict[str, str]:
        """The lines in the order of their names."""
        return dict(sorted(self.values.items()))

    def report(self, name: str, problem: str, problems: list[str]) -> None:
        """Adds a mistake in the line of a name."""
        number = self.numbers.get(name)
        place = f"{self.path}:{number}" if number is not None else str(self.path)
        problems.append(f"{place}: {problem}")

    def compare(self, known: set[str], what: str, source: str, problems: list[str]) -> None:
        """Reports names that are not known, and known names without a line."""
        if not self.exists:
            return
        for name in self.values:
            if name not in known:
                self.report(name, f"there is no {what} '{name}' in {source}", problems)
        missing = sorted(known - self.values.keys())
        if missing:
            shown = ", ".join(missing[:3]) + (", ..." if len(missing) > 3 else "")
            problems.append(
                f"{self.path}: no line for {len(missing)} of {len(known)} {what}s: {shown}"
            )


def read_lines(path: Path, problems: list[str]) -> FolderFile:
    """The lines of a file, if it is there; what is wrong with them is added to `problems`."""
    if not path.exists():
        return FolderFile(path, False)
    file = FolderFile(path, True)
    try:
        lines = path.read_bytes().split(b"\n")
    except OSError as error:
        problems.append(f"{path}: cannot read: {error.strerror}")
        return file
    if lines and not lines[-1]:
        lines.pop()
    for number, line in enumerate(lines, 1):
        try:
            words = line.decode("utf-8").split(maxsplit=1)
        except UnicodeDecodeError as error:
            problems.append(f"{path}:{number}: byte {error.start} is not UTF-8")
            continue
        if not words:
            problems.append(f"{path}:{number}: an empty line")
        elif words[0] in file.values:
            first = file.numbers[words[0]]
            problems.append(f"{path}:{number}: '{words[0]}' again, as in line {first}")
        else:
            file.values[words[0]] = words[1].strip() if len(words) > 1 else ""
            file.numbers[words[0]] = number
    if not lines:
        problems.append(f"{path}: the file is empty")
    return file
