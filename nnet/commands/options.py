"""Values of options that several commands share."""

from __future__ import annotations

from nnet.errors import NnetError


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
