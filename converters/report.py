"""What a conversion did, as a table."""

from __future__ import annotations

from collections.abc import Sequence

from nnet.converters.convert import Converted

SHOWN_NODES = 3
LARGEST_ERROR = 1e-5
"""Above this relative error of a part, the conversion is called wrong."""

HEADINGS = ("source component", "nodes", "parameters", "error")


def report(converted: Converted, errors: Sequence[float] | None = None) -> str:
    """A row for each source component, and what there is to know about the result.

    Args:
        errors: relative errors of the parts (`nnet.converters.checking.part_errors`), if checked.
    """
    rows = [HEADINGS if errors is not None else HEADINGS[:-1]]
    for number, part in enumerate(converted.parts):
        row = (part.source, _shown(part.nodes), str(part.parameters))
        rows.append((*row, f"{errors[number]:.1e}") if errors is not None else row)
    lines = _table(rows)
    for part in converted.parts:
        lines += [f"{part.source}: {note}" for note in part.notes]
    lines += _summary(converted)
    return "\n".join(lines) + "\n"


def _shown(nodes: Sequence[str]) -> str:
    """The names of nodes, many shortened."""
    if not nodes:
        return "(in a descriptor)"
    if len(nodes) <= SHOWN_NODES:
        return ", ".join(nodes)
    return f"{', '.join(nodes[: SHOWN_NODES - 1])}, ... {nodes[-1]} ({len(nodes)})"


def _table(rows: Sequence[Sequence[str]]) -> list[str]:
    """Rows in columns, numbers to the right; a rule below the headings."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = []
    for row in rows:
        texts = zip(row, widths, strict=True)
        cells = [f"{t:<{w}}" if n < 2 else f"{t:>{w}}" for n, (t, w) in enumerate(texts)]
        lines.append("  ".join(cells).rstrip())
    return [lines[0], "  ".join("-" * width for width in widths), *lines[1:]]


def _summary(converted: Converted) -> list[str]:
    network = converted.model.network
    parameters = sum(part.parameters for part in converted.parts)
    lines = [
        f"{converted.source.kind}: {len(converted.parts)} components became "
        f"{len(network.components)} with {parameters} parameters"
    ]
    if converted.logarithm:
        lines.append(
            "the output is the logarithm of the source's: log-posteriors, without the legacy "
            "programs' floor at log(1e-20) = -46.1"
        )
    if converted.whole_utterances:
        lines.append(
            "the source sees whole utterances: compute with --frames-per-chunk as long as the "
            "longest of them"
        )
    if converted.own_components:
        lines.append(f"not loadable by Kaldi: {', '.join(converted.own_components)}")
    else:
        lines.append("loadable by Kaldi")
    return lines
