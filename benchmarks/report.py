"""Writes docs/performance.md from benchmarks/results/*.json: `python -m benchmarks.report`.

Nothing is measured here and torch is not imported. A section a program, in the order of their
names; its text is the program's own docstring. A program without results says "not measured".
"""

from __future__ import annotations

import ast
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parent
PAGE = FOLDER.parent / "docs" / "performance.md"

HEAD = """\
# Performance

Made from `benchmarks/results/*.json` by `python -m benchmarks.report`; `make bench` measures
anew. Each program compares the outputs of all that it measures before it takes a time, and times
them in the same run. A ratio above 1 says how many times faster ours is. The bound is the least
time that the machine's own measured speed allows for what is computed.
"""

COMPARED = ("subject", "shape", "threads", "ours", "peer", "theirs", "ratio")
"""The keys of rows that compare two times, see `benchmarks.harness.Row`."""


def main() -> None:
    PAGE.write_text(page(FOLDER))


def page(folder: Path) -> str:
    """The page for the programs of a folder and the results in its folder `results`."""
    programs = {path.stem: text for path in sorted(folder.glob("*.py")) if (text := _program(path))}
    results: dict[str, list[Path]] = {name: [] for name in programs}
    for path in sorted((folder / "results").glob("*.json")):
        owners = [name for name in programs if path.stem.startswith(name)]
        if owners:
            results[max(owners, key=len)].append(path)
    sections = [_section(name, programs[name], paths) for name, paths in results.items()]
    return "\n".join([HEAD, *sections])


def _program(path: Path) -> str:
    """The docstring of a file that can be run as a benchmark; '' for others."""
    source = path.read_text()
    is_report = path.stem == Path(__file__).stem
    return (
        "" if is_report or "__main__" not in source else ast.get_docstring(ast.parse(source)) or ""
    )


def _section(name: str, docstring: str, paths: Iterable[Path]) -> str:
    title, _, rest = docstring.partition("\n")
    described = rest.split("\n    python -m")[0].strip()
    parts = [f"## {title.rstrip('.')}", f"`python -m benchmarks.{name}`", described]
    measured = [_result(json.loads(path.read_text()), path.stem) for path in paths]
    parts += measured or ["Not measured."]
    return "\n\n".join(part for part in parts if part) + "\n"


def _result(content: Mapping[str, Any], name: str) -> str:
    machine = ", ".join(f"{key} {value}" for key, value in content["machine"].items())
    parts = [f"`results/{name}.json`: {machine}"]
    rows = content.get("rows", [])
    if rows and all(key in row for row in rows for key in COMPARED):
        parts.append(_compared(rows))
    elif rows:
        parts.append(_table([*rows[0]], [[_number(v) for v in row.values()] for row in rows]))
    for key, value in content.items():
        if key not in ("machine", "rows"):
            parts.append(_figures(key, value))
    return "\n\n".join(parts)


def _compared(rows: Iterable[Mapping[str, Any]]) -> str:
    heads = ["what", "shape", "threads", "ours", "peer", "peer's", "ratio", "bound"]
    cells = [
        [
            row["subject"],
            row["shape"],
            str(row["threads"]),
            _milliseconds(row["ours"]),
            row["peer"],
            _milliseconds(row["theirs"]),
            f"**{row['ratio']:.2f}**",
            f"{row['bound']}, {_milliseconds(row['bound_seconds'])}" if row.get("bound") else "",
        ]
        for row in rows
    ]
    return _table(heads, cells)


def _figures(name: str, value: Any) -> str:
    """A value, a list of them, or a table if it is one of tables."""
    title = name.replace("_", " ")
    if not isinstance(value, dict):
        return f"{title}: {_number(value)}"
    if not all(isinstance(inner, dict) for inner in value.values()):
        return _table([title, ""], [[key, _number(inner)] for key, inner in value.items()])
    heads = list(dict.fromkeys(key for inner in value.values() for key in inner))
    cells = [
        [key, *(_number(inner[head]) if head in inner else "" for head in heads)]
        for key, inner in value.items()
    ]
    return _table([title, *(head.replace("_", " ") for head in heads)], cells)


def _table(heads: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    heads = list(heads)
    lines = [heads, ["---"] * len(heads), *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def _milliseconds(seconds: float) -> str:
    milliseconds = 1000 * seconds
    return f"{milliseconds:.0f} ms" if milliseconds >= 100 else f"{milliseconds:.3g} ms"


def _number(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"
    return f"{value:,}" if isinstance(value, int) else str(value)


if __name__ == "__main__":
    main()
