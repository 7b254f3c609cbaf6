"""Options that several commands share, and values of options."""

from __future__ import annotations

from typing import Annotated

from nnet.errors import NnetError
from nnet.options import Option, given

Binary = Annotated[bool, Option("false: write in text form.")]
Text = Annotated[bool, Option("Write in text form.")]
BinaryOrText = Annotated[bool, Option("Kaldi's spelling: false is --text.")]
BatchnormTestMode = Annotated[bool, Option("Use stored batch-norm statistics.")]
DropoutTestMode = Annotated[bool, Option("Switch dropout off.")]
DenominatorGraph = Annotated[
    str, Option("Denominator graph: the examples are for LF-MMI (nnet3-chain-egs).")
]
NetworkSeed = Annotated[
    int, Option("Seed of the random numbers for --nnet-config.", applies=given("nnet_config"))
]


def table_dim(rspecifier: str) -> int:
    """The dimension of the first vector or matrix of a table; 0 without a table."""
    from nnet.data.matrices import read_vector_or_matrix
    from nnet.data.specifiers import parse_rspecifier
    from nnet.data.tables import read_table

    if not rspecifier:
        return 0
    if parse_rspecifier(rspecifier).path == "-":
        raise NnetError(f"{rspecifier}: this table is read twice; expected: a file or a command")
    for _, values in read_table(rspecifier, read_vector_or_matrix):
        return int(values.shape[-1])
    raise NnetError(f"{rspecifier}: the table is empty")
