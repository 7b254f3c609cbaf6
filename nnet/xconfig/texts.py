"""The files that an expanded xconfig is written to, as text."""

from __future__ import annotations

from nnet.text.syntax import File
from nnet.text.write import write_file
from nnet.xconfig.expansion import Expansion
from nnet.xconfig.fixed import Matrix

_HEADERS = {
    "init.config": "The part in front of a matrix that is estimated from the part's output.",
    "ref.config": "The network, random numbers in place of such a matrix; its context is in vars.",
    "final.config": "The network.",
    "xconfig.expanded.1": "Its layers with all their options.",
    "xconfig.expanded.2": "Its layers with all their options and the names of what they read.",
}


def config_texts(expansion: Expansion) -> dict[str, str]:
    """File names and contents, as Kaldi's xconfig_to_configs.py names and writes them.

    `init.config` is there only where the xconfig has a transform that is estimated from data.
    """
    files: dict[str, File | None] = {
        "init.config": expansion.init,
        "ref.config": expansion.ref,
        "final.config": expansion.final,
        "xconfig.expanded.1": expansion.expanded1,
        "xconfig.expanded.2": expansion.expanded2,
    }
    return {name: _text(name, file) for name, file in files.items() if file is not None}


def _text(name: str, file: File) -> str:
    empty = "" if name.startswith("xconfig") else '""'
    source = file.source.name.replace("\n", " ")
    header = f"# Made from {source} by nnet xconfig.\n# {_HEADERS[name]}\n\n"
    return header + write_file(file, empty=empty)


def matrix_text(matrix: Matrix) -> str:
    """A matrix as a Kaldi text file, numbers with all their digits."""
    return "[ " + "\n".join(" ".join(map(str, row)) for row in matrix) + " ]"
