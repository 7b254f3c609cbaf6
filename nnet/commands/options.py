"""Options that several commands share, and values of options."""

from __future__ import annotations

from typing import Annotated

from typer import Option

from nnet.errors import NnetError

CHAIN_FRAMES = "140,100,160"
"""Usual widths of chunks for LF-MMI."""

Binary = Annotated[str, Option(metavar="true|false", help="false: write in text form.")]
Text = Annotated[bool, Option("--text", help="Write in text form.")]
BinaryOrText = Annotated[
    str, Option(metavar="true|false", help="Kaldi's spelling: false is --text.")
]
OnlineIvectorPeriod = Annotated[int, Option(help="Frames from one online i-vector to the next.")]
LeftContext = Annotated[int, Option(help="Input frames before each chunk.")]
RightContext = Annotated[int, Option(help="Input frames after each chunk.")]
LeftContextInitial = Annotated[int, Option(help="At the start of an utterance; -1: as elsewhere.")]
RightContextFinal = Annotated[int, Option(help="At the end of an utterance; -1: as elsewhere.")]
FrameSubsamplingFactor = Annotated[int, Option(help="Input frames per output frame.")]
ChunkSeed = Annotated[int, Option(help="Seed of the chunks' places.")]
BatchnormTestMode = Annotated[
    str, Option(metavar="true|false", help="Use stored batch-norm statistics.")
]
DropoutTestMode = Annotated[str, Option(metavar="true|false", help="Switch dropout off.")]
DenominatorGraph = Annotated[
    str, Option(help="Denominator graph: the examples are for LF-MMI (nnet3-chain-egs).")
]
LeakyHmmCoefficient = Annotated[
    float, Option(help="LF-MMI: share that leaks from all states to all states.")
]
OutputPenalty = Annotated[float, Option(help="LF-MMI: penalty on squared outputs.")]
Implementations = Annotated[str, Option(help="Implementations: reference, native, triton or auto.")]
Ivectors = Annotated[str, Option(help="Rspecifier: one i-vector per utterance.")]
OnlineIvectors = Annotated[
    str, Option(help="Rspecifier: i-vectors estimated online, a matrix per utterance.")
]
Threads = Annotated[int, Option(help="CPU threads; 0: torch's default.")]


def truth(option: str, text: str) -> bool:
    """A boolean in Kaldi's spelling, `--binary=false`."""
    from nnet.text.values import BadValue, boolean

    try:
        return boolean(text)
    except BadValue as error:
        raise NnetError(f"wrong value '{text}' for '{option}', expected {error}") from None


def frame_counts(option: str, text: str) -> tuple[int, ...]:
    """Numbers of frames such as `150,110,100`."""
    try:
        return tuple(int(word) for word in text.split(","))
    except ValueError:
        raise NnetError(
            f"{option} is '{text}'; expected: frames, such as 150 or 150,110,100"
        ) from None


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
