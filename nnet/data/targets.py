"""Targets of training: alignments, posteriors or matrices, told apart by their content; phones."""

from __future__ import annotations

from enum import Enum
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nnet.data.errors import TableError
from nnet.data.matrices import Floats, begins_binary, read_binary_matrix, read_text_matrix
from nnet.data.phone_alignments import PhoneAlignment
from nnet.data.posteriors import Ids, Posterior, read_binary_items, read_text_items
from nnet.data.streams import ByteReader

Target = Posterior | PhoneAlignment | NDArray[Any]
LENGTH_TOLERANCE = 2  # Kaldi's --targets-length-tolerance, in output frames


class TargetKind(Enum):
    """What a table of targets holds; the value is how messages call it."""

    ALIGNMENT = "alignments (one integer a frame)"
    POSTERIOR = "posteriors (ids with weights at each frame)"
    MATRIX = "matrices (a row of numbers a frame)"
    PHONES = "phones with their lengths"

    @staticmethod
    def of(target: Target) -> TargetKind:
        if isinstance(target, Posterior):
            return TargetKind.POSTERIOR
        if isinstance(target, PhoneAlignment):
            return TargetKind.PHONES
        return TargetKind.MATRIX if target.ndim == 2 else TargetKind.ALIGNMENT


def read_target(reader: ByteReader) -> Target:
    """Reads one utterance's targets, whichever of the three kinds they are.

    In text a matrix begins with a bracket at the end of the line, a posterior with a bracket and
    numbers on the same line.
    """
    if begins_binary(reader):
        is_items = reader.peek() == b"\4"
        return read_binary_items(reader) if is_items else read_binary_matrix(reader)
    line = reader.line()
    if line.strip() == b"[":
        return read_text_matrix(reader, line)
    return read_text_items(reader, line)


def unify(target: Target, kind: TargetKind) -> Target:
    """`target` as one of `kind`: zeros alone may be an alignment or a posterior without pairs."""
    is_zeros = isinstance(target, np.ndarray) and target.ndim == 1 and not target.any()
    if kind is TargetKind.POSTERIOR and is_zeros:
        return Posterior.of([[]] * len(target))
    return target


def check_target(table: str, utterance: str, target: Target, kind: TargetKind, dim: int) -> None:
    """Raises TableError unless `target` is of `kind` and fits a network output of `dim`."""
    found = TargetKind.of(target)
    if found is not kind:
        raise TableError(
            table,
            f"found {found.value}",
            utterance=utterance,
            expected=f"{kind.value}, as for the utterances before",
        )
    if isinstance(target, PhoneAlignment):
        return
    if isinstance(target, Posterior):
        _check_ids(table, utterance, target.ids, dim, target)
        _check_finite(table, utterance, target.weights[:, None], "posterior weight")
    elif target.ndim == 1:
        _check_ids(table, utterance, target, dim, None)
    else:
        _check_matrix(table, utterance, target, dim)


def check_features(table: str, utterance: str, features: Floats, what: str = "feature") -> None:
    """Raises TableError if a number is not finite, naming frame and column."""
    _check_finite(table, utterance, features, what)


def frames_per_target(frames: int, targets: int, subsampling: int) -> int | None:
    """How many input frames one target stands for: 1, the subsampling factor, or None (no fit).

    Targets may come at the rate of the features or at that of the network's output; both lengths
    may be off by Kaldi's tolerance of 2.
    """
    if abs(frames - targets) <= LENGTH_TOLERANCE:
        return 1
    if abs(-(-frames // subsampling) - targets) <= LENGTH_TOLERANCE:
        return subsampling
    return None


def _check_ids(table: str, utterance: str, ids: Ids, dim: int, posterior: Posterior | None) -> None:
    wrong = np.flatnonzero((ids < 0) | (ids >= dim))
    if not wrong.size:
        return
    place = int(wrong[0])
    frame = place
    if posterior is not None:
        frame = int(np.searchsorted(posterior.offsets, place, side="right")) - 1
    raise TableError(
        table,
        f"frame {frame} has the target {ids[place]}",
        utterance=utterance,
        expected=f"0 to {dim - 1}, because the network's output has dimension {dim}",
        hint="give the output layer the number of targets as its dim; targets are pdf-ids, and not "
        "phones from 1; for transition-ids (Kaldi's ali.*.gz) give their model as --ali-model",
    )


def _check_matrix(table: str, utterance: str, target: Floats, dim: int) -> None:
    if target.shape[1] != dim:
        raise TableError(
            table,
            f"the targets have dimension {target.shape[1]}",
            utterance=utterance,
            expected=f"{dim}, the dimension of the network's output",
        )
    _check_finite(table, utterance, target, "target")


def _check_finite(table: str, utterance: str, values: Floats, what: str) -> None:
    if np.isfinite(values).all():
        return
    frame, column = (int(n) for n in np.argwhere(~np.isfinite(values))[0])
    raise TableError(
        table,
        f"{what} {values[frame, column]} at frame {frame}, column {column}",
        utterance=utterance,
        expected="finite numbers",
        hint="make the table again, or leave the utterance out",
    )
