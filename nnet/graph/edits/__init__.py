"""Edits of a network: nnet3's edits-config, a directive a line (ReadEditConfig in Kaldi).

A directive is one class in one of this folder's files, registered by its word.
"""

from __future__ import annotations

from nnet.errors import NnetError
from nnet.graph.check import check_network
from nnet.graph.edits import nodes, rank, settings  # noqa: F401  (they register their directives)
from nnet.graph.edits.directive import EditError, read_directive
from nnet.graph.network import Network
from nnet.text.parse import parse_config
from nnet.text.source import TextError
from nnet.text.syntax import File, Line


def edit(network: Network, text: str, name: str = "<edits>") -> Network:
    """The network after the edits of a short text, whose lines may be separated by `;`.

    See `apply_edits`.
    """
    return apply_edits(network, parse_config(text.replace(";", "\n"), name))


def apply_edits(network: Network, file: File) -> Network:
    """The network after the edits of a file, each applied to what the one before made.

    The given network's components may be changed in place. What was done is logged; a pattern
    that matches nothing is a warning.

    Raises:
        TextError: an unknown directive or key, a wrong value, or a network that is not valid; it
            points at the directive.
    """
    for line in file.lines:
        directive = read_directive(line)
        try:
            network = directive.apply(network)
            check_network(network)
        except NnetError as error:
            raise _at(line, error) from None
    return network


def _at(line: Line, error: NnetError) -> TextError:
    """The error of a directive, pointing at its line in the edits."""
    if isinstance(error, EditError):
        setting = line.get(error.key)
        if setting is not None:
            span, name = setting.value_span, setting.value
            return TextError(span, str(error), name=name, names=error.names)
    message = error.message if isinstance(error, TextError) else str(error)
    return TextError(line.span, message)
